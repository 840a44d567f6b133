"""docs/clients.md: the matrix that the runner writes, and the recipes that a test runs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import date
from typing import Any, Final, NamedTuple

from tests.serving import ROOT

CLIENTS: Final = ROOT / "docs" / "clients.md"
_BEGIN: Final = "<!-- conformance: begin (written by make conformance ARGS=--write-docs) -->"
_END: Final = "<!-- conformance: end -->"
_MARKED: Final = re.compile(re.escape(_BEGIN) + ".*" + re.escape(_END), re.DOTALL)
_RECIPE: Final = re.compile(
    r"^<!-- recipe: (\S+) -->\n\n```sh\n(.*?)```\n(?:\n```json\n(.*?)```\n)?", re.DOTALL | re.MULTILINE
)


def write_matrix(today: date, columns: Sequence[Any], names: list[str], figures: Sequence[str]) -> None:
    """Put the matrix, its date and versions between the markers."""
    ran = [column for column in columns if not column.skipped]
    lines = [_BEGIN, "", f"{today.isoformat()}, {len(names)} scenarios:", ""]
    lines += [f"- {column.client.name}: {_summary(column)}" for column in columns]
    lines += ["", *_table(["scenario", *(column.client.name for column in ran)], _rows(ran, names))]
    if figures:
        load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
        told = "Reading one run's stream, compared with a raw gRPC stream of the same messages"
        lines += ["", f"{told} (load average {load}):", ""]
        lines += [f"- {figure}" for figure in figures]
    lines += ["", _END]
    text = CLIENTS.read_text("utf-8")
    if not _MARKED.search(text):
        raise ValueError(f"{CLIENTS.name} has no markers for the matrix")
    CLIENTS.write_text(_MARKED.sub(lambda _: "\n".join(lines), text), "utf-8")


class Recipe(NamedTuple):
    """A recipe: its name, its shell script, and the output that the page shows."""

    name: str
    script: str
    output: str


def recipes() -> list[Recipe]:
    """Return the recipes in their order."""
    return [Recipe(*found) for found in _RECIPE.findall(CLIENTS.read_text("utf-8"))]


def _summary(column: Any) -> str:
    if column.skipped:
        return f"skipped ({column.skipped})"
    if column.problem:
        return "does not build or run"
    good = sum(line["ok"] for line in column.lines.values())
    return f"{good} of {len(column.lines)} ({column.version})"


def _rows(columns: Sequence[Any], names: list[str]) -> list[list[str]]:
    return [[f"`{name}`", *(_cell(column, name) for column in columns)] for name in names]


def _cell(column: Any, name: str) -> str:
    if name not in column.lines:
        return "**failed**" if column.problem else "-"
    return "ok" if column.lines[name]["ok"] else "**failed**"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    rule = ["-" * width for width in widths]
    return [f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:])]
