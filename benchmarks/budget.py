"""Show what an operation costs a server, by layer: `make profile`, or `python -m benchmarks.budget`.

Calls and opcodes are the same each time, on any machine. The times are of this machine, and of what else it does.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop
from benchmarks.meters import LAYERS, LOOP, Counted, Counts, LayerClock, Meter, WholeTime
from benchmarks.operations import Client, measured
from benchmarks.report import markdown

_PAGE: Final = Path(__file__).parent.parent / "docs" / "processor-time.md"
_HEAD: Final = Path(__file__).with_name("processor-time.md")
_ROUNDS: Final = 5

Layers = Mapping[str, float]
"""What one operation cost, by layer."""


def _timed(directory: Path) -> dict[str, Layers]:
    """Return the microseconds of each operation, scaled to the least of some rounds: other work only adds."""

    def measure(name: str, meter: Meter) -> dict[str, Any]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            operations = measured(directory / name, meter, lambda server: Client(server.address, 320, 64).operations())
            return runner.run(operations)

    wholes = [measure(f"round-{number}", WholeTime()) for number in range(_ROUNDS)]
    found: dict[str, Layers] = {}
    for name, layers in measure("layers", LayerClock()).items():
        scale = min(whole[name] for whole in wholes) / sum(layers.values())
        found[name] = {layer: spent * scale for layer, spent in layers.items()}
    return found


def _counted(directory: Path, opcodes: bool) -> dict[str, Counted]:
    """Return the calls of each operation, made one after the other, or its opcodes."""
    meter = Counts(opcodes=opcodes)
    return asyncio.run(measured(directory, meter, lambda server: Client(server.address).operations((10, 200))))


def _rows(found: Mapping[str, Layers], decimals: int = 0) -> list[list[str]]:
    shown = [layer for layer in LAYERS if any(values.get(layer, 0) >= 0.5 for values in found.values())]
    lines = [[layer, *(f"{values.get(layer, 0):.{decimals}f}" for values in found.values())] for layer in shown]
    return [*lines, ["all", *(f"{sum(values.values()):.{decimals}f}" for values in found.values())]]


def main() -> None:
    """Print the tables, or write them to the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--functions", type=int, default=0, help="also print so many functions for each operation")
    parser.add_argument("--calls", action="store_true", help="count calls and opcodes only")
    parser.add_argument("--write-docs", action="store_true", help="write docs/processor-time.md")
    options = parser.parse_args()
    tables = []
    with tempfile.TemporaryDirectory() as directory:
        if not options.calls:
            timed = _timed(Path(directory))
            tables.append(markdown(["µs of processor time", *timed], _rows(timed, 1)))
        counted, traced = (_counted(Path(directory, kind), kind == "opcodes") for kind in ("calls", "opcodes"))
    loop = [[name, *(str(each.loop[name]) for each in counted.values())] for name in LOOP.values()]
    calls, opcodes = ({name: each.layers for name, each in found.items()} for found in (counted, traced))
    tables.append(markdown(["calls", *calls], _rows(calls) + loop))
    tables.append(markdown(["opcodes", *opcodes], _rows(opcodes)))
    print("\n\n".join(tables))
    if options.write_docs:
        machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
        head = _HEAD.read_text("utf-8").format(
            date=datetime.now(UTC).date(), machine=machine, python=platform.python_version()
        )
        _PAGE.write_text("\n\n".join([head.rstrip(), *tables]) + "\n", encoding="utf-8")
        print(f"wrote {_PAGE.name}")
    if options.functions:
        for name, each in counted.items():
            lines = [f"{count:6} {function}" for function, count in each.functions.most_common(options.functions)]
            print("\n".join(["", name, *lines]))


if __name__ == "__main__":
    main()
