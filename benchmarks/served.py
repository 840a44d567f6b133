"""Figures of the server beside a bare gRPC server that answers the same calls, and beside bare commits."""

import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from benchmarks.harness import Bench, Cpu, Row, Sample, Work, alternate, row
from benchmarks.load import OPTIONS, Caller, event, h2load, live, one_at_a_time, replay, saturate, start_request
from benchmarks.peer.loads import together
from benchmarks.servers import BEFORE, MEMORY, RAW, SQLITE, running, server, stepwire_server
from benchmarks.store import bare_commits

from stepwire.v1 import run_service_pb2 as runs

SUBSCRIBERS = 100

Load = Callable[[Bench, Caller, int], Awaitable[Work]]
"""Prepares a server, outside the measurement, for a number of events; returns the work that is measured."""


@dataclass(frozen=True, slots=True)
class Served:
    """A figure of both stores beside the raw server.

    Attributes:
        key: Its name; the one of the memory store has `_memory` behind it.
        targets: The ratios to reach on SQLite and in memory.
        limit: What the raw server does.
        bound: A latency on SQLite is held to so many raw ones and so many bare commits.
        sizes: How many events, in full and quick runs; `{count}` in the title.
        durable: The ratio of SQLite to memory to reach, in a row of its own.
    """

    key: str
    title: str
    load: Load
    targets: tuple[float | None, float | None]
    unit: str = "1/s"
    limit: str = "echo"
    bound: tuple[float, int] | None = None
    sizes: tuple[int, int] = (0, 0)
    durable: float | None = None

    async def __call__(self, bench: Bench) -> AsyncIterator[Row]:
        """Measure the servers in turn."""
        count = bench.scaled(*self.sizes)
        title = self.title.format(count=f"{count:,}")
        kinds = [RAW, SQLITE, MEMORY, *([BEFORE] if bench.beside else [])]
        async with running(bench, {kind: server(kind, bench) for kind in kinds}) as servers:
            works: dict[str, tuple[Cpu, Work]] = {
                kind: (each.cpu, await self.load(bench, each.caller, count)) for kind, each in servers.items()
            }
            with bare_commits(bench.data()) as commit:
                if self.bound:
                    works["commit"] = None, partial(one_at_a_time, commit, bench.seconds / 4)
                samples = await alternate(bench, title, works)
        durable, memory, raw = samples[SQLITE], samples[MEMORY], samples[RAW]
        limit, limits, note = self.limit, raw, ""
        if self.bound:
            factor, commits = self.bound
            limit = f"{factor:g} {self.limit} + {commits} commits"
            pairs = zip(raw, samples["commit"], strict=True)
            limits = [Sample(factor * echo.value + commits * bare.value, echo.cpu) for echo, bare in pairs]
            note = f"{self.limit} {milliseconds(raw)}, bare commit {milliseconds(samples['commit'])}"
        yield row(self.key, title, self.unit, limit, durable, limits, target=self.targets[0], note=note)
        told = f"{title} (memory)"
        yield row(f"{self.key}_memory", told, self.unit, self.limit, memory, raw, target=self.targets[1])
        if self.durable:
            told = f"{title.partition(' ')[0]}, SQLite beside memory"
            yield row(f"{self.key}_durable", told, self.unit, "memory store", durable, memory, target=self.durable)
        if bench.beside:
            told = f"{title}, beside {bench.beside.name}"
            yield row(f"{self.key}_beside", told, self.unit, BEFORE, durable, samples[BEFORE], guarded=False)


def milliseconds(samples: list[Sample]) -> str:
    """Return the median of times, for people."""
    return f"{median(sample.value for sample in samples) * 1000:.2f} ms"


async def _calls(method: str, bench: Bench, caller: Caller, count: int) -> Work:
    """Call a method for waiting runs, 64 in flight."""
    return partial(saturate, caller.each(method, await caller.start_many("Park")), bench.seconds)


async def _trivial(calls: Any, bench: Bench, caller: Caller, count: int) -> Work:
    """Start trivial runs and get their results."""
    return partial(calls, caller.run_to_end(), bench.seconds)


async def _h2load(bench: Bench, caller: Caller, count: int) -> Work:
    """Start trivial runs by a C client: one connection, 64 streams."""
    body = start_request("Trivial", wait=30).SerializeToString()
    framed = b"\0" + struct.pack(">I", len(body)) + body
    url = f"http://{caller.address}/stepwire.v1.RunService/StartRun"
    options = ["-c", "1", "-m", "64", "-H", "content-type:application/grpc", "-H", "te:trailers"]
    return partial(h2load, url, framed, count, *options)


async def _live(readers: int, bench: Bench, caller: Caller, count: int) -> Work:
    """Have streams read one run live: each event is encoded once for all of them."""
    return partial(live, caller, count, [partial(caller.read, channel=number) for number in range(readers)])


async def _replay(bench: Bench, caller: Caller, count: int) -> Work:
    """Read the stream of a run that has ended."""
    return partial(replay, await caller.written(count), count, caller.read)


