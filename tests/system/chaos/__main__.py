"""Run chaos scenarios: `python -m tests.system.chaos [SCENARIO …] [--full] [--seed N] [--count N]`."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.chaos import scenarios
from tests.system.chaos.checker import check
from tests.system.chaos.families import families
from tests.system.chaos.history import read
from tests.system.chaos.report import Report, Unsupported
from tests.system.chaos.slow_disk import fdatasync


class Scenario(NamedTuple):
    """A scenario, the parameter that says how often, and its values for a short and for a full run."""

    run: Callable[..., Coroutine[Any, Any, Report]]
    parameter: str
    short: int
    full: int


SCENARIOS = {
    "sigkill": Scenario(scenarios.sigkill, "kills", 50, 1000),
    "failpoints": Scenario(scenarios.crash_at, "hits", 2, 20),
    "fdatasync": Scenario(fdatasync, "writes", 1000, 10_000),
    "lost_replies": Scenario(scenarios.lost_replies, "calls", 1000, 10_000),
    "stream_cuts": Scenario(scenarios.stream_cuts, "cuts", 500, 5000),
    "disk_full": Scenario(scenarios.disk_full, "rounds", 5, 50),
    "sigterm": Scenario(scenarios.sigterm, "restarts", 10, 100),
    "families": Scenario(families, "kills", 50, 1000),
    "mid_step": Scenario(scenarios.mid_step, "kills", 20, 2000),
}


def say(text: str) -> None:
    """Print progress."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(
    chosen: Mapping[str, Scenario] = SCENARIOS,
    program: str = "python -m tests.system.chaos",
    about: str = "Crashes, cuts and full disks against a real server.",
) -> int:
    """Run scenarios; 1 when a promise was broken."""
    listing = "\n".join(
        f"  {name:14}{item.short} {item.parameter}, in full {item.full}: {(item.run.__doc__ or '').splitlines()[0]}"
        for name, item in chosen.items()
    )
    parser = argparse.ArgumentParser(
        prog=program,
        description=about,
        epilog=f"scenarios:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="*", help="which to run; without any, all")
    parser.add_argument("--full", action="store_true", help="as often as the proof asks for")
    parser.add_argument("--count", type=int, help="how often, instead")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31), help="to repeat a run")
    parser.add_argument("--keep", type=Path, help="a directory for histories and logs, kept")
    parser.add_argument("--check", type=Path, nargs="+", metavar="FILE", help="only check the history in these files")
    options = parser.parse_args()
    if options.check:
        report = Report("check", {"files": len(options.check)}, check(read(*options.check)))
        say("\n".join(report.lines()))
        return int(bool(report.violations))
    if unknown := set(options.scenario) - set(chosen):
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    failed = False
    for name in options.scenario or chosen:
        failed |= not run(name, chosen[name], options)
    return int(failed)


def run(name: str, scenario: Scenario, options: argparse.Namespace) -> bool:
    """Run one scenario; tell whether every promise held."""
    count = options.count or (scenario.full if options.full else scenario.short)
    work = (options.keep or Path(tempfile.mkdtemp(prefix="stepwire-chaos-"))) / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    say(f"{name}: {count} {scenario.parameter}, --seed {options.seed}, in {work}")
    began = time.monotonic()
    try:
        arguments = {scenario.parameter: count, "seed": options.seed}
        report = asyncio.run(scenario.run(work, progress=lambda text: say(f"  {text}"), **arguments))
    except Unsupported as error:
        say(f"{name}: not run: {error}")
        return True
    say("\n".join([*report.lines(), f"  ({time.monotonic() - began:.0f} s)"]))
    if not report.violations and options.keep is None:
        shutil.rmtree(work)
    return not report.violations


if __name__ == "__main__":
    sys.exit(main())
