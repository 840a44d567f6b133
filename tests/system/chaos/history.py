"""The history of a chaos run: a JSONL file with one line for each thing that someone saw.

Lines have an `op`: what a client did (`start send publish set get`, each with run, request, args, start, end, status
and, when ok, sequence or value), what a reader got (`batch`), what a step did outside (`effect`), what was done to the
server (`kill`), and what the healed server holds (`final`, one for each run). Times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]

OK = "ok"
UNKNOWN = "unknown"


class History:
    """Write a history; nothing is held open between lines, so a killed run can be checked all the same."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, op: str, **fields: Any) -> None:
        """Write a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"op": op, **fields}, separators=(",", ":")) + "\n")


def read(*paths: Path) -> Iterator[Record]:
    """Read the lines of histories; a file that is not there has none."""
    for path in paths:
        if path.exists():
            with path.open(encoding="utf-8") as file:
                yield from parse(file)


def parse(lines: Iterable[str]) -> Iterator[Record]:
    """Parse lines; those that a killed process had begun to write are left out."""
    for line in lines:
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                yield {"op": "torn"}
