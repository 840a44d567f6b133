"""The processes that are measured: start them, ask what they use, stop them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
from benchmarks.harness import Bench, UsesCpu
from benchmarks.load import Caller
from tests.serving import ROOT, ServerProcess

__all__ = [
    "BEFORE", "MEMORY", "RAW", "ROOT", "SQLITE", "Server", "Together", "WithChildren", "raw_server", "run_json",
    "start", "stepwire_server",
]  # fmt: skip

RAW, SQLITE, MEMORY, BEFORE = "raw", "SQLite", "memory", "another version"


class Server(ServerProcess):
    """A server in a process of its own, as a context manager; `seconds` is how long it took until it listened."""

    def start(self) -> Self:
        """Start it and wait until it listens."""
        began = time.perf_counter()
        super().start()
        self.seconds = time.perf_counter() - began
        self._info = psutil.Process(self.pid)
        return self

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used, all its threads together."""
        times = self._info.cpu_times()
        return float(times.user + times.system)

    @asynccontextmanager
    async def called(self) -> AsyncIterator[tuple[Self, Caller]]:
        """Start it, and open a channel to it."""
        with self:
            async with Caller.open(self.address) as caller:
                yield self, caller

    async def settled(self, quiet: float = 0.5) -> int:
        """Return its resident bytes once they and its CPU have come to rest for `quiet` seconds."""
        memory = int(self._info.memory_info().rss)
        for _ in range(60):
            cpu, before = self.cpu(), memory
            await asyncio.sleep(quiet)  # what is measured is whether anything happens meanwhile
            memory = int(self._info.memory_info().rss)
            if self.cpu() - cpu < 0.05 * quiet and abs(memory - before) < 64 * 1024:
                break
        return memory


class Together:
    """Several processes as one that uses CPU."""

    def __init__(self, *processes: UsesCpu) -> None:
        self._processes = processes

    def cpu(self) -> float:
        """Return the seconds of CPU that they have used."""
        return sum(process.cpu() for process in self._processes)


class WithChildren:
    """A process and its children, as one that uses CPU."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """Return the seconds of CPU that they have used. Those of a child that has ended are its parent's."""
        own = self._process.cpu_times()
        times = [own]
        for each in self._process.children():
            with suppress(psutil.NoSuchProcess):  # autovacuum's processes come and go
                times.append(each.cpu_times())
        return float(sum(each.user + each.system for each in times) + own.children_user + own.children_system)


def stepwire_server(
    data: str | Path,
    *,
    idle_after: str = "24h",
    workflows: str = "benchmarks/peer/flows.py",
    args: Sequence[str] = (),
) -> Server:
    """Return `stepwire serve` with the benchmarks' workflows; `data` is a directory or `:memory:`."""
    options = ["--idle-after", idle_after, "--log-level", "warning", *args]
    return Server(data, [workflows], args=options, timeout=60)


def raw_server(frames: Path | None = None) -> Server:
    """Return the bare gRPC server; with a file of frames, one whose streams have those."""
    args = [] if frames is None else [str(frames)]
    return Server(":memory:", [], args=args, command=[sys.executable, "-m", "benchmarks.raw_server"])


def start(kind: str, bench: Bench) -> Server:
    """Return the bare gRPC server, or Stepwire on SQLite or in memory, or that of `bench.beside` on SQLite."""
    bench.say(f"starting a server: {kind}")
    if kind == BEFORE:
        assert bench.beside is not None
        command, args = [str(bench.beside / ".venv/bin/stepwire")], ["--idle-after", "24h", "--log-level", "warning"]
        # Versions before the web know no option that turns it off.
        return Server(bench.data(), ["benchmarks/peer/flows.py"], args=args, command=command, web=(), timeout=60)
    return raw_server() if kind == RAW else stepwire_server(bench.data() if kind == SQLITE else ":memory:")


async def run_json(command: Sequence[str], seconds: float) -> Any:
    """Run a program and return the JSON that it prints last. RuntimeError, also when it takes too long."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)
    try:
        output, error = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        raise RuntimeError(f"not done after {seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = error.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(last[0] if last else f"exit code {process.returncode}")
    lines = output.decode().strip().splitlines()
    return json.loads(lines[-1]) if lines else None
