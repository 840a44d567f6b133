"""What is done to a server, with how often as a parameter; each writes a history and has it checked."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.checker import Checker, Violation
from tests.chaos.clients import Crowd
from tests.chaos.history import History, read
from tests.chaos.reader import finals
from tests.chaos.server import ServerProcess

Progress = Callable[[str], None]


@dataclass
class Report:
    """What came of a scenario: what was measured, and every broken promise."""

    scenario: str
    measured: dict[str, Any] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return it for people."""
        text = ", ".join(f"{name} {value}" for name, value in self.measured.items())
        lines = [f"{self.scenario}: {text}; {len(self.violations)} violations"]
        return lines + [f"  {violation}" for violation in self.violations[:50]]


def quiet(text: str) -> None:
    """Show no progress."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def verdict(name: str, history: History, server: ServerProcess, **measured: Any) -> Report:
    """Have the history checked."""
    history.close()
    checker = Checker().feed(read(history.path, server.effects))
    violations = checker.finish()
    counts = checker.counts
    measured |= {
        "acknowledged": counts["acknowledged"],
        "unknown": counts["unknown"],
        "runs": counts["final"],
        "batches": counts["batch"],
        "effects": counts["effect"],
    }
    return Report(name, measured, violations)


async def sigkill(
    work: Path, *, kills: int = 50, clients: int = 8, seed: int = 0, progress: Progress = quiet, pause: float = 0.01
) -> Report:
    """SIGKILL the server at random moments under clients that start runs, send events and set state."""
    rng = random.Random(f"sigkill/{seed}")
    server = ServerProcess(work)
    history = History(work / "history.jsonl")
    recoveries: list[float] = []
    server.spawn()
    await server.ready()
    try:
        async with Crowd(history, server.address, seed, clients=clients, pause=pause):
            for number in range(kills):
                if rng.random() < 0.1:
                    await asyncio.sleep(rng.uniform(0.0, 1.0))  # also while it starts
                else:
                    recoveries.append(await server.ready())
                    await asyncio.sleep(rng.uniform(0.0, 0.5))
                server.kill()
                history.add("kill", start=time.time())
                server.spawn()
                if number % 50 == 49:
                    progress(f"{number + 1} kills, recovery p99 {percentile(recoveries, 0.99):.2f} s")
            recoveries.append(await server.ready())
        await finals(server.address, history)
    finally:
        server.kill()
    return verdict(
        "sigkill",
        history,
        server,
        seed=seed,
        kills=kills,
        recovery_p50=round(percentile(recoveries, 0.5), 3),
        recovery_p99=round(percentile(recoveries, 0.99), 3),
    )
