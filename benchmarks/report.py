"""What a run of the benchmarks leaves: the table on the terminal, the guard, the page and the plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import AT_LEAST, Row
from rich.console import Console
from rich.table import Table

__all__ = ["BASELINE", "Measured", "load", "regressions", "save", "show", "write_baseline"]

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
TOLERANCE = 0.15


def figure(value: float | None, unit: str) -> str:
    """Return a value for people: times and sizes with the unit that fits."""
    if value is None:
        return ""
    if unit == "s":
        return (
            f"{value * 1e6:,.0f} µs" if value < 1e-3 else f"{value * 1e3:,.2f} ms" if value < 1 else f"{value:,.1f} s"
        )
    if unit == "B":
        return f"{value / 1024:,.1f} KiB" if abs(value) >= 1024 else f"{value:,.0f} B"
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:,.2f} {unit}"


def target(row: Row) -> str:
    """Return the target for people."""
    if row.target is None:
        return ""
    return f"{'≥' if row.sense == AT_LEAST else '≤'} {row.target:g}"


def verdict(row: Row) -> str:
    """Return whether the target is met, for people."""
    return {None: "", True: "met", False: "not met"}[row.met]


def cpu(row: Row) -> str:
    """Return the server's CPU time of an operation, beside the raw server's."""
    if row.cpu is None:
        return ""
    text = figure(row.cpu, "s")
    if row.raw_cpu:
        text += f" ({row.cpu / row.raw_cpu:.2f} times {figure(row.raw_cpu, 's')})"
    return text


def ratio(row: Row) -> str:
    """Return the ratio with its spread."""
    if row.ratio is None:
        return ""
    spread = f" ({row.low:.2f}-{row.high:.2f})" if row.low is not None and row.high is not None else ""
    return f"{row.ratio:.2f}{spread}"


def cells(row: Row) -> list[str]:
    """Return the cells of a line."""
    limit = f"{figure(row.limit, row.unit)}, {row.limit_name}" if row.limit is not None else ""
    return [row.title, figure(row.ours, row.unit), limit, ratio(row), target(row), verdict(row), cpu(row), row.note]


HEADINGS = ["figure", "ours", "limit", "ratio", "target", "", "server CPU per operation", "note"]


def show(console: Console, rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Print the table."""
    table = Table(title="Medians; ratios to the limit measured in the same run (lowest-highest round)")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in ("ours", "ratio", "target") else "left")
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(group, style="bold")
        style = "red" if row.met is False else None
        table.add_row(*cells(row), style=style)
    console.print(table)
    for note in notes:
        console.print(f"- {note}")


def regressions(rows: Sequence[Row], mode: str) -> list[str]:
    """Return what is worse than the committed table by more than the tolerance."""
    committed = _baseline().get(mode, {})
    found = []
    for row in rows:
        before = committed.get(row.key)
        if before is None or row.ratio is None or not row.guarded:
            continue
        higher_is_better = row.sense == AT_LEAST
        if row.ratio < before * (1 - TOLERANCE) if higher_is_better else row.ratio > before * (1 + TOLERANCE):
            found.append(f"{row.title}: ratio {row.ratio:.2f}, committed {before:.2f}")
    return found


def write_baseline(rows: Sequence[Row], mode: str) -> None:
    """Make these ratios the committed ones."""
    baseline = _baseline()
    table = baseline.setdefault(mode, {})
    table.update({row.key: round(row.ratio, 3) for row in rows if row.ratio is not None and row.guarded})
    BASELINE.write_text(json.dumps(baseline, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@dataclass(slots=True)
class Measured:
    """What measuring a figure gave."""

    rows: list[Row]
    notes: list[str]


def load(path: Path | None) -> dict[str, Measured]:
    """Return what was saved, by figure."""
    if path is None or not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: Measured([Row(**row) for row in item["rows"]], item["notes"]) for name, item in found.items()}


def save(path: Path | None, done: dict[str, Measured]) -> None:
    """Save it, if there is a path."""
    if path is not None:
        path.write_text(json.dumps({name: asdict(item) for name, item in done.items()}), encoding="utf-8")


def _baseline() -> dict[str, dict[str, float]]:
    if not BASELINE.is_file():
        return {}
    found: dict[str, dict[str, float]] = json.loads(BASELINE.read_text(encoding="utf-8"))
    return found
