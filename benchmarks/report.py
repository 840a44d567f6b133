"""What a run of the benchmarks leaves: the table, the guard, docs/performance.md and its plot."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from benchmarks.harness import Bench, Row
from rich.console import Console
from rich.table import Table

__all__ = ["BASELINE", "markdown", "regressions", "show", "write_baseline", "write_page", "write_plot"]

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
PAGE = HERE.parent / "docs" / "performance.md"
PLOT = PAGE.with_suffix(".png")
TOLERANCE = 0.15

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

# -- the table --------------------------------------------------------------------------------------------------------

HEADINGS = ["figure", "ours", "limit", "ratio", "target", "", "server CPU per operation", "note"]


def _figure(value: float, unit: str) -> str:
    """Return a value for people: times and sizes with the unit that fits."""
    if unit == "s" and value < 1:
        return f"{value * 1e6:,.0f} µs" if value < 1e-3 else f"{value * 1e3:,.2f} ms"
    if unit == "B":
        return f"{value / 1024:,.1f} KiB" if abs(value) >= 1024 else f"{value:,.0f} B"
    return f"{value:,.1f} s" if unit == "s" else f"{value:,.{0 if abs(value) >= 100 else 2}f} {unit}"


def _target(row: Row) -> str:
    return "" if row.target is None else f"{'≥' if row.high_is_good else '≤'} {row.target:g}"


def _cells(row: Row) -> list[str]:
    limit = f"{_figure(row.limit, row.unit)}, {row.limit_name}"
    ratio = f"{row.ratio:.2f}" + ("" if row.low is None else f" ({row.low:.2f}-{row.high:.2f})")
    cpu = "" if row.cpu is None else _figure(row.cpu, "s")
    if row.cpu is not None and row.raw_cpu:
        cpu += f" ({row.cpu / row.raw_cpu:.2f} times {_figure(row.raw_cpu, 's')})"
    met = {None: "", True: "met", False: "not met"}[row.met]
    return [row.title, _figure(row.ours, row.unit), limit, ratio, _target(row), met, cpu, row.note]


def show(console: Console, rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Print the table."""
    table = Table(title="Medians; ratios to the limit measured in the same run (lowest-highest round)")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in ("ours", "ratio", "target") else "left")
    for group, members in groupby(rows, lambda row: row.group):
        table.add_section()
        table.add_row(group, style="bold")
        for row in members:
            table.add_row(*_cells(row), style="red" if row.met is False else None)
    console.print(table)
    for note in notes:
        console.print(f"- {note}")


# -- the guard --------------------------------------------------------------------------------------------------------


def regressions(rows: Sequence[Row], mode: str) -> list[str]:
    """Return what is worse than the committed table by more than 15 %."""
    committed = _baseline().get(mode, {})
    found: list[str] = []
    for row in rows:
        if row.guarded and (before := committed.get(row.key)) is not None:
            low, high = before * (1 - TOLERANCE), before * (1 + TOLERANCE)
            if row.ratio < low if row.high_is_good else row.ratio > high:
                found.append(f"{row.title}: ratio {row.ratio:.2f}, committed {before:.2f}")
    return found


def write_baseline(rows: Sequence[Row], mode: str) -> None:
    """Make these ratios the committed ones."""
    baseline = _baseline()
    baseline.setdefault(mode, {}).update({row.key: round(row.ratio, 3) for row in rows if row.guarded})
    BASELINE.write_text(json.dumps(baseline, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _baseline() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(BASELINE.read_text("utf-8")) if BASELINE.is_file() else {}
    return found


# -- the page and its plot --------------------------------------------------------------------------------------------


def write_page(bench: Bench, rows: Sequence[Row], load: Sequence[float], plot: bool, page: Path = PAGE) -> None:
    """Write the table with what it was measured on; `load` is the load average at the beginning and the end."""
    parts = [INTRODUCTION, _machine(bench, load)]
    if plot:
        parts.append("![Ratios to the targets](performance.png)\n")
    for group, members in groupby(rows, lambda row: row.group):
        headings = [heading or "target met" for heading in HEADINGS]
        lines = [["**not met**" if cell == "not met" else cell for cell in _cells(row)] for row in members]
        parts += [f"## {group[0].upper()}{group[1:]}\n", markdown(headings, lines) + "\n"]
    if missed := [row for row in rows if row.met is False]:
        parts.append("## Targets that are not met\n")
        parts.append("".join(f"- {row.title}: {row.ratio:.2f}, to be {_target(row)}\n" for row in missed))
        parts.append((HERE / "findings.md").read_text("utf-8"))  # what profiles said of them
    if bench.notes:
        parts += ["## Skipped\n", "".join(f"- {note}\n" for note in bench.notes)]
    page.write_text("\n".join(parts), encoding="utf-8")


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *lines))


def _machine(bench: Bench, load: Sequence[float]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "pydantic", "uvloop"))
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {os.cpu_count()} cores ({platform.machine()},"
        f" {platform.system()} {platform.release().partition('-')[0]}), Python {platform.python_version()}, {versions},"
        f" SQLite {sqlite3.sqlite_version}. {bench.repeats} rounds, {'quick' if bench.quick else 'full'} sizes."
        f" Load average of the machine: {load[0]:.1f} at the beginning, {load[1]:.1f} at the end"
        + (": other work ran on it, so look at ratios and CPU, not at rates.\n" if max(load) > 4 else ".\n")
    )


def write_plot(rows: Sequence[Row], plot: Path = PLOT) -> bool:
    """Draw how far each figure is on the way to its target; False when matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [(row, _reach(row.ratio, row.target, row.high_is_good)) for row in rows if row.target is not None]
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


def _reach(ratio: float, target: float, high_is_good: bool) -> float:
    """Return how much better than its target a figure is, 1 at the target, within 1/64 and 64."""
    reach = ratio / target if high_is_good else target / max(ratio, 1 / 64)
    return min(64.0, max(1 / 64, reach))
