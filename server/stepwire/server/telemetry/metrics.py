"""The numbers that a server counts as it works. `prometheus` reads them at each scrape.

An addition costs a fraction of a microsecond: it takes no lock and looks up no labels. All additions happen on the
event loop. A reader on another thread may see the count of an addition before its sum, which a scrape tolerates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Histogram", "Labels", "LoopMetrics", "Metrics", "Reading", "RpcMetrics", "StoreMetrics", "WorkflowMetrics"]

Labels = tuple[str, ...]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STEP_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 3600.0)
COMMIT_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
ITEMS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Histogram:
    """Count values in buckets: a value belongs to the smallest bound that is not below it."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bound, not cumulated; the last bucket is for values above all bounds."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Reading(NamedTuple):
    """One value of a metric at a scrape."""

    name: str
    labels: Labels
    value: float | Histogram


class RpcMetrics:
    """The calls of one method."""

    __slots__ = ("codes", "seconds")

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        """Ended calls by the number of their status code."""
        self.seconds = Histogram(SECONDS)

    def done(self, code: int, seconds: float) -> None:
        """Count a call that has ended."""
        self.codes[code] += 1
        self.seconds.observe(seconds)


class WorkflowMetrics:
    """The runs of one workflow."""

    __slots__ = ("finished", "started", "steps", "unfinished")

    def __init__(self) -> None:
        self.started = 0
        self.finished: Counter[str] = Counter()
        """Runs that ended since this process started, by status."""
        self.unfinished: Counter[str] = Counter()
        """Runs that have not ended, in memory or not, by status."""
        self.steps: dict[tuple[str, str], Histogram] = {}
        """How long step bodies took, by step and outcome."""

    def moved(self, before: str | None, after: str, *, ended: bool) -> None:
        """Count a run that went from one status to another; `before` is None for a new run."""
        if before is None:
            self.started += 1
        else:
            self.unfinished[before] -= 1
        if ended:
            self.finished[after] += 1
        else:
            self.unfinished[after] += 1

    def step(self, step: str, outcome: str, seconds: float) -> None:
        """Count an execution of a step that has ended."""
        histogram = self.steps.get((step, outcome))
        if histogram is None:
            histogram = self.steps[step, outcome] = Histogram(STEP_SECONDS)
        histogram.observe(seconds)


class StoreMetrics:
    """The writing of the store."""

    __slots__ = ("failures", "items", "queued", "resends", "seconds")

    def __init__(self) -> None:
        self.seconds = Histogram(COMMIT_SECONDS)
        """From when a commit was handed over until the event loop learned that it is durable."""
        self.items = Histogram(ITEMS)
        """Commits and other jobs per transaction."""
        self.failures = 0
        """Transactions that failed."""
        self.resends = 0
        """Groups of commits that were sent again after a lost connection."""
        self.queued = 0
        """Commits and other jobs that were handed over and are not done."""


class LoopMetrics:
    """How quickly the event loop answers, and what blocked it."""

    __slots__ = ("blocked", "blocks", "lag")

    def __init__(self) -> None:
        self.blocks: Counter[tuple[str, str]] = Counter()
        """Blocks by workflow and step."""
        self.blocked: defaultdict[tuple[str, str], float] = defaultdict(float)
        """Seconds of these blocks by workflow and step."""
        self.lag = Histogram(SECONDS)


class Metrics:
    """All numbers of one server."""

    def __init__(self) -> None:
        self.rpcs: dict[str, RpcMetrics] = {}
        self.workflows: dict[str, WorkflowMetrics] = {}
        self.due_times: Counter[tuple[str, str]] = Counter()
        """Due times of schedules by workflow and outcome."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Refused calls and frames by kind (limit, credential, scope) and label (which limit, why, which scope)."""
        self.streams_ended: Counter[str] = Counter()
        """Streams that this server ended, by reason."""
        self.counts_all = True
        """Whether `unfinished` of the workflows counts the runs of all replicas; one replica does."""
        self.forwards: Counter[str] = Counter()
        """Calls that were passed on to other replicas, by outcome."""
        self.relays = 0
        """Open streams that such calls go on."""
        self.store = StoreMetrics()
        self.loop = LoopMetrics()
        self.loaded = 0
        """Runs brought into memory from the store."""
        self.released = 0
        """Waiting runs that left memory."""

    def rpc(self, method: str) -> RpcMetrics:
        """Return the metrics of a served method."""
        return self.rpcs.setdefault(method, RpcMetrics())

    def count_due(self, workflow: str, outcome: str, number: int) -> None:
        """Count due times of schedules."""
        self.due_times[workflow, outcome] += number

    def workflow(self, name: str) -> WorkflowMetrics:
        """Return the metrics of a workflow."""
        found = self.workflows.get(name)
        if found is None:
            found = self.workflows[name] = WorkflowMetrics()
        return found
