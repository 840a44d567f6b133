"""The page docs/performance.md and its plot."""

from __future__ import annotations

import datetime
import os
import platform
import sqlite3
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.measure import AT_LEAST, Bench, Row
from benchmarks.report import HEADINGS, cells

__all__ = ["write_page", "write_plot"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "performance.md"
PLOT = DOCS / "performance.png"
FINDINGS = Path(__file__).with_name("findings.md")
"""What profiles said of the targets that are not met."""
PACKAGES = ("grpcio", "protobuf", "pydantic", "uvloop")

INTRODUCTION = """\
# Performance

Written by `make bench ARGS=--write-docs`; do not edit.

Client and server are separate processes on one machine, on loopback. Each figure is measured in turn with its own
limit, in the same run: a bare `grpc.aio` server that answers the same calls of the contract with fixed messages of the
same sizes, by the same client code; a bare SQLite commit loop (WAL, `synchronous=FULL`); a bare asyncio loop. The table
shows medians, and the ratio of a figure to its limit: the median of the rounds' ratios with the lowest and highest. The
store is SQLite with `synchronous=FULL` unless a line says memory. *Server CPU per operation* counts all threads of the
server's process, beside those of the limit's; it is what other work on the machine disturbs least. Figures of the
engine in process are CPU times.
"""


def write_page(bench: Bench, rows: Sequence[Row], load: Sequence[float], plot: bool, page: Path = PAGE) -> None:
    """Write the table with what it was measured on; `load` is the load average at the beginning and the end."""
    parts = [INTRODUCTION, _machine(bench, load)]
    if plot:
        parts.append("![Ratios to the targets](performance.png)\n")
    for group, members in groupby(rows, lambda row: row.group):
        parts.append(f"## {group[0].upper()}{group[1:]}\n")
        parts.append(_table(list(members)))
    if missed := [row for row in rows if row.met is False]:
        parts.append("## Targets that are not met\n")
        parts.append("".join(f"- {_missed(row)}\n" for row in missed))
        parts.append(FINDINGS.read_text("utf-8"))
    if bench.notes:
        parts.append("## Skipped\n")
        parts.append("".join(f"- {note}\n" for note in bench.notes))
    page.write_text("\n".join(parts), encoding="utf-8")


def _machine(bench: Bench, load: Sequence[float]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    size = "quick sizes" if bench.quick else "full sizes"
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {os.cpu_count()} cores ({platform.machine()},"
        f" {platform.system()} {platform.release().partition('-')[0]}), Python {platform.python_version()}, {versions},"
        f" SQLite {sqlite3.sqlite_version}. {bench.repeats} rounds, {size}. Load average of the machine:"
        f" {load[0]:.1f} at the beginning, {load[1]:.1f} at the end"
        + (": other work ran on it, so look at ratios and CPU, not at rates.\n" if max(load) > 4 else ".\n")
    )


def _table(rows: Sequence[Row]) -> str:
    headings = [heading or "target met" for heading in HEADINGS]
    lines = [_line(headings), _line("---" for _ in headings)]
    lines += [_line(_bold(cell) for cell in cells(row)) for row in rows]
    return "\n".join(lines) + "\n"


def _bold(cell: str) -> str:
    return "**not met**" if cell == "not met" else cell


def _line(items: Any) -> str:
    return f"| {' | '.join(items)} |"


def _missed(row: Row) -> str:
    assert row.ratio is not None
    return f"{row.title}: {row.ratio:.2f}, to be {'≥' if row.sense == AT_LEAST else '≤'} {row.target:g}"


def write_plot(rows: Sequence[Row], plot: Path = PLOT) -> bool:
    """Draw how far each figure is on the way to its target; False when matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [(row, _reach(row)) for row in rows if row.target is not None and row.ratio is not None]
    figure, axes = pyplot.subplots(figsize=(9, 0.3 * len(shown) + 1.2), layout="constrained")
    colours = ["tab:green" if row.met else "tab:orange" for row, _ in shown]
    axes.barh([row.title for row, _ in shown], [reach for _, reach in shown], color=colours)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("measured beside target: right of the line is better than the target")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    figure.savefig(plot, dpi=110)
    pyplot.close(figure)
    return True


def _reach(row: Row) -> float:
    """Return how much better than its target a figure is, 1 at the target, within 1/64 and 64."""
    assert row.ratio is not None
    assert row.target is not None
    reach = row.ratio / row.target if row.sense == AT_LEAST else row.target / max(row.ratio, 1 / 64)
    return min(64.0, max(1 / 64, reach))
