"""What a run of the benchmarks leaves: the table, the guard, docs/performance.md, its plot, the README's figures."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sqlite3
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from benchmarks.harness import Bench, Row
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
PAGE = HERE.parent / "docs" / "performance.md"
TOLERANCE = 0.15

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


def write_page(bench: Bench, rows: Sequence[Row], load: Sequence[float]) -> None:
    """Write the table with what it was measured on; `load` is the load average at the beginning and the end."""
    parts = [(HERE / "introduction.md").read_text("utf-8"), _machine(bench, load)]
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
    PAGE.write_text("\n".join(parts), encoding="utf-8")


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


def write_plot(rows: Sequence[Row]) -> None:
    """Draw how much better or worse than its target each figure is, within 1/64 and 64 times."""
    from matplotlib import pyplot  # only with the extra `bench`

    shown = [row for row in rows if row.target is not None]
    figure, axes = pyplot.subplots(figsize=(9, 0.3 * len(shown) + 1.2), layout="constrained")
    colours = ["tab:green" if row.met else "tab:orange" for row in shown]
    axes.barh([row.title for row in shown], [min(64.0, max(1 / 64, row.reach)) for row in shown], color=colours)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("measured beside target: right of the line is better than the target")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    figure.savefig(PAGE.with_suffix(".png"), dpi=110)


# -- the README -------------------------------------------------------------------------------------------------------

README = HERE.parent / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
OURS = "The engine in process"
OTHER = "The same with llama-index-workflows "
PEER = "Beside the peer, each by its own Python client"
IN_PROCESS = {
    "a step of a chain": "a step of a chain (",
    "fan-out over 8 workers and collect, an event": "fan-out over 8 workers, collected, an event (",
    "a run of one step": "a trivial run, one after the other (",
    "memory of a run that waits": "memory of a parked run",
}
SERVED = {
    "runs of one step, start to result, 64 at a time": "start → result, 64 in flight (SQLite)",
    "events of one run, streamed to a client": "one run's stream (SQLite)",
    "from an answer to the next question, median": "answer → next question, p50 (SQLite)",
}


def figures_of(page: str) -> str:
    """Return the README's figures as `page` has them. LookupError when it lacks one."""
    tables = {
        heading.strip(): body.splitlines() for heading, body in re.findall(r"(?ms)^## (.*?)$(.*?)(?=^## |\Z)", page)
    }
    others = [heading for heading in tables if heading.startswith(OTHER)]
    if not others:
        raise LookupError(OTHER)
    names = [f"LlamaIndex Workflows {heading.removeprefix(OTHER)}" for heading in others]
    lines = [
        [title, *(_find(tables[heading], start)[1] for heading in (OURS, *others))]
        for title, start in IN_PROCESS.items()
    ]
    found = {title: _find(tables[PEER], start) for title, start in SERVED.items()}
    served = [[title, row[1], row[2].rpartition(", ")[0]] for title, row in found.items()]
    peer = next(iter(found.values()))[2].rpartition(", ")[2]
    text = markdown(["in process", "Stepwire", *names], lines)
    text += f"\n\n{markdown(['served, on SQLite', 'Stepwire', peer], served)}\n"
    return text.replace(" 1/s", " a second").replace(" events/s", " a second")


def _find(lines: list[str], start: str) -> list[str]:
    for line in lines:
        if line.startswith(f"| {start}"):
            return [cell.strip() for cell in line.strip("|").split("|")]
    raise LookupError(start)


def figures_in(readme: str) -> str:
    """Return the figures that a README has."""
    return readme.partition(BEGIN)[2].partition(END)[0]


def write_readme() -> None:
    """Put the figures of the page into the README. LookupError when the page lacks one."""
    text = README.read_text(encoding="utf-8")
    README.write_text(text.replace(figures_in(text), figures_of(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
