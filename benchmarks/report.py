"""What a run of the benchmarks leaves: the table, the guard, docs/performance.md, its plot, the README's figures."""

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

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
PAGE = HERE.parent / "docs" / "performance.md"
TOLERANCE = 0.15
HEADINGS = ["figure", "ours", "limit", "ratio", "target", "target met", "server CPU per operation", "note"]


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
    met = {None: "", True: "met", False: "**not met**"}[row.met]
    return [row.title, _figure(row.ours, row.unit), limit, ratio, _target(row), met, cpu, row.note]


def tables(rows: Sequence[Row]) -> str:
    """Return the tables of all groups, in Markdown."""
    parts = []
    for group, members in groupby(rows, lambda row: row.group):
        parts.append(f"## {group[0].upper()}{group[1:]}\n\n{markdown(HEADINGS, [_cells(row) for row in members])}\n")
    return "\n".join(parts)


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *lines))


def regressions(rows: Sequence[Row], mode: str) -> list[str]:
    """Return what is worse than the committed table by more than 15 %."""
    committed = json.loads(BASELINE.read_text("utf-8")).get(mode, {})
    found: list[str] = []
    for row in rows:
        if row.guarded and (before := committed.get(row.key)) is not None:
            low, high = before * (1 - TOLERANCE), before * (1 + TOLERANCE)
            if row.ratio < low if row.high_is_good else row.ratio > high:
                found.append(f"{row.title}: ratio {row.ratio:.2f}, committed {before:.2f}")
    return found


def write_baseline(rows: Sequence[Row], mode: str) -> None:
    """Make these ratios the committed ones."""
    baseline = json.loads(BASELINE.read_text("utf-8"))
    baseline.setdefault(mode, {}).update({row.key: round(row.ratio, 3) for row in rows if row.guarded})
    BASELINE.write_text(json.dumps(baseline, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_page(bench: Bench, rows: Sequence[Row], load: Sequence[float]) -> None:
    """Write the table with what it was measured on; `load` is the load average at the beginning and the end."""
    parts = [(HERE / "introduction.md").read_text("utf-8"), _machine(bench, load)]
    parts += ["![Ratios to the targets](performance.png)\n", tables(rows)]
    if missed := [row for row in rows if row.met is False]:
        parts.append("## Targets that are not met\n")
        parts.append("".join(f"- {row.title}: {row.ratio:.2f}, to be {_target(row)}\n" for row in missed))
        parts.append((HERE / "findings.md").read_text("utf-8"))  # what profiles said of them
    if bench.notes:
        parts += ["## Skipped\n", "".join(f"- {note}\n" for note in bench.notes)]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


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


README = HERE.parent / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
OTHER = "The same with llama-index-workflows "
# What the README calls a figure, and its title in the tables, without a size.
IN_PROCESS = {
    "a step of a chain": "a step of a chain",
    "fan-out over 8 workers and collect, an event": "fan-out over 8 workers, collected, an event",
    "a run of one step": "a trivial run, one after the other",
    "memory of a run that waits": "memory of a parked run",
}
SERVED = {
    "runs of one step, start to result, 64 at a time": "start → result, 64 in flight (SQLite)",
    "events of one run, streamed to a client": "one run's stream (SQLite)",
    "from an answer to the next question, median": "answer → next question, p50 (SQLite)",
}


def figures_of(page: str) -> str:
    """Return the README's figures as `page` has them. LookupError when it lacks one."""
    tables: dict[str, dict[str, tuple[str, str, str]]] = {}
    for heading, body in re.findall(r"(?ms)^## (.*?)$(.*?)(?=^## |\Z)", page):
        found = re.findall(r"(?m)^\| (.*?)(?: \([\d,]+\))? \| (.*?) \| (.*?)(?:, ([^,|]*))? \|", body)
        tables[heading] = {title: (ours, limit, name) for title, ours, limit, name in found}
    engine, peer = tables["The engine in process"], tables["Beside the peer, each by its own Python client"]
    others = [heading for heading in tables if heading.startswith(OTHER)]
    engines = [engine, *(tables[heading] for heading in others)]
    inside = [[told, *(each[title][0] for each in engines)] for told, title in IN_PROCESS.items()]
    served = [[told, *peer[title][:2]] for told, title in SERVED.items()]
    names = [f"LlamaIndex Workflows {heading.removeprefix(OTHER)}" for heading in others]
    name = peer[next(iter(SERVED.values()))][2]
    text = markdown(["in process", "Stepwire", *names], inside)
    text += f"\n\n{markdown(['served, on SQLite', 'Stepwire', name], served)}\n"
    return text.replace(" 1/s", " a second").replace(" events/s", " a second")


def figures_in(readme: str) -> str:
    """Return the figures that a README has."""
    return readme.partition(BEGIN)[2].partition(END)[0]


def write_readme() -> None:
    """Put the figures of the page into the README. LookupError when the page lacks one."""
    text = README.read_text(encoding="utf-8")
    README.write_text(text.replace(figures_in(text), figures_of(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
