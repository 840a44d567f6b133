"""Measure Stepwire against what gRPC, the disk and asyncio can do: `make bench`, or `python -m benchmarks`.

Exits 1 when a ratio is more than 15 % worse than the committed one (benchmarks/baseline.json).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import cluster, engine, foreign, memory, peers, report, search, served, store, web
from benchmarks.harness import Bench, Row, Skipped
from rich.console import Console

FIGURES: dict[str, Callable[[Bench], Coroutine[Any, Any, list[Row]]]] = {
    **{each.key: each for each in served.SERVED},
    "commit_latency": served.commit_latency,
    "web": web.web,
    "idle_streams": memory.idle_streams,
    "waiting_runs": memory.waiting_runs,
    "released_runs": memory.released_runs,
    "recovery": memory.recovery,
    "growing_run": memory.growing_run,
    "store": store.store,
    "search": search.search,
    "cluster": cluster.cluster,
    "execution_log": served.execution_log,
    "foreign": foreign.foreign,
    "engine": engine.engine,
    "peer_server": peers.peer_server,
    "agents": peers.agents,
}


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


def measure(bench: Bench, figures: Sequence[str], kept: Path | None, console: Console) -> list[Row]:
    """Measure the figures one after the other; note what was skipped, and what failed. `kept` has what is measured."""
    done: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept and kept.is_file() else {}
    with console.status("starting") as status:
        for number, name in enumerate(figures, 1):

            def say(text: str, place: str = f"[{number}/{len(figures)}]") -> None:
                status.update(f"{place} {text}")
                if not console.is_terminal:
                    print(f"{place} {text}", file=sys.stderr, flush=True)

            if name not in done:
                bench.say, bench.notes = say, []
                rows = []
                try:
                    rows = [asdict(row) for row in asyncio.run(FIGURES[name](bench))]
                except Skipped as missing:
                    bench.notes.append(f"{name}: {missing}")
                except Exception as error:  # noqa: BLE001 - a figure that fails must not lose the others
                    bench.failures.append(f"{name}: no figure: {type(error).__name__}: {error}")
                    continue
                done[name] = {"rows": rows, "notes": bench.notes}
                if kept:
                    kept.write_text(json.dumps(done), "utf-8")
    found = [done[name] for name in figures if name in done]
    bench.notes = [note for each in found for note in each["notes"]] + bench.failures
    return [Row(**row) for each in found for row in each["rows"]]


def main() -> int:
    """Measure, print, compare, write."""
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 200)
    before = os.getloadavg()[0]
    repeats, seconds, mode = (3, 1.0, "quick") if options.quick else (5, 2.0, "full")
    with tempfile.TemporaryDirectory(prefix="stepwire-bench-", dir=options.dir) as directory:
        rounds, length = options.repeats or repeats, options.seconds or seconds
        bench = Bench(Path(directory), rounds, length, options.quick, options.beside and options.beside.resolve())
        rows = measure(bench, options.figures, options.resume, console)
    report.show(console, rows, bench.notes)
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
        for line in worse:
            console.print(f"- {line}")
        return 1
    return int(bool(bench.failures))


if __name__ == "__main__":
    sys.exit(main())
