"""Measure Stepwire against what gRPC, the disk and asyncio can do: `make bench`, or `python -m benchmarks`.

Exits 1 when a ratio is more than 15 % worse than the committed one (benchmarks/baseline.json).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import engine, foreign, latency, memory, page, peers, readme, report, store, streams, unary
from benchmarks.measure import Bench, Row
from rich.console import Console

Figure = Callable[[Bench], Awaitable[list[Row]]]

FIGURES: dict[str, Figure] = {
    "get_state": unary.get_state,
    "send_event": unary.send_event,
    "trivial": unary.trivial,
    "h2load": unary.h2load,
    "latency": latency.start_to_result,
    "commit_latency": latency.commit,
    "live": streams.live,
    "replay": streams.replay,
    "subscribers": streams.subscribers,
    "first_event": streams.first_event,
    "converse": streams.converse,
    "idle_streams": memory.idle_streams,
    "waiting_runs": memory.waiting_runs,
    "released_runs": memory.released_runs,
    "recovery": memory.recovery,
    "growing_run": memory.growing_run,
    "store": store.store,
    "foreign": foreign.foreign,
    "engine": engine.engine,
    "peer_server": peers.peer_server,
}


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figures", help=f"only these, separated by commas: {', '.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes; says which")
    parser.add_argument("--repeats", type=int, help="rounds of each figure (5; quick 3)")
    parser.add_argument("--seconds", type=float, help="of one measurement in a round (2; quick 1)")
    parser.add_argument("--dir", help="where data directories are made; default: a temporary one")
    parser.add_argument("--resume", type=Path, help="a file of what is measured; what it has is not measured again")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md and its plot")
    parser.add_argument("--write-baseline", action="store_true", help="commit to these ratios: baseline.json")
    options = parser.parse_args()
    wanted = options.figures.split(",") if options.figures else list(FIGURES)
    unknown = [name for name in wanted if name not in FIGURES]
    if unknown:
        parser.error(f"no such figure: {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    options.figures = wanted
    return options


async def measure(bench: Bench, options: argparse.Namespace, console: Console) -> list[Row]:
    """Measure the figures one after the other."""
    rows: list[Row] = []
    done = report.load(options.resume)
    with console.status("starting") as status:
        for number, name in enumerate(options.figures, 1):
            place = f"[{number}/{len(options.figures)}]"

            def say(text: str, place: str = place) -> None:
                status.update(f"{place} {text}")
                if not console.is_terminal:
                    print(f"{place} {text}", file=sys.stderr, flush=True)

            bench.say = say
            if name not in done:
                bench.notes = []
                # Any failure of one figure must not lose the others.
                try:
                    done[name] = report.Measured(await FIGURES[name](bench), bench.notes)
                except Exception as error:  # noqa: BLE001
                    bench.failures.append(f"{name}: no figure: {type(error).__name__}: {error}")
                    continue
                report.save(options.resume, done)
            rows += done[name].rows
    bench.notes = [note for name in options.figures if name in done for note in done[name].notes] + bench.failures
    return rows


def main() -> int:
    """Measure, print, compare, write."""
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 200)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="stepwire-bench-", dir=options.dir) as directory:
        bench = Bench(
            Path(directory),
            repeats=options.repeats or (3 if options.quick else 5),
            seconds=options.seconds or (1.0 if options.quick else 2.0),
            quick=options.quick,
        )
        rows = asyncio.run(measure(bench, options, console))
    report.show(console, rows, bench.notes)
    if options.write_docs:
        drawn = page.write_plot(rows)
        if not drawn:
            console.print("The plot was not drawn: matplotlib is not installed (the extra `bench` has it)")
        page.write_page(bench, rows, (before, os.getloadavg()[0]), drawn)
        try:
            readme.write()
        except LookupError as missing:
            console.print(f"The README's figures are as they were: not measured: {missing}")
    mode = "quick" if options.quick else "full"
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
