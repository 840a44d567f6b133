"""Measure a figure in turn with its limit, in the same run, and make a row of the rounds' medians and ratios."""

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.serving import ROOT

Work = Callable[[], Awaitable[tuple[float, int]]]
"""Does what is measured; returns the value (a rate, or seconds) and the number of operations."""
Cpu = Callable[[], float] | None
"""Returns the seconds of CPU that a process, or several, have used; None where they do not matter."""
Works = Mapping[str, tuple[Cpu, Work]]
"""What is measured in turn, by name."""


class Sample(NamedTuple):
    """One measurement: a rate, a time or a size, and the seconds of server CPU for one operation if known."""

    value: float
    cpu: float | None = None


class Skipped(Exception):
    """A figure cannot be measured here; says what is missing."""


@dataclass(slots=True)
class Row:
    """A line of the table: a figure beside its limit, medians of the rounds.

    Attributes:
        unit: `s` and `B` are to be low; everything else is a rate, which is to be high.
        ratio: What target and guard are about: ours / limit.
        low: The lowest ratio of a round; None for a figure of one round. `high` is the highest.
        target: The ratio to reach.
        cpu: Seconds of the server's CPU for one operation, if known. `raw_cpu` is that of the limit.
        guarded: Whether the guard compares the ratio with the committed one; off where one round says too little.
    """

    key: str
    title: str
    unit: str
    limit_name: str
    ours: float
    limit: float
    ratio: float
    low: float | None
    high: float | None
    cpu: float | None = None
    raw_cpu: float | None = None
    target: float | None = None
    note: str = ""
    group: str = "the server"
    guarded: bool = True

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


def row(key: str, title: str, unit: str, limit_name: str, ours: Rounds, limits: Rounds, **more: Any) -> Row:
    """Return the line of a figure from its rounds and those of its limit."""
    mine = [Sample(ours)] if isinstance(ours, float | int) else ours
    theirs = [Sample(limits)] * len(mine) if isinstance(limits, float | int) else limits
    ratios = [sample.value / limit.value for sample, limit in zip(mine, theirs, strict=True)]
    low, high = (min(ratios), max(ratios)) if len(ratios) > 1 else (None, None)
    values = median(sample.value for sample in mine), median(sample.value for sample in theirs), median(ratios)
    return Row(key, title, unit, limit_name, *values, low, high, _cpu(mine), _cpu(theirs), **more)


def _cpu(samples: Sequence[Sample]) -> float | None:
    known = [sample.cpu for sample in samples if sample.cpu is not None]
    return median(known) if known else None


@dataclass(slots=True)
class Bench:
    """The options of a run and where it keeps its files. `say` tells the progress, `notes` what was skipped and why.

    `beside` is another checkout, with its own .venv, whose server and engine are measured in the same rounds.
    """

    directory: Path
    repeats: int = 5
    seconds: float = 2.0
    quick: bool = False
    beside: Path | None = None
    say: Callable[[str], None] = print
    notes: list[str] = field(default_factory=list)

    def scaled(self, full: int, quick: int) -> int:
        """Return a number of operations for this kind of run."""
        return quick if self.quick else full

    def data(self) -> Path:
        """Return a new data directory."""
        return Path(tempfile.mkdtemp(dir=self.directory))


Figure = Callable[[Bench], AsyncIterator[Row]]
"""Measures one thing, or what one set-up allows; raises Skipped."""


async def cost(cpu: Cpu, work: Work) -> Sample:
    """Do the work; return its value and the CPU that was used for each operation."""
    before = cpu() if cpu else 0.0
    value, operations = await work()
    return Sample(value, (cpu() - before) / max(1, operations) if cpu else None)


def cpus(samples: Sequence[Sample]) -> list[Sample]:
    """Return the CPU of an operation as the value."""
    return [Sample(sample.cpu or 0.0) for sample in samples]


async def alternate(bench: Bench, title: str, works: Works, rounds: int = 0) -> dict[str, list[Sample]]:
    """Do each work in turn, `rounds` times (or `bench.repeats`), every other round backwards: drift hits all alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in works}
    rounds = rounds or bench.repeats
    for number in range(rounds):
        for name in reversed(list(works)) if number % 2 else works:
            bench.say(f"{title}: round {number + 1} of {rounds}, {name}")
            samples[name].append(await cost(*works[name]))
    return samples


async def output(seconds: float, *command: str | Path) -> str:
    """Run a program and return what it prints. RuntimeError when it fails, or takes longer than that."""
    run = partial(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    try:
        done = await asyncio.to_thread(run)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {seconds:g} s") from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    return str(done.stdout)
