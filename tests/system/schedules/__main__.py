"""Run the kill programme: `python -m tests.system.schedules --count 1000 --seed 1`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.system.schedules.programme import programme


def say(line: str) -> None:
    """Tell the progress."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.system.schedules", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="How often the server is killed.")
    parser.add_argument("--seed", type=int, default=1, help="Makes the moments of the kills.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stepwire-schedules-") as folder:
        report = programme(Path(folder), kills=options.count, seed=options.seed, progress=say)
    sys.stdout.write("\n".join([*report.lines(), ""]))
    sys.exit(1 if report.violations else 0)
