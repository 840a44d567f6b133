"""What callers ask of the runs, in domain types: no wire format."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stepwire.server.runs.errors import Violation
from stepwire.server.runs.hosting.commits.delta import Parts
from stepwire.server.runs.limits import MAX_ID, MAX_TIMEOUT, check_labels, check_length, refuse
from stepwire.server.runs.origin import Origin
from stepwire.server.store import RunRecord

_RUN_ID = re.compile(rf"[A-Za-z0-9._:\-]{{1,{MAX_ID}}}")


class SnapshotData(NamedTuple):
    """A snapshot: facts of its run, and its parts.

    `at` is the time of its commit, in seconds since the epoch.
    """

    workflow: str
    version: str
    run_id: str
    sequence: int
    at: float
    parts: Parts


class Parent(NamedTuple):
    """The run that has started a run, as the record of the child says.

    Attributes:
        run_id: Its id.
        step: The step that started the child.
        delivery: The delivery of that step.
        close: What becomes of the child when the parent ends first: `cancel` or `abandon`.
        chain: The workflows of the parent and of those above it, the outermost first.
    """

    run_id: str
    step: str
    delivery: int
    close: str
    chain: tuple[str, ...]

    def saved(self) -> dict[str, Any]:
        """Return it as a record holds it."""
        return {
            "run_id": self.run_id,
            "step": self.step,
            "delivery": self.delivery,
            "close": self.close,
            "chain": list(self.chain),
        }


@dataclass(slots=True, kw_only=True)
class StartRequest:
    """Start a run: from an input, from a snapshot, or from a run of this server.

    Attributes:
        workflow: The name of the workflow.
        input: The JSON of the start event; None when the request has none.
        run_id: The id that the run shall have; empty for one of the server's choice.
        use_existing: Whether to return the run that has this run_id, if there is one.
        request_id: Repeats under this id return the run that the first request started.
        labels: The labels of the run.
        snapshot: The snapshot to start from.
        from_run: The run_id and the sequence to start from.
        timeout: Seconds until the run times out; None for the workflow's own timeout.
        trace: The trace context of the caller. It is kept with the run.
        fresh: Whether a run that goes on from a snapshot has its whole retry budgets and its whole timeout.
        retry: Whether the run retries the one of `snapshot`.
        origin: The schedule that starts it; None if none does.
        state: What the state of the run begins with, for a workflow of the server itself; None for any other.
        parent: The run whose step starts it; None for a call.
    """

    workflow: str
    input: bytes | None = None
    run_id: str = ""
    use_existing: bool = False
    request_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    snapshot: SnapshotData | None = None
    from_run: tuple[str, int] | None = None
    timeout: float | None = None
    trace: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    retry: bool = False
    origin: Origin | None = None
    state: Mapping[str, Any] | None = None
    parent: Parent | None = None

    def check(self) -> None:
        """Check every field but the payload.

        Raises:
            InvalidError: INVALID_REQUEST, with every field that is wrong.
        """
        violations: list[Violation] = []
        if not self.workflow:
            violations.append(Violation("workflow", "is required"))
        if self.run_id and not _RUN_ID.fullmatch(self.run_id):
            violations.append(Violation("run_id", f"must be 1 to {MAX_ID} of letters, digits and ._:-"))
        violations += check_length("request_id", self.request_id)
        if self.labels:
            violations += check_labels(self.labels)
        if self.timeout is not None and not (0 < self.timeout <= MAX_TIMEOUT or self.timeout == math.inf):
            violations.append(Violation("timeout", f"must be positive and at most {MAX_TIMEOUT:.0f} seconds"))
        refuse(violations)


class WaitResult(NamedTuple):
    """The record of a run that a caller waited for, and whether the wait timed out first."""

    record: RunRecord
    timed_out: bool
