"""Figures of the engine in process, beside a bare asyncio loop, and the same of llama-index-workflows."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.harness import ENGINE, Bench, Row, row
from benchmarks.peers import HERE, peer
from benchmarks.processes import run_json

__all__ = ["engine"]

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

Found = dict[str, Any]
"""What `peer/engine.py` measured of a case, or nothing if that failed."""


async def _found(bench: Bench, name: str, python: str, package: str, seconds: float, case: str, size: int) -> Found:
    """Run a case of a size in a process of its own, under an interpreter; note its failure."""
    bench.say(f"engine: {case}, {size:,}, {name}")
    try:
        return dict(await run_json([python, str(HERE / "engine.py"), package, case, str(size)], seconds))
    except RuntimeError as error:
        bench.notes.append(f"{name}: {case} of {size:,}: no figure ({error})")
        return {}


def _row(case: str, title: str, unit: str, limit: str, ours: float, bound: float, **more: Any) -> Row:
    return row(f"engine_{case}", title, unit, limit, ours, bound, group=ENGINE, **more)


async def engine(bench: Bench) -> list[Row]:
    """Measure the engine, then the same cases at their small sizes of the peers."""
    rows = await _engine(bench)
    for folder, requirement in PEERS:
        if (found := await peer(bench, folder, [requirement])) is not None:
            rows += await _peer(bench, found.name, str(found.python))
    return rows


def _timed(case: str, title: str, limit: str, size: int, bound: float | None, found: Found) -> Row:
    timed = _row(case, f"{title} ({size:,})", "s", limit, found["ours"], found["bare"], target=bound)
    return replace(timed, ratio=found["ratio"])


def _parked(found: Found, target: float | None = 1.0) -> Row:
    return _row("parked", "memory of a parked run", "B", "8 KiB", found["bytes"], PARKED, target=target)


async def _engine(bench: Bench) -> list[Row]:
    ours = partial(_found, bench, "Stepwire", sys.executable, "stepwire.workflow", SECONDS)
    python = str(bench.beside and bench.beside / ".venv/bin/python")
    earlier = partial(_found, bench, "another version", python, "stepwire.workflow", SECONDS)
    rows: list[Row] = []
    for case, title, limit, sizes, grown, bound in TIMED:
        size = bench.scaled(*sizes)
        if not (small := await ours(case, size)):
            continue
        rows.append(_timed(case, title, limit, size, bound, small))
        if bench.beside and (found := await earlier(case, size)):
            title_beside, both = f"{title}, beside {bench.beside.name}", (small["ours"], found["ours"])
            beside = _row(f"{case}_beside", title_beside, "s", "another version", *both, guarded=False)
            # Each beside the bare loop of its own process.
            rows.append(replace(beside, ratio=small["ratio"] / found["ratio"]))
        if grown and (large := await ours(case, bench.scaled(*grown))):
            name, same = f"{title}: {bench.scaled(*grown):,} beside {size:,}", f"the same at {size:,}"
            growth = _row(f"{case}_growth", name, "s", same, large["ours"], small["ours"], target=FLAT)
            # Each beside the bare loop of its own process: the ratio of ratios is what the size does.
            rows.append(replace(growth, ratio=large["ratio"] / small["ratio"]))
    count = bench.scaled(50_000, 5_000)
    few, many = await ours("snapshot", 50), await ours("snapshot", count)
    for what, word, unit in (("seconds", "time", "s"), ("bytes", "size", "B")) if few and many else ():
        title = f"to_dict after {count:,} events, {word}"
        rows.append(_row(f"snapshot_{what}", title, unit, "after 50 events", many[what], few[what], target=FLAT))
    if parked := await ours("parked", bench.scaled(2_000, 500)):
        rows.append(_parked(parked))
    if passed := await ours("passed", count):
        title, kept = "memory that a passed event leaves", max(0.0, passed["bytes"])
        rows.append(_row("passed", title, "B", f"{KEPT} B for 0", kept, KEPT, target=1.0, guarded=False))
    return rows


async def _peer(bench: Bench, name: str, python: str) -> list[Row]:
    theirs = partial(_found, bench, name, python, "workflows", PEER_SECONDS)
    rows: list[Row] = []
    for case, title, limit, (_, size), _, _ in TIMED:
        if found := await theirs(case, size):
            rows.append(_timed(case, title, limit, size, None, found))
    if parked := await theirs("parked", 200):
        rows.append(_parked(parked, None))
    group = f"the same with {name}"
    return [replace(each, key=f"peer_{name}_{each.key}", group=group, guarded=False) for each in rows]
