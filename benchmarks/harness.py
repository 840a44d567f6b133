"""Measure a figure in turn with its limit, in the same run, and make a row of the rounds' medians and ratios."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

from tests.serving import ROOT

SERVER = "the server"
WEB = "the web beside gRPC, one server with its runs in memory"
ENGINE = "the engine in process"
PEER = "beside the peer, each by its own Python client"

Work = Callable[[], Awaitable[tuple[float, int]]]
"""Does what is measured; returns the value (a rate, or seconds) and the number of operations."""


class Sample(NamedTuple):
    """One measurement: a rate, a time or a size, and the seconds of server CPU for one operation if known."""

    value: float
    cpu: float | None = None


Measure = Callable[[], Awaitable[Sample]]


class Skipped(Exception):
    """A figure cannot be measured here; says what is missing."""


@dataclass(slots=True)
class Row:
    """A line of the table: a figure beside its limit, medians of the rounds."""

    key: str
    title: str
    unit: str
    """`s` and `B` are to be low; everything else is a rate, which is to be high."""
    limit_name: str
    ours: float
    limit: float
    ratio: float
    """What target and guard are about: ours / limit."""
    low: float | None
    high: float | None
    """The lowest and highest ratio of a round; None for a figure of one round."""
    target: float | None = None
    """The ratio to reach."""
    cpu: float | None = None
    raw_cpu: float | None = None
    """Seconds of the server's CPU for one operation, and of the raw server's, if known."""
    note: str = ""
    group: str = SERVER
    guarded: bool = True
    """Whether the guard compares the ratio with the committed one; off where one round says too little."""

    @property
    def high_is_good(self) -> bool:
        """Whether a higher ratio is better."""
        return self.unit not in ("s", "B")

    @property
    def reach(self) -> float:
        """How much better than its target it is, 1 at the target or without one."""
        if self.target is None:
            return 1.0
        return self.ratio / self.target if self.high_is_good else self.target / max(self.ratio, 1e-9)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.reach >= 1


Rounds = Sequence[Sample] | float
"""The rounds of a figure, or the one value of a figure that is measured once, or of a limit that is none."""


def row(
    key: str,
    title: str,
    unit: str,
    limit_name: str,
    ours: Rounds,
    limits: Rounds,
    raw: Sequence[Sample] = (),
    **more: Any,
) -> Row:
    """Return the line of a figure from its rounds, those of its limit, and those of the raw server for the CPU."""
    mine = [Sample(ours)] if isinstance(ours, float | int) else ours
    theirs = [Sample(limits)] * len(mine) if isinstance(limits, float | int) else limits
    ratios = [sample.value / limit.value for sample, limit in zip(mine, theirs, strict=True)]
    low, high = (min(ratios), max(ratios)) if len(ratios) > 1 else (None, None)
    values = median(sample.value for sample in mine), median(sample.value for sample in theirs), median(ratios)
    return Row(key, title, unit, limit_name, *values, low, high, cpu=_cpu(mine), raw_cpu=_cpu(raw), **more)


def _cpu(samples: Sequence[Sample]) -> float | None:
    known = [sample.cpu for sample in samples if sample.cpu is not None]
    return median(known) if known else None


@dataclass(slots=True)
class Bench:
    """The options of a run and where it keeps its files. `say` tells the progress."""

    directory: Path
    repeats: int = 5
    seconds: float = 2.0
    quick: bool = False
    beside: Path | None = None
    """Another checkout, with its own .venv, whose server and engine are measured in the same rounds."""
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


class UsesCpu(Protocol):
    """A process, or several."""

    @property
    def cpu(self) -> Callable[[], float]:
        """Returns the seconds of CPU that it has used."""


async def cost(process: UsesCpu, work: Work) -> Sample:
    """Do the work; return its value and the CPU that the process used for each operation."""
    before = process.cpu()
    value, operations = await work()
    return Sample(value, (process.cpu() - before) / max(1, operations))


def cpus(samples: Sequence[Sample]) -> list[Sample]:
    """Return the CPU of an operation as the value."""
    return [Sample(sample.cpu or 0.0) for sample in samples]


async def output(seconds: float, *command: str | Path) -> str:
    """Run a program and return what it prints. RuntimeError when it fails, or takes longer than that."""
    run = partial(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    try:
        done = await asyncio.to_thread(run)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {seconds:g} s") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(last[0] if last else f"exit code {done.returncode}")
    return str(done.stdout)


async def alternate(
    bench: Bench, name: str, measures: Mapping[str, Measure], rounds: int = 0
) -> dict[str, list[Sample]]:
    """Measure each in turn, `rounds` times (or `bench.repeats`), every other round backwards: drift hits all alike."""
    samples: dict[str, list[Sample]] = {key: [] for key in measures}
    rounds = rounds or bench.repeats
    for number in range(rounds):
        for key in reversed(list(measures)) if number % 2 else measures:
            bench.say(f"{name}: round {number + 1} of {rounds}, {key}")
            samples[key].append(await measures[key]())
    return samples
