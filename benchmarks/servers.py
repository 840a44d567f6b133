"""The servers that are measured: start them, call them, ask what they use, stop them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
from benchmarks.harness import Bench
from benchmarks.load import Caller, saturate
from tests.serving import ServerProcess

RAW, SQLITE, MEMORY, BEFORE = "raw", "SQLite", "memory", "another version"
FLOWS = "benchmarks/peer/flows.py"
WARM = 0.3
"""Seconds of calls before anything is measured: connections, caches."""


def cpu_of(*pids: int) -> float:
    """Return the seconds of CPU of processes and their children. Those of a child that has ended are its parent's."""
    used = 0.0
    for process in map(psutil.Process, pids):
        used += sum(process.cpu_times()[:4])
        for child in process.children():
            with suppress(psutil.NoSuchProcess):  # autovacuum's processes come and go
                used += sum(child.cpu_times()[:2])
    return used


class Server(ServerProcess):
    """A server in a process of its own, as a context manager; `called` has its client."""

    raw = False
    caller: Caller

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        return cpu_of(self.pid)

    @asynccontextmanager
    async def called(self) -> AsyncIterator[Self]:
        """Start it, and open channels to it."""
        with self:
            async with aclosing(Caller(self.address, self.raw)) as self.caller:
                yield self

    async def settled(self, quiet: float = 0.5, *others: int) -> int:
        """Return its resident bytes once they, its CPU and that of other processes rest for `quiet` seconds."""
        memory = 0
        for _ in range(60):
            cpu, before = cpu_of(self.pid, *others), memory
            await asyncio.sleep(quiet)  # what is measured is whether anything happens meanwhile
            memory = int(psutil.Process(self.pid).memory_info().rss)
            if cpu_of(self.pid, *others) - cpu < 0.05 * quiet and abs(memory - before) < 64 * 1024:
                break
        return memory


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
async def running(bench: Bench, servers: Mapping[str, Server]) -> AsyncIterator[Mapping[str, Server]]:
    """Start servers and call each for a moment."""
    async with AsyncExitStack() as stack:
        for name, each in servers.items():
            bench.say(f"starting a server: {name}")
            await stack.enter_async_context(each.called())
            await saturate(each.caller.run_to_end(), WARM)
        yield servers
