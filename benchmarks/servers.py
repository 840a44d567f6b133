"""The processes that are measured: start them, ask what they use, stop them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from benchmarks.measure import Bench

__all__ = ["MEMORY", "RAW", "SQLITE", "Process", "raw_server", "servers", "stepwire_server"]

RAW, SQLITE, MEMORY = "raw", "SQLite", "memory"

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0


class Process:
    """A server in a process of its own, as a context manager; `address` is where it says that it listens."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        self.name = name
        self._tail: deque[str] = deque(maxlen=30)
        self._ready = threading.Event()
        self.address = ""
        self._popen = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_SECONDS) or not self.address:
            self.stop()
            raise RuntimeError(f"{name} did not start: {' | '.join(self._tail)}")
        self._info = psutil.Process(self._popen.pid)

    def _read(self) -> None:
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            self._tail.append(line.rstrip())
            if not self.address and " listening on " in line:
                self.address = line.rsplit(" listening on ", 1)[1].strip()
                self._ready.set()
        self._ready.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used, all its threads together."""
        times = self._info.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Return its resident bytes."""
        return int(self._info.memory_info().rss)

    def kill(self) -> None:
        """End it as a crash does."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> None:
        """Ask it to end; kill it when it does not."""
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(20)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        self._reader.join(5)


def raw_server() -> Process:
    """Start the bare grpc.aio server."""
    return Process([sys.executable, "-m", "benchmarks.raw_server"], "raw grpc.aio")


def stepwire_server(
    data: str | Path, *, idle_after: str = "24h", workflows: Sequence[str] = ("benchmarks/workflows.py",)
) -> Process:
    """Start `stepwire serve` with the benchmarks' workflows; `data` is a directory or `:memory:`."""
    command = [sys.executable, "-m", "stepwire.cli", "serve", *workflows]
    command += ["--address", "127.0.0.1:0", "--data", str(data), "--idle-after", idle_after]
    command += ["--log-level", "warning"]
    return Process(command, "stepwire")


async def servers(bench: Bench, stack: AsyncExitStack) -> dict[str, Process]:
    """Start one of each kind; the stack stops them."""
    bench.say("starting servers")
    return {
        RAW: stack.enter_context(raw_server()),
        SQLITE: stack.enter_context(stepwire_server(bench.data())),
        MEMORY: stack.enter_context(stepwire_server(":memory:")),
    }
