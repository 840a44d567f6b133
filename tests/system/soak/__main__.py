"""Soak a server: `python -m tests.system.soak [--minutes N] [--warm-up N]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.system.soak import flat
from tests.system.soak.soak import REST, Report, serving, soak


def say(text: str) -> None:
    """Print progress."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(report: Report) -> str:
    """Return the trends as a table, with the verdict on each."""
    lines = [f"{'':8}{'first':>12}{'last':>12}{'rise/h':>12}{'at least':>12}{'allowed':>12}"]
    for name, trend in report.trends().items():
        scale, digits = (2**20, 2) if name == "memory" else (1, 1)
        numbers = "".join(f"{value / scale:12.{digits}f}" for value in trend)
        lines.append(f"{name:8}{numbers}  {'flat' if trend.flat else 'RISES'}{'  (MiB)' if name == 'memory' else ''}")
    return "\n".join(lines)


def main() -> int:
    """Soak a server; 1 when something rises."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.soak",
        description=flat.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long to measure")
    parser.add_argument("--warm-up", type=float, default=8.0, help="minutes before that are not measured")
    parser.add_argument("--every", type=float, default=10.0, help="seconds of load between two looks")
    parser.add_argument("--clients", type=int, default=6, help="connections that play at the same time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stepwire-soak-") as folder, serving(Path(folder)) as server:
        per_minute = 60 / (options.every + REST)
        report = asyncio.run(
            soak(
                server,
                looks=round(options.minutes * per_minute),
                warm_up=round(options.warm_up * per_minute),
                every=options.every,
                clients=options.clients,
                say=say,
            )
        )
    say("")
    say(", ".join(f"{name} {number}" for name, number in sorted(report.played.items())))
    say(table(report))
    return int(not all(trend.flat for trend in report.trends().values()))


if __name__ == "__main__":
    sys.exit(main())
