"""The servers that are measured: start them, call them, ask what they use, stop them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil
from benchmarks.harness import Bench
from benchmarks.load import Caller, saturate
from tests.serving import ServerProcess

RAW, SQLITE, MEMORY, BEFORE = "raw", "SQLite", "memory", "another version"
FLOWS = "benchmarks/peer/flows.py"
WARM = 0.3
"""Seconds of calls before anything is measured: connections, caches."""


class Processes:
    """Processes and their children, as one that uses CPU."""

    def __init__(self, *pids: int) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]

    def cpu(self) -> float:
        """Return the seconds of CPU that they have used. Those of a child that has ended are its parent's."""
        used = 0.0
        for process in self._processes:
            used += sum(process.cpu_times()[:4])
            for child in process.children():
                with suppress(psutil.NoSuchProcess):  # autovacuum's processes come and go
                    used += sum(child.cpu_times()[:2])
        return used


class Server(ServerProcess):
    """A server in a process of its own, as a context manager; `seconds` is how long it took until it listened."""

    raw = False

    def start(self) -> Self:
        """Start it and wait until it listens."""
        began = time.perf_counter()
        super().start()
        self.seconds = time.perf_counter() - began
        self.cpu = Processes(self.pid).cpu
        return self

    @asynccontextmanager
    async def called(self) -> AsyncIterator[Side]:
        """Start it, and open channels to it."""
        with self:
            async with Caller.open(self.address, self.raw) as caller:
                yield Side(self, caller)

    async def settled(self, quiet: float = 0.5) -> int:
        """Return its resident bytes once they and its CPU have come to rest for `quiet` seconds."""
        process, memory = psutil.Process(self.pid), 0
        for _ in range(60):
            cpu, before = self.cpu(), memory
            await asyncio.sleep(quiet)  # what is measured is whether anything happens meanwhile
            memory = int(process.memory_info().rss)
            if self.cpu() - cpu < 0.05 * quiet and abs(memory - before) < 64 * 1024:
                break
        return memory


class Side(NamedTuple):
    """A server and its client."""

    server: Server
    caller: Caller


def stepwire_server(
    data: str | Path, *args: str, workflows: Sequence[str] = (FLOWS,), idle_after: str = "24h", **more: Any
) -> Server:
    """Return `stepwire serve` with the benchmarks' workflows; `data` is a directory, an address or `:memory:`."""
    options = ["--idle-after", idle_after, "--log-level", "warning", *args]
    return Server(data, workflows, args=options, **more)


def raw_server(*frames: Path) -> Server:
    """Return the bare gRPC server; with a file of frames, one whose streams have those."""
    command = [sys.executable, "-m", "benchmarks.raw_server"]
    server = Server(":memory:", [], args=[str(file) for file in frames], command=command)
    server.raw = True
    return server


def server(kind: str, bench: Bench) -> Server:
    """Return the bare gRPC server, or Stepwire on SQLite or in memory, or that of `bench.beside` on SQLite."""
    if kind == BEFORE:
        # Versions before the web know no option that turns it off.
        return stepwire_server(bench.data(), command=[f"{bench.beside}/.venv/bin/stepwire"], web=())
    return raw_server() if kind == RAW else stepwire_server(bench.data() if kind == SQLITE else ":memory:")


@asynccontextmanager
async def running(bench: Bench, servers: Mapping[str, Server]) -> AsyncIterator[dict[str, Side]]:
    """Start servers and call each for a moment."""
    async with AsyncExitStack() as stack:
        sides = {}
        for name, each in servers.items():
            bench.say(f"starting a server: {name}")
            sides[name] = await stack.enter_async_context(each.called())
            await saturate(sides[name].caller.run_to_end(), WARM)
        yield sides
