"""What a figure is, and how it is measured: alternated with its limit in the same run, medians, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = ["AT_LEAST", "AT_MOST", "Bench", "Row", "Sample", "alternate", "cost", "make_row", "median", "values"]

AT_LEAST = ">="
AT_MOST = "<="
SERVER = "the server"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: a rate, a time or a size, and the seconds of server CPU for one operation if known."""

    value: float
    cpu: float | None = None


@dataclass(slots=True)
class Row:
    """A line of the table. `ratio` is what a target and the guard are about: ours / limit, median of the rounds."""

    key: str
    title: str
    unit: str
    ours: float
    limit: float | None = None
    limit_name: str = ""
    ratio: float | None = None
    sense: str = AT_LEAST
    target: float | None = None
    low: float | None = None
    high: float | None = None
    cpu: float | None = None
    raw_cpu: float | None = None
    note: str = ""
    group: str = SERVER
    guarded: bool = True
    """Whether the guard compares the ratio with the committed one: it is off where a round is too short for that."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio >= self.target if self.sense == AT_LEAST else self.ratio <= self.target


@dataclass(slots=True)
class Bench:
    """The options of a run and where it keeps its files. `say` tells the progress."""

    directory: Path
    repeats: int = 5
    seconds: float = 2.0
    quick: bool = False
    say: Callable[[str], None] = print
    notes: list[str] = field(default_factory=list)
    """What was skipped and why."""
    failures: list[str] = field(default_factory=list)
    """Which figures could not be measured that should have been, and why."""
    _made: int = 0

    def scaled(self, full: int, quick: int) -> int:
        """Return a number of operations for this kind of run."""
        return quick if self.quick else full

    def data(self) -> Path:
        """Return a new data directory."""
        self._made += 1
        path = self.directory / f"data-{self._made}"
        path.mkdir()
        return path


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def values(samples: Sequence[Sample]) -> list[float]:
    """Return the values."""
    return [sample.value for sample in samples]


class Measured(Protocol):
    """What uses CPU: a process."""

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        ...


async def cost(process: Measured, work: Callable[[], Awaitable[tuple[float, int]]]) -> Sample:
    """Measure `work`, which returns its value and how many operations it did."""
    before = process.cpu()
    value, operations = await work()
    return Sample(value, (process.cpu() - before) / max(1, operations))


Measure = Callable[[], Awaitable[Sample]]


async def alternate(bench: Bench, name: str, measures: dict[str, Measure]) -> dict[str, list[Sample]]:
    """Measure each in turn, `repeats` times, every other round backwards, so that drift hits all alike."""
    samples: dict[str, list[Sample]] = {key: [] for key in measures}
    for round_number in range(bench.repeats):
        order = list(measures)
        if round_number % 2:
            order.reverse()
        for key in order:
            bench.say(f"{name}: round {round_number + 1} of {bench.repeats}, {key}")
            samples[key].append(await measures[key]())
    return samples


def make_row(
    key: str,
    title: str,
    unit: str,
    ours: Sequence[Sample],
    limits: Sequence[float],
    *,
    limit_name: str,
    raw: Sequence[Sample] = (),
    sense: str = AT_LEAST,
    target: float | None = None,
    note: str = "",
    group: str = SERVER,
    guarded: bool = True,
) -> Row:
    """Return the line of a figure from its rounds: `limits` is the limit of each round."""
    ratios = [sample.value / limit for sample, limit in zip(ours, limits, strict=True)]
    cpus = [sample.cpu for sample in ours if sample.cpu is not None]
    raw_cpus = [sample.cpu for sample in raw if sample.cpu is not None]
    return Row(
        key,
        title,
        unit,
        median([sample.value for sample in ours]),
        median(limits),
        limit_name,
        median(ratios),
        sense,
        target,
        min(ratios),
        max(ratios),
        median(cpus) if cpus else None,
        median(raw_cpus) if raw_cpus else None,
        note,
        group,
        guarded,
    )
