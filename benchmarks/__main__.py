"""Measure Stepwire against what gRPC, the disk and asyncio can do: `make bench`, or `python -m benchmarks`.

Exits 1 when a ratio is more than 15 % worse than the committed one (benchmarks/baseline.json).
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import cluster, foreign, memory, peers, report, search, served, store, web
from benchmarks.harness import Bench, Figure, Row, Skipped
from rich.console import Console
from rich.markdown import Markdown

_OTHERS: tuple[Figure, ...] = (
    *(served.commit_latency, web.web, memory.idle_streams, memory.waiting_runs, memory.released_runs, memory.recovery),
    *(memory.growing_run, store.store, search.search, cluster.cluster, served.execution_log, foreign.foreign),
    *(peers.engine, peers.peer_server, peers.agents),
)
FIGURES: dict[str, Figure] = {each.key: each for each in served.SERVED} | {each.__name__: each for each in _OTHERS}


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figures", help=f"only these, separated by commas: {', '.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes; says which")
    parser.add_argument("--repeats", type=int, help="rounds of each figure (5; quick 3)")
    parser.add_argument("--seconds", type=float, help="of one measurement in a round (2; quick 1)")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="also measure an earlier version, in turn")
    parser.add_argument("--dir", help="where data directories are made; default: a temporary one")
    parser.add_argument("--resume", type=Path, help="a file of what is measured; what it has is not measured again")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md and its plot")
    parser.add_argument("--write-baseline", action="store_true", help="commit to these ratios: baseline.json")
    options = parser.parse_args()
    options.figures = options.figures.split(",") if options.figures else list(FIGURES)
    if unknown := [name for name in options.figures if name not in FIGURES]:
        parser.error(f"no such figure: {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    return options


async def measured(bench: Bench, name: str) -> dict[str, Any]:
    """Return the rows of a figure, and the notes of what of it was skipped."""
    rows, bench.notes = [], []
    try:
        rows = [asdict(row) async for row in FIGURES[name](bench)]
    except Skipped as missing:
        bench.notes.append(f"{name}: {missing}")
    return {"rows": rows, "notes": bench.notes}


def measure(bench: Bench, figures: Sequence[str], kept: Path | None) -> tuple[list[Row], bool]:
    """Measure the figures one after the other, but those that `kept` has; return rows, and whether a figure failed."""
    done: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept and kept.is_file() else {}
    failures: list[str] = []
    for number, name in enumerate(figures, 1):
        if name not in done:
            bench.say = partial(print, f"[{number}/{len(figures)}]", file=sys.stderr, flush=True)
            try:
                done[name] = asyncio.run(measured(bench, name))
            except Exception as error:  # noqa: BLE001 - a figure that fails must not lose the others
                failures.append(f"{name}: no figure: {type(error).__name__}: {error}")
            if kept:
                kept.write_text(json.dumps(done), "utf-8")
    found = [done[name] for name in figures if name in done]
    bench.notes = [note for each in found for note in each["notes"]] + failures
    return [Row(**row) for each in found for row in each["rows"]], bool(failures)


def main() -> int:
    """Measure, print, compare, write."""
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 200)
    before = os.getloadavg()[0]
    repeats, seconds, mode = (3, 1.0, "quick") if options.quick else (5, 2.0, "full")
    with tempfile.TemporaryDirectory(prefix="stepwire-bench-", dir=options.dir) as directory:
        rounds, length = options.repeats or repeats, options.seconds or seconds
        bench = Bench(Path(directory), rounds, length, options.quick, options.beside and options.beside.resolve())
        rows, failed = measure(bench, options.figures, options.resume)
    console.print(Markdown("\n".join([report.tables(rows), *(f"- {note}" for note in bench.notes)])))
    if options.write_docs:
        report.write_page(bench, rows, (before, os.getloadavg()[0]))
        report.write_plot(rows)
        try:
            report.write_readme()
        except LookupError as missing:
            console.print(f"The README's figures are as they were: not measured: {missing}")
    worse = report.regressions(rows, mode)
    if options.write_baseline:
        report.write_baseline(rows, mode)
    elif worse:
        console.print("\nWorse than the committed table by more than 15 %:", style="red")
        console.print("\n".join(f"- {line}" for line in worse))
    return int(failed or (bool(worse) and not options.write_baseline))


if __name__ == "__main__":
    sys.exit(main())
