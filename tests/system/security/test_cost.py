"""What access, limits and metrics cost, and what is left of a server that more want than it can serve."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.serving import ServerProcess
from tests.system.security.support import (
    FULL,
    METHODS,
    Keys,
    call,
    crowd,
    frames,
    requests_for,
    say,
    start_run,
    waiting,
)

SPEC = ["tests/system/security/flows.py:Asking=asking"]


def used(server: ServerProcess) -> float:
    """Return the processor seconds of a server, exactly: the clock of another process, as Linux numbers it."""
    return time.clock_gettime(~server.pid << 3 | 2)


class Caller:
    """A caller that asks a server for a run, again and again."""

    def __init__(self, server: ServerProcess, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self.server = server
        self.channel = grpc.aio.insecure_channel(server.address)
        self.metadata = metadata
        self.processor: list[float] = []
        """Seconds of the server's processor for a call, in each turn."""
        self.wall: list[float] = []
        """Seconds for a call, in each turn."""

    def forget(self) -> None:
        self.processor, self.wall = [], []

    async def start(self) -> None:
        run_id = await start_run(self.channel, metadata=self.metadata)
        await waiting(self.channel, run_id, self.metadata)
        self.request = frames(requests_for(run_id)["GetRun"])

    async def ask(self, metadata: Sequence[tuple[str, str]]) -> grpc.StatusCode:
        return (await call(self.channel, METHODS["GetRun"], self.request, metadata)).code

    async def take_turn(self, calls: int) -> None:
        async def one(_: int) -> None:
            assert await self.ask(self.metadata) is grpc.StatusCode.OK

        began, before = time.perf_counter(), used(self.server)
        await crowd(calls, 16, one)
        self.processor.append((used(self.server) - before) / calls)
        self.wall.append((time.perf_counter() - began) / calls)


async def compared(folder: Path, calls: int, turns: int) -> tuple[Caller, Caller]:
    """Let a server without access, limits and metrics and one with them answer in turns."""
    keys = Keys(folder.with_suffix(".toml"))
    metadata = keys.add("one", ["write:asking"])
    plain = ["--idle-after", "1h", "--watchdog", "0"]
    guards = [*plain, "--api-keys", str(keys.path), "--admin-address", "127.0.0.1:0"]
    unguarded = [sys.executable, "-m", "tests.system.security.unguarded"]
    with (
        ServerProcess(folder / "a", SPEC, args=plain, command=unguarded) as a,
        ServerProcess(folder / "b", SPEC, args=guards) as b,
    ):
        without, guarded = Caller(a), Caller(b, metadata)
        for caller in (without, guarded):
            await caller.start()
            await caller.take_turn(3 * calls)  # warms up
            caller.forget()
        for _ in range(turns):
            for caller in random.sample((without, guarded), 2):
                await caller.take_turn(calls)
        # Both are what they are said to be.
        assert await without.ask([("authorization", "Bearer nobody's")]) is grpc.StatusCode.OK
        assert await guarded.ask([]) is grpc.StatusCode.UNAUTHENTICATED
        await without.channel.close()
        await guarded.channel.close()
        return without, guarded


@pytest.mark.skipif(not FULL, reason="needs the machine for minutes: make security")
@pytest.mark.skipif(sys.platform != "linux", reason="reads the clock of another process")
@pytest.mark.timeout(900)
async def test_access_limits_and_metrics_cost_at_most_a_tenth_of_a_unary_call(tmp_path: Path):
    # In processor seconds of the server, so that nothing else on the machine counts. In many short turns, as what a
    # processor second is worth changes on a shared machine: each turn is compared with its neighbour. With several
    # pairs of servers, as one process has more luck with the memory that it gets than another.
    ratios, paces, costs = [], [], []
    for pair in range(6):
        without, guarded = await compared(tmp_path / str(pair), 300, 50)
        ratios += [one / other for one, other in zip(guarded.processor, without.processor, strict=True)]
        paces += [other / one for one, other in zip(guarded.wall, without.wall, strict=True)]
        costs += list(zip(without.processor, guarded.processor, strict=True))
        say(f"pair {pair}: {median(ratios[-len(guarded.processor) :]):.3f}")
    before, after = (median(cost[side] for cost in costs) * 1e6 for side in (0, 1))
    say(
        f"a unary call: {before:.0f} us of processor without access, limits and metrics, {after:.0f} with; "
        f"turn by turn {median(ratios):.3f} times, {median(paces):.3f} of the calls a second"
    )
    assert median(ratios) <= 1 / 0.9


@pytest.mark.skipif(not FULL, reason="needs the machine for half a minute: make security")
@pytest.mark.timeout(300)
async def test_three_times_too_much_leaves_most_of_the_peak(tmp_path: Path):
    clients, seconds = 64, 8.0
    start = frames(requests_for("")["StartRun"])
    with ServerProcess(tmp_path, SPEC, args=["--max-calls", str(clients), "--idle-after", "1h"]) as server:
        channels = [
            grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)
        ]

        async def load(number: int) -> tuple[int, int]:
            good = refused = 0
            until = time.monotonic() + seconds

            async def client(place: int) -> None:
                nonlocal good, refused
                while time.monotonic() < until:
                    answer = await call(channels[place % 4], METHODS["StartRun"], start, timeout=30)
                    if answer.code is grpc.StatusCode.OK:
                        good += 1
                        continue
                    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED, answer
                    again = error_details_pb2.RetryInfo()
                    assert answer.unpack(again)
                    refused += 1
                    await asyncio.sleep(again.retry_delay.ToMilliseconds() / 1000)

            await crowd(number, number, client)
            return good, refused

        await load(8)
        # In turns: what else the machine does, and the runs that there are by then, are not the overload's.
        peaks, overloads = [], []
        for _ in range(3):
            peaks.append((await load(clients))[0] / seconds)
            overloads.append([number / seconds for number in await load(3 * clients)])
            assert overloads[-1][1] > 0
        peak, (good, refused) = median(peaks), (median(each) for each in zip(*overloads, strict=True))
        say(f"peak {peak:.0f}/s; at 3x {good:.0f}/s, and {refused:.0f}/s refused; {peaks} {overloads}")
        assert good >= 0.8 * peak
        for channel in channels:
            await channel.close()
