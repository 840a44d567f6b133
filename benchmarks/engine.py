"""Figures of the engine in process, beside a bare asyncio loop, and the same of llama-index-workflows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import AT_MOST, Bench, Row
from benchmarks.venvs import peer, run_json

__all__ = ["engine"]

SCRIPT = str(Path(__file__).resolve().parent / "peer" / "engine.py")
GROUP = "the engine in process"
SECONDS = 300.0
PEER_SECONDS = 60.0
FLAT = 1.2
"""What counts as flat or linear: a larger size costs at most this much more for each operation."""
PARKED = 8 * 1024
KEPT = 4
"""Bytes for an event that count as 0: what an interpreter's own tables do around them."""


class Engine:
    """An interpreter with an engine; cases that fail there are noted once and give None."""

    def __init__(self, bench: Bench, name: str, python: str, package: str, seconds: float) -> None:
        self.name = name
        self._bench = bench
        self._command = [python, SCRIPT, package]
        self._seconds = seconds

    async def measure(self, case: str, size: int) -> dict[str, Any] | None:
        """Run a case in a process of its own."""
        self._bench.say(f"engine: {case}, {size:,}, {self.name}")
        try:
            found: dict[str, Any] = await run_json([*self._command, case, str(size)], self._seconds)
        except RuntimeError as error:
            self._bench.notes.append(f"{self.name}: {case} of {size:,}: no figure ({error})")
            return None
        return found


async def engine(bench: Bench) -> list[Row]:
    """Measure the engine, then the same cases at their small sizes of the peers."""
    ours = Engine(bench, "Stepwire", sys.executable, "stepwire.workflow", SECONDS)
    rows = await _timed(bench, ours)
    rows += await _sized(bench, ours)
    for folder, requirement in (
        ("workflows-1.0.1", "llama-index-workflows==1.0.1"),
        ("workflows-newest", "llama-index-workflows"),
    ):
        found = await peer(bench, folder, [requirement])
        if found is not None:
            rows += await _peer(Engine(bench, found.name, str(found.python), "workflows", PEER_SECONDS))
    return rows


TIMED = (
    # case, title, size, quick size, the bound on ours / bare of a time
    ("chain", "a step of a chain", 2_000, 2_000, 2.5),
    ("fan_out", "fan-out over 8 workers, collected, an event", 1_000, 1_000, 4.0),
    ("trivial", "a trivial run, one after the other", 2_000, 1_000, 1 / 0.2),
    ("stream", "stream write and read, an event", 50_000, 20_000, 1 / 0.6),
)


async def _timed(bench: Bench, ours: Engine) -> list[Row]:
    rows = []
    for case, title, full, quick, bound in TIMED:
        size = bench.scaled(full, quick)
        small = await ours.measure(case, size)
        if small is None:
            continue
        rows.append(_row(case, f"{title} ({size:,})", small, bound))
        large = {"chain": bench.scaled(50_000, 10_000), "fan_out": bench.scaled(20_000, 4_000)}.get(case)
        if large is None or (found := await ours.measure(case, large)) is None:
            continue
        # Each beside the bare loop of its own process: the ratio of ratios is what the size does.
        growth = found["ratio"] / small["ratio"]
        rows.append(
            Row(
                f"engine_{case}_growth",
                f"{title}: {large:,} beside {size:,}",
                "s",
                found["ours"],
                small["ours"],
                f"the same at {size:,}",
                growth,
                AT_MOST,
                FLAT,
                group=GROUP,
            )
        )
    return rows


def _row(case: str, title: str, found: dict[str, Any], bound: float | None, group: str = GROUP, key: str = "") -> Row:
    """Return a line of times; the targets of issue 3 that are rates are kept as times, turned over."""
    return Row(
        key or f"engine_{case}",
        title,
        "s",
        found["ours"],
        found["bare"],
        "asyncio.Queue" if case == "stream" else "bare tasks",
        found["ratio"],
        AT_MOST,
        bound,
        group=group,
        guarded=not key,
    )


async def _sized(bench: Bench, ours: Engine) -> list[Row]:
    rows = []
    large_size = bench.scaled(50_000, 5_000)
    small, large = await ours.measure("snapshot", 50), await ours.measure("snapshot", large_size)
    if small is not None and large is not None:
        for what, unit in (("seconds", "s"), ("bytes", "B")):
            rows.append(
                Row(
                    f"engine_snapshot_{what}",
                    f"to_dict after {large_size:,} events, {'time' if unit == 's' else 'size'}",
                    unit,
                    large[what],
                    small[what],
                    "after 50 events",
                    large[what] / small[what],
                    AT_MOST,
                    FLAT,
                    group=GROUP,
                )
            )
    parked = await ours.measure("parked", bench.scaled(2_000, 500))
    if parked is not None:
        rows.append(_bytes("parked", "memory of a parked run", parked["bytes"], PARKED, "8 KiB"))
    passed = await ours.measure("passed", bench.scaled(50_000, 5_000))
    if passed is not None:
        kept = max(0.0, passed["bytes"])
        rows.append(_bytes("passed", "memory that a passed event leaves", kept, KEPT, f"{KEPT} B for 0"))
    return rows


def _bytes(case: str, title: str, size: float, limit: float, limit_name: str) -> Row:
    ratio = size / limit
    return Row(
        f"engine_{case}",
        title,
        "B",
        size,
        limit,
        limit_name,
        ratio,
        AT_MOST,
        1.0,
        group=GROUP,
        guarded=case == "parked",
    )


async def _peer(peer_engine: Engine) -> list[Row]:
    rows = []
    for case, title, _, size, _ in TIMED:
        found = await peer_engine.measure(case, size)
        if found is not None:
            key = f"peer_{peer_engine.name}_{case}"
            rows.append(_row(case, f"{title} ({size:,})", found, None, f"the same with {peer_engine.name}", key))
    parked = await peer_engine.measure("parked", 200)
    if parked is not None:
        row = _bytes("parked", "memory of a parked run", parked["bytes"], PARKED, "8 KiB")
        row.group, row.key, row.target, row.guarded = f"the same with {peer_engine.name}", "", None, False
        rows.append(row)
    return rows
