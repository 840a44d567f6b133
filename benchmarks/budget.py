"""Show what an operation costs a server, by layer: `make profile`, or `python -m benchmarks.budget`.

Calls are the same each time, on any machine. The times are of this machine, and of what else it does.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.calls import LOOP, count_calls
from benchmarks.layers import LAYERS
from benchmarks.opcodes import count_opcodes
from benchmarks.processor_time import measure_times

_PAGE: Final = Path(__file__).parent.parent / "docs" / "processor-time.md"
_HEAD: Final = """\
# Where the processor time goes

Written by `make profile ARGS=--write-docs`; do not edit.

What one operation costs a server on SQLite, by layer. The calls of functions, of Python and of C, are the same on any
machine; the event loop is asyncio's for them, so that they can be seen. The times are taken on uvloop with 64 calls in
flight: the time between two calls or returns belongs to the layer entered last. It is scaled to what the same calls
cost without measuring, the least of five rounds. Opcodes are instructions of the interpreter: they are the same on any
machine too, and tell best what a change of the code is worth. All count the threads of the event loop and of the store,
not those of gRPC itself.

{date}: {machine}, Python {python}.
"""


def _rows(found: dict[str, dict[str, float]], shown: str) -> list[tuple[str, ...]]:
    rows = [
        (layer, *(f"{values.get(layer, 0):{shown}}" for values in found.values()))
        for layer in LAYERS
        if any(values.get(layer, 0) >= 0.5 for values in found.values())
    ]
    return [*rows, ("all", *(f"{sum(values.values()):{shown}}" for values in found.values()))]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    lines.insert(1, f"|{' --- |' * len(head)}")
    return "\n".join(lines)


def _calls(found: dict[str, Any]) -> str:
    rows = _rows({name: calls for name, (calls, _, _) in found.items()}, ".0f")
    rows += [(name, *(str(loop[name]) for _, loop, _ in found.values())) for name in LOOP.values()]
    return _table(("calls", *found), rows)


def _times(found: dict[str, dict[str, float]]) -> str:
    return _table(("µs of processor time", *found), _rows(found, ".1f"))


def _opcodes(found: dict[str, Any]) -> str:
    return _table(("opcodes", *found), _rows(found, ".0f"))


def _functions(found: dict[str, Any], number: int) -> str:
    lines = []
    for operation, (_, _, functions) in found.items():
        lines.append(f"\n{operation}")
        lines += [f"{count:6} {name}" for name, count in functions.most_common(number)]
    return "\n".join(lines)


def main() -> None:
    """Print the tables, or write them to the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--functions", type=int, default=0, help="also print so many functions for each operation")
    parser.add_argument("--web", action="store_true", help="count calls with the web on, which nobody uses")
    parser.add_argument("--calls", action="store_true", help="count calls and opcodes only")
    parser.add_argument("--write-docs", action="store_true", help="write docs/processor-time.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        counted = asyncio.run(count_calls(Path(directory) / "counted", web=options.web))
        opcodes = asyncio.run(count_opcodes(Path(directory) / "opcodes"))
        timed = {} if options.calls else measure_times(Path(directory))
    tables = [_times(timed)] if timed else []
    tables += [_calls(counted), _opcodes(opcodes)]
    if options.write_docs:
        machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
        head = _HEAD.format(date=datetime.now(UTC).date(), machine=machine, python=platform.python_version())
        _PAGE.write_text("\n".join([head, *("\n".join((table, "")) for table in tables)]), encoding="utf-8")
        print(f"wrote {_PAGE.name}", file=sys.stderr)
    print("\n\n".join(tables))
    if options.functions:
        print(_functions(counted, options.functions))


if __name__ == "__main__":
    main()