async def _first_event(bench: Bench, caller: Caller, count: int) -> Work:
    """Start a run and follow it until its first event is here; the raw server answers one call."""

    async def ask(number: int) -> float:
        began = time.perf_counter()
        call = caller.stream(await caller.start("Talk"))
        seconds = 0.0
        async for frame in call:
            if not seconds and frame.events.entries:
                seconds = time.perf_counter() - began
        return seconds

    return partial(one_at_a_time, caller.run_to_end() if caller.raw else ask, bench.seconds / 2)


async def _converse(bench: Bench, caller: Caller, count: int) -> Work:
    """Answer a question of a run on its stream and get the next one."""

    async def work() -> tuple[float, int]:
        call = caller.runs.Converse()
        times: list[float] = []
        start = start_request("PingPong", b'{"count":%d}' % (count + 1))
        frame = runs.ConverseRequest(start=runs.ConverseStart(request=start, options=OPTIONS))
        for number in range(count + 1):
            began = time.perf_counter()
            await call.write(frame)
            while not (await call.read()).events.entries:  # AttributeError when the conversation has ended
                pass
            times.append(time.perf_counter() - began)
            answer = event("Answer", b'{"number":%d}' % number)
            frame = runs.ConverseRequest(send=runs.ConverseSend(request_id=f"answer-{number}", event=answer))
        call.cancel()
        return median(times[1:]), count

    return work


EVENTS, BATCHES, STREAMS = "events/s", "raw batches of 64", f"{SUBSCRIBERS} raw streams"
SUBSCRIBED = f"{SUBSCRIBERS} subscribers on one run, all together"
LATENCY = "start → result, one at a time, p50"
ANSWERED = "Converse ping-pong with an answer, p50"

SERVED = (
    Served("get_state", "GetState, 64 in flight", partial(_calls, "GetState"), (0.85, None)),
    Served(
        "send_event", "SendEvent acknowledged, 64 in flight", partial(_calls, "SendEvent"), (0.6, None), durable=0.6
    ),
    Served("trivial", "start → result, 64 in flight", partial(_trivial, saturate), (0.5, 0.7)),
    Served("latency", LATENCY, partial(_trivial, one_at_a_time), (1, None), "s", bound=(2, 3)),
    Served("live", "one run's stream, live", partial(_live, 1), (0.45, 0.6), EVENTS, BATCHES, sizes=(50_000, 20_000)),
    Served("replay", "replay of {count} events", _replay, (0.8, None), EVENTS, BATCHES, sizes=(100_000, 20_000)),
    Served("subscribers", SUBSCRIBED, partial(_live, SUBSCRIBERS), (0.8, None), EVENTS, STREAMS, sizes=(2_000, 500)),
    Served("first_event", "StartRun → first streamed event, p50", _first_event, (1, None), "s", bound=(2, 2)),
    Served("converse", ANSWERED, _converse, (1, None), "s", "raw bidi", (1.5, 2), (400, 150)),
    Served("h2load", "start → result, h2load, 64 streams", _h2load, (0.4, 0.55), sizes=(4000, 1000)),
)


async def commit_latency(bench: Bench) -> AsyncIterator[Row]:
    """Write an event to the stream of waiting runs, one at a time: what SQLite adds to the memory store's latency."""
    works: dict[str, tuple[Cpu, Work]] = {}
    async with running(bench, {kind: server(kind, bench) for kind in (SQLITE, MEMORY)}) as servers:
        for kind, each in servers.items():
            call = each.caller.each("PublishEvent", await each.caller.start_many("Park", 16))
            works[kind] = each.cpu, partial(one_at_a_time, call, bench.seconds / 2)
        with bare_commits(bench.data()) as one, bare_commits(bench.data(), runs=1) as same:
            for kind, commit in (("one", one), ("same", same)):
                works[kind] = None, partial(one_at_a_time, commit, bench.seconds / 4)
            samples = await alternate(bench, "a commit", works)
    pairs = zip(samples[SQLITE], samples[MEMORY], strict=True)
    added = [Sample(durable.value - memory.value) for durable, memory in pairs]
    title = "what a commit adds to PublishEvent, one at a time, p50"
    note = f"SQLite {milliseconds(samples[SQLITE])}, memory {milliseconds(samples[MEMORY])}"
    bare = "bare SQLite commit of"
    yield row("commit_latency", title, "s", f"{bare} the same rows", added, samples["same"], target=1.5, note=note)
    yield row("commit_latency_one_row", f"{title}, beside one row", "s", f"{bare} one row", added, samples["one"])


async def execution_log(bench: Bench) -> AsyncIterator[Row]:
    """Run durable chains without and with entries of attempts, one alone and many side by side."""
    levels = {level: stepwire_server(bench.data(), "--execution-log", level) for level in ("off", "all")}
    async with running(bench, levels) as servers:
        for number, steps in ((1, bench.scaled(2_000, 500)), (32, bench.scaled(200, 60))):

            async def chains(caller: Caller, number: int = number, steps: int = steps) -> tuple[float, int]:
                rate, runs = await together(caller.run_to_end("Chain", b'{"steps":%d}' % steps), range(number))
                return rate * steps, runs * steps

            title = f"steps of {number} durable chain{'s' * (number > 1)}, attempts logged"
            works = {level: (each.cpu, partial(chains, each.caller)) for level, each in servers.items()}
            off, logged = (await alternate(bench, title, works)).values()
            yield row(f"execution_log_{number}", title, "1/s", "none logged", logged, off, target=0.95, guarded=False)
