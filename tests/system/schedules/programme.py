"""Kill a server again and again while its schedules start runs: each due time must start exactly one.

In each round six schedules are created; most are due each second, until the round ends. The server dies by SIGKILL at
random moments, mostly while it acts on what passed meanwhile. At the end of a round the runs are compared with the due
times that there were, and with what the schedules count.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.serving import ServerProcess

from stepwire.client import Every, InvalidArgumentError, Schedule, ScheduleSpec, SyncClient

__all__ = ["Report", "programme"]

FLOWS = Path(__file__).with_name("flows.py")
_WINDOW = timedelta(days=300)
_SETTLE_SECONDS = 600.0
_ROUND = timedelta(seconds=12)
SECOND = Every(timedelta(seconds=1))
SCHEDULES: dict[str, tuple[str, Every, str]] = {
    "anyway": ("tick", SECOND, "start_anyway"),
    "queued": ("tick", SECOND, "queue_all"),
    "skipped": ("slow", SECOND, "skip"),
    "one": ("slow", SECOND, "queue_one"),
    "cancelled": ("slow", SECOND, "cancel_running"),
    "seldom": ("tick", Every(timedelta(seconds=5)), "start_anyway"),
}
"""The workflow, the times and the policy of each schedule."""


@dataclass
class Report:
    """What came of it.

    Attributes:
        kills: How often the server was killed.
        due_times: How many due times there were.
        runs: How many runs they started, by schedule.
        violations: What must not have been.
    """

    kills: int = 0
    due_times: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return it as lines."""
        runs = ", ".join(f"{count} of {name}" for name, count in self.runs.items())
        told = f"{self.kills} kills, {self.due_times} due times, runs: {runs}"
        return [told, *(f"VIOLATION {each}" for each in self.violations)]


def programme(folder: Path, *, kills: int, seed: int, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Run the programme in a folder, and return what came of it.

    Args:
        folder: Where the data are kept.
        kills: How often the server is killed, at least.
        seed: Makes the moments of the kills.
        progress: Takes what came of it until then, after each round.
    """
    chance = random.Random(seed)
    report = Report()
    specs = [f"{FLOWS}:Tick=tick", f"{FLOWS}:Slow=slow"]
    server = ServerProcess(folder / "data", specs, args=["--grace", "0s"], timeout=120.0)
    server.start()
    try:
        with SyncClient(server.address, timeout=120.0) as client:
            rounds = 0
            while report.kills < kills:
                rounds += 1
                end = datetime.now(UTC) + _ROUND
                names = _create(client, rounds, end)
                while names and datetime.now(UTC) < end:
                    time.sleep(chance.choice((0.02, 0.2, 1.0)) * chance.random() * 2)
                    server.kill()
                    report.kills += 1
                    server.start()
                for name in names:
                    _settle(client, name)
                    _check(client, name, report)
                progress("\n".join(report.lines()))  # violations too: a programme that is stopped has told them
    finally:
        server.kill()
    return report


def _create(client: SyncClient, number: int, end: datetime) -> list[str]:
    """Create the schedules of a round, and return their ids: fewer if the machine is so busy that the round is over."""
    made: list[str] = []
    for name, (workflow, when, overlap) in SCHEDULES.items():
        spec = ScheduleSpec(workflow, when, overlap=overlap, catch_up_window=_WINDOW, end_time=end)
        try:
            made.append(client.schedules.create(f"{name}-{number}", spec).schedule_id)
        except InvalidArgumentError:
            if datetime.now(UTC) < end - when.interval:
                raise
    return made


def _settle(client: SyncClient, name: str) -> None:
    """Wait until a schedule has acted on all of its due times, and the runs have ended that they waited for."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (found := client.schedules.get(name)).next_times or found.queued:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} has not acted on all that passed: {found}")
        time.sleep(0.1)


def _check(client: SyncClient, name: str, report: Report) -> None:
    """Compare the runs of a schedule with its due times."""
    found = client.schedules.get(name)
    runs = list(client.list_runs(schedule=name, page_size=1000))
    counts, kind = found.counts, name.partition("-")[0]
    report.due_times += (total := _total(found))
    report.runs[kind] += len(runs)
    bad = report.violations.append
    due = Counter(info.schedule.due_time for info in runs if info.schedule)
    if twice := [each for each, number in due.items() if number > 1]:
        bad(f"{name}: {len(twice)} due times have several runs, such as {twice[0]}")
    if counts.started != len(runs):
        bad(f"{name}: it counts {counts.started} runs and has {len(runs)}")
    if counts.failed or counts.missed:
        bad(f"{name}: {counts.failed} due times failed, {counts.missed} were missed: {found.last_failure}")
    if counts.started + counts.skipped != total:
        bad(f"{name}: of {total} due times {counts.started} started a run and {counts.skipped} were skipped")
    if found.spec.overlap in ("start_anyway", "queue_all") and counts.started != total:
        bad(f"{name}: {total - counts.started} due times started nothing")
    if lost := [info.run_id for info in runs if not info.ended and info.run_id not in found.running]:
        bad(f"{name}: it has lost sight of {lost[0]}")


def _total(found: Schedule) -> int:
    """Return how many due times there were from the creation to the end."""
    assert found.created_at is not None
    assert found.spec.end_time is not None
    assert isinstance(found.spec.when, Every)
    step = found.spec.when.interval.total_seconds()
    return math.ceil(found.spec.end_time.timestamp() / step) - 1 - math.floor(found.created_at.timestamp() / step)
