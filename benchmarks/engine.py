"""Figures of the engine in process, beside a bare asyncio loop, and the same of llama-index-workflows."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import ENGINE, Bench, Row, Skipped, row
from benchmarks.peers import HERE, peer, run_json
from benchmarks.servers import BEFORE

SECONDS, PEER_SECONDS = 300.0, 60.0
FLAT = 1.2
"""What counts as flat or linear: a larger size costs at most this much more for each operation."""
PARKED, KEPT = 8 * 1024, 4
"""Bytes that a parked run may take; bytes for an event that count as 0: what an interpreter's own tables do."""
PEERS = (("workflows-1.0.1", "llama-index-workflows==1.0.1"), ("workflows-newest", "llama-index-workflows"))

TIMED = (
    # case, title, limit, (full, quick) size, those of growth, the bound on ours / bare of a time
    ("chain", "a step of a chain", "bare tasks", (2_000, 2_000), (50_000, 10_000), 2.5),
    ("fan_out", "fan-out over 8 workers, collected, an event", "bare tasks", (1_000, 1_000), (20_000, 4_000), 4.0),
    ("trivial", "a trivial run, one after the other", "bare tasks", (2_000, 1_000), None, 1 / 0.2),
    ("stream", "stream write and read, an event", "asyncio.Queue", (50_000, 20_000), None, 1 / 0.6),
)


class Engine(NamedTuple):
    """An engine: the interpreter and the package that it is in."""

    bench: Bench
    name: str
    python: str | Path
    package: str = "stepwire.workflow"
    seconds: float = SECONDS

    async def measure(self, case: str, size: int) -> dict[str, Any]:
        """Return what `peer/engine.py` measures of a case, in a process of its own. RuntimeError."""
        self.bench.say(f"engine: {case}, {size:,}, {self.name}")
        return dict(await run_json(self.seconds, self.python, HERE / "engine.py", self.package, case, str(size)))


_row = partial(row, group=ENGINE)


def _timed(case: str, title: str, limit: str, size: int, found: dict[str, Any], **more: Any) -> Row:
    timed = _row(f"engine_{case}", f"{title} ({size:,})", "s", limit, found["ours"], found["bare"], **more)
    return replace(timed, ratio=found["ratio"])


def _parked(found: dict[str, Any], **more: Any) -> Row:
    return _row("engine_parked", "memory of a parked run", "B", "8 KiB", found["bytes"], PARKED, **more)


async def engine(bench: Bench) -> list[Row]:
    """Measure the engine, then the same cases at their small sizes of the peers."""
    rows = await _engine(bench)
    for folder, requirement in PEERS:
        try:
            found = await peer(bench, folder, requirement)
            rows += await _peer(bench, Engine(bench, found.name, found.python, "workflows", PEER_SECONDS))
        except Skipped as missing:
            bench.notes.append(str(missing))
    return rows


async def _engine(bench: Bench) -> list[Row]:
    ours = Engine(bench, "Stepwire", sys.executable)
    rows: list[Row] = []
    for case, title, limit, sizes, grown, bound in TIMED:
        key, size = f"engine_{case}", bench.scaled(*sizes)
        small = await ours.measure(case, size)
        rows.append(_timed(case, title, limit, size, small, target=bound))
        # What follows are ratios of ratios: each beside the bare loop of its own process.
        if bench.beside:
            found = await Engine(bench, BEFORE, bench.beside / ".venv/bin/python").measure(case, size)
            told, both = f"{title}, beside {bench.beside.name}", (small["ours"], found["ours"])
            beside = _row(f"{key}_beside", told, "s", BEFORE, *both, guarded=False)
            rows.append(replace(beside, ratio=small["ratio"] / found["ratio"]))
        if grown:
            large = await ours.measure(case, bench.scaled(*grown))
            told, same = f"{title}: {bench.scaled(*grown):,} beside {size:,}", f"the same at {size:,}"
            growth = _row(f"{key}_growth", told, "s", same, large["ours"], small["ours"], target=FLAT)
            rows.append(replace(growth, ratio=large["ratio"] / small["ratio"]))
    count = bench.scaled(50_000, 5_000)
    few, many = await ours.measure("snapshot", 50), await ours.measure("snapshot", count)
    for what, word, unit in (("seconds", "time", "s"), ("bytes", "size", "B")):
        title = f"to_dict after {count:,} events, {word}"
        rows.append(_row(f"engine_snapshot_{what}", title, unit, "after 50 events", many[what], few[what], target=FLAT))
    rows.append(_parked(await ours.measure("parked", bench.scaled(2_000, 500)), target=1.0))
    passed = max(0.0, (await ours.measure("passed", count))["bytes"])
    title, limit = "memory that a passed event leaves", f"{KEPT} B for 0"
    return [*rows, _row("engine_passed", title, "B", limit, passed, KEPT, target=1.0, guarded=False)]


async def _peer(bench: Bench, theirs: Engine) -> list[Row]:
    """Measure what the peer can do; note what it cannot."""
    cases = {case: (size, partial(_timed, case, title, limit, size)) for case, title, limit, (_, size), *_ in TIMED}
    rows: list[Row] = []
    for case, (size, made) in (cases | {"parked": (200, _parked)}).items():
        try:
            rows.append(made(await theirs.measure(case, size)))
        except RuntimeError as error:
            bench.notes.append(f"{theirs.name}: {case} of {size:,}: no figure ({error})")
    group = f"the same with {theirs.name}"
    return [replace(each, key=f"peer_{theirs.name}_{each.key}", group=group, guarded=False) for each in rows]
