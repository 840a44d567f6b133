"""Measure servers that hold many runs: `python -m benchmarks.waiting 20000 --unfinished 10000`.

Memory with so many waiting runs resident and released, the time to start beside them and to answer one of them, and
the time to take up runs that were at work when their server was killed. A script of its own: it takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.load import Caller
from benchmarks.memory import settled
from benchmarks.servers import Process

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

MIB = 1 << 20


class Server(Process):
    """`stepwire serve`, until it listens, which took so many `seconds`."""

    def __init__(self, data: Path, *, idle_after: str = "24h") -> None:
        command = [
            sys.executable,
            "-m",
            "stepwire.cli",
            "serve",
            "benchmarks/workflows.py:Wait",
            "benchmarks/busy.py",
        ]
        command += ["--address", "127.0.0.1:0", "--data", str(data), "--idle-after", idle_after]
        began = time.perf_counter()
        super().__init__([*command, "--log-level", "warning"], "stepwire")
        self.seconds = time.perf_counter() - began


async def measure_waiting(data: Path, count: int) -> None:
    """Start runs that wait; say what they cost while resident, at a start, and once released."""
    with Server(data / "empty") as process:
        print(f"start with an empty database       {process.seconds:8.2f} s", flush=True)
    with Server(data / "waiting") as process:
        async with Caller.open(process.address) as caller:
            await caller.start_many("Wait", 200)
            before = await settled(process)
            began = time.perf_counter()
            await caller.start_many("Wait", count)
            seconds = time.perf_counter() - began
            after = await settled(process)
        print(f"{count:,} runs started in            {seconds:8.1f} s", flush=True)
        print(f"memory without them                {before / MIB:8.1f} MiB")
        print(f"memory with them resident          {after / MIB:8.1f} MiB, {(after - before) / count:,.0f} B each")
    with Server(data / "waiting", idle_after="2s") as process:
        print(f"start beside them                  {process.seconds:8.2f} s")
        print(f"memory after that start            {await settled(process) / MIB:8.1f} MiB", flush=True)
        async with Caller.open(process.address) as caller:
            listed = await caller.runs.ListRuns(runs.ListRunsRequest(page_size=1))
            run_id = listed.runs[0].run_id
            began = time.perf_counter()
            await caller.runs.SendEvent(runs.SendEventRequest(run_id=run_id, event=_answer()))
            await caller.ended(run_id)
            print(f"answer one of them, to its end     {(time.perf_counter() - began) * 1000:8.1f} ms", flush=True)
    with Server(data / "released", idle_after="2s") as process:
        async with Caller.open(process.address) as caller:
            await caller.start_many("Wait", count)
            await asyncio.sleep(3)  # longer than idle_after: what is measured is what is left then
            print(f"memory with them released          {await settled(process) / MIB:8.1f} MiB")
            first = await settled(process)
            await caller.start_many("Wait", count)
            await asyncio.sleep(3)
            more = await settled(process) - first
            print(f"memory that as many more add       {more / MIB:8.1f} MiB, {more / count:,.0f} B each", flush=True)


async def measure_recovery(data: Path, count: int) -> None:
    """Kill a server whose runs are all at work; say how long the next one takes to have them at work again."""
    process = Server(data / "busy")
    async with Caller.open(process.address) as caller:
        await caller.start_many("Busy", count)
    process.kill()
    with Server(data / "busy") as process:
        # It listens when it has taken up everything that has work.
        print(f"start with {count:,} runs to recover  {process.seconds:8.2f} s")
        print(f"memory then                        {await settled(process) / MIB:8.1f} MiB", flush=True)


def _answer() -> types.Event:
    return types.Event(type="Answer", payload=types.Payload(json=b"{}"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=100_000, help="runs that wait (100,000; 0: skip)")
    parser.add_argument("--unfinished", type=int, default=10_000, help="runs at work to recover (10,000; 0: skip)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if options.count:
            asyncio.run(measure_waiting(Path(directory), options.count))
        if options.unfinished:
            asyncio.run(measure_recovery(Path(directory), options.unfinished))


if __name__ == "__main__":
    main()
