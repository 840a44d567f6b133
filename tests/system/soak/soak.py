"""Play the load on a server and look at it in between, at rest."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from tests.serving import ServerProcess
from tests.system.soak.flat import Trend, trend
from tests.system.soak.load import Load

from stepwire.client import Client

__all__ = ["PIECES", "Report", "Sample", "look", "serving", "soak"]

PIECES = {"tasks": 3.0, "files": 3.0, "threads": 3.0}
"""How many more of what comes in pieces there may be after an hour."""

REST = 2.0
"""Seconds without load before a look: longer than runs stay in memory that only wait."""

FLOWS = Path(__file__).with_name("flows.py")


class Sample(NamedTuple):
    """The server at rest, `at` seconds after the load began.

    `memory` is the resident set in bytes without SQLite's pages: those, `cache`, fill up as the database does, to the
    size that the store allows them. `blocks` counts what Python's allocator has handed out.
    """

    at: float
    cache: float
    memory: float
    blocks: float
    tasks: float
    files: float
    threads: float


class Report(NamedTuple):
    """What was seen after the warm-up, and how often each scenario was played."""

    samples: list[Sample]
    played: Counter[str]

    def trends(self) -> dict[str, Trend]:
        """Return the trend of each series."""
        times = [sample.at for sample in self.samples]
        return {
            name: trend(times, [getattr(sample, name) for sample in self.samples], PIECES.get(name, 0.0))
            for name in Sample._fields[2:]
        }


def serving(folder: Path) -> ServerProcess:
    """Return a server of the soak's workflows, on SQLite, which keeps little and forgets soon."""
    names = ("Work", "Ask", "Fail", "Probe", "Leak")
    args = ["--idle-after", "1s", "--retention-runs", "100", "--grace", "1s", "--log-level", "warning"]
    return ServerProcess(folder, [f"{FLOWS}:{name}" for name in names], args=args)


async def look(client: Client, process: psutil.Process, began: float) -> Sample:
    """Look at the server; the least of three looks, as what just ended may take a moment to go."""
    seen = []
    for _ in range(3):
        inside = await (await client.start_run("Probe")).result(30)
        outside = process.memory_info().rss, process.num_fds(), process.num_threads()
        memory = outside[0] - inside["cache"]
        seen.append((inside["cache"], memory, inside["blocks"], inside["tasks"], *outside[1:]))
        await asyncio.sleep(0.1)
    return Sample(time.monotonic() - began, *(float(min(values)) for values in zip(*seen, strict=True)))


async def soak(
    server: ServerProcess,
    *,
    looks: int,
    warm_up: int = 0,
    every: float = 10.0,
    rest: float = REST,
    clients: int = 6,
    standing: int = 100,
    say: Callable[[str], object] = lambda text: None,
    also: Callable[[Client], Awaitable[None]] | None = None,
) -> Report:
    """Load a server, and look at it `looks` times after `warm_up` looks that do not count.

    `standing` runs wait all the time. Before each look there are `every` seconds of load, `also` when given, and `rest`
    seconds without load.
    """
    process = psutil.Process(server.pid)
    load = Load(server.address, clients)
    samples: list[Sample] = []
    async with Client(server.address) as client:
        try:
            await load.stand(standing)
            await load.all_once()
            await load.burst(4 * clients)
            await look(client, process, 0.0)
            began = time.monotonic()
            for number in range(warm_up + looks):
                await load.play(every)
                if also is not None:
                    await also(client)
                await asyncio.sleep(rest)
                sample = await look(client, process, began)
                warm = number < warm_up
                if not warm:
                    samples.append(sample)
                say(
                    f"{sample.at:7.0f} s  memory {sample.memory / 2**20:6.1f} MiB (+{sample.cache / 2**20:.1f})"
                    f"  blocks {sample.blocks:7.0f}"
                    f"  tasks {sample.tasks:3.0f}  files {sample.files:3.0f}  threads {sample.threads:3.0f}"
                    f"  scenarios {load.done.total():7d}{'  (warm-up)' if warm else ''}"
                )
        finally:
            await load.close()
    return Report(samples, load.done)
