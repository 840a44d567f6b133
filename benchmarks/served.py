"""Figures of the server beside a bare gRPC server that answers the same calls, and beside bare commits."""

from __future__ import annotations

import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import grpc.aio
from benchmarks.harness import Bench, Measure, Row, Sample, Work, alternate, cost, row
from benchmarks.load import OPTIONS, Caller, event, h2load, live, one_at_a_time, replay, saturate, shared, start_request
from benchmarks.servers import BEFORE, MEMORY, RAW, SQLITE, running, server, stepwire_server
from benchmarks.store import BareCommits

from stepwire.v1 import run_service_pb2 as runs

SUBSCRIBERS = 100

Load = Callable[[Bench, Caller, int], Awaitable[Work]]
"""Prepares a server, outside the measurement, for a number of events; returns the work that is measured."""


@dataclass(frozen=True, slots=True)
class Served:
    """A figure of both stores beside the raw server.

    Attributes:
        key: Its name; the one of the memory store has `_memory` behind it.
        title: What it is; `{count}` is replaced.
        load: What is measured.
        targets: The ratios to reach on SQLite and in memory.
        unit: That of its value; `s` for a latency.
        limit: What the raw server does.
        bound: A latency on SQLite is held to so many raw ones and so many bare commits.
        sizes: How many events, in full and quick runs.
        durable: The ratio of SQLite to memory to reach, in a row of its own.
    """

    key: str
    title: str
    load: Load
    targets: tuple[float | None, float | None] = (None, None)
    unit: str = "1/s"
    limit: str = "echo"
    bound: tuple[float, int] | None = None
    sizes: tuple[int, int] = (0, 0)
    durable: float | None = None

    async def __call__(self, bench: Bench) -> list[Row]:
        """Measure the servers in turn."""
        count = bench.scaled(*self.sizes)
        title = self.title.format(count=f"{count:,}")
        kinds = [RAW, SQLITE, MEMORY, *([BEFORE] if bench.beside else [])]
        async with running(bench, {kind: server(kind, bench) for kind in kinds}) as sides:
            measures: dict[str, Measure] = {}
            for kind, side in sides.items():
                measures[kind] = partial(cost, side.server, await self.load(bench, side.caller, count))
            with BareCommits(bench.data()) as commits:
                if self.bound:
                    measures["commit"] = commits.measure(bench.seconds / 4)
                samples = await alternate(bench, title, measures)
        rows = self._rows(title, samples)
        if earlier := samples.get(BEFORE):
            told, ours = f"{title}, beside {bench.beside and bench.beside.name}", samples[SQLITE]
            rows.append(row(f"{self.key}_beside", told, self.unit, BEFORE, ours, earlier, earlier, guarded=False))
        return rows

    def _rows(self, title: str, samples: dict[str, list[Sample]]) -> list[Row]:
        durable, memory, raw = samples[SQLITE], samples[MEMORY], samples[RAW]
        limit, limits, note = self.limit, raw, ""
        if self.bound:
            factor, commits = self.bound
            limit = f"{factor:g} {self.limit} + {commits} commits"
            pairs = zip(raw, samples["commit"], strict=True)
            limits = [Sample(factor * echo.value + commits * bare.value) for echo, bare in pairs]
            note = f"{self.limit} {milliseconds(raw)}, bare commit {milliseconds(samples['commit'])}"
        of_both, unit = self.targets, self.unit
        rows = [
            row(self.key, title, unit, limit, durable, limits, raw, target=of_both[0], note=note),
            row(f"{self.key}_memory", f"{title} (memory)", unit, self.limit, memory, raw, raw, target=of_both[1]),
        ]
        if self.durable:
            told = f"{title.partition(' ')[0]}, SQLite beside memory"
            rows.append(row(f"{self.key}_durable", told, unit, "memory store", durable, memory, target=self.durable))
        return rows


def milliseconds(samples: list[Sample]) -> str:
    """Return the median of times, for people."""
    return f"{median(sample.value for sample in samples) * 1000:.2f} ms"


# -- what is measured -------------------------------------------------------------------------------------------------


def _calls(method: str) -> Load:
    """Call a method for waiting runs, 64 in flight."""

    async def load(bench: Bench, caller: Caller, count: int) -> Work:
        return partial(saturate, caller.each(method, await caller.start_many("Park")), bench.seconds)

    return load


async def _trivial(bench: Bench, caller: Caller, count: int) -> Work:
    """Start trivial runs and get their results, 64 in flight."""
    return partial(saturate, caller.run_to_end(), bench.seconds)


async def _latency(bench: Bench, caller: Caller, count: int) -> Work:
    """Start trivial runs and get their results, one after the other."""
    return partial(one_at_a_time, caller.run_to_end(), bench.seconds / 2)


async def _h2load(bench: Bench, caller: Caller, count: int) -> Work:
    """Start trivial runs by a C client: one connection, 64 streams."""
    body = start_request("Trivial", wait=30).SerializeToString()
    file = bench.directory / "request.grpc"
    file.write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
    url = f"http://{caller.address}/stepwire.v1.RunService/StartRun"
    options = ["-c", "1", "-m", "64", "-H", "content-type:application/grpc", "-H", "te:trailers"]
    return partial(h2load, url, file, count, *options)


def _live(readers: int) -> Load:
    """Have streams read one run live: each event is encoded once for all of them."""

    async def load(bench: Bench, caller: Caller, count: int) -> Work:
        return partial(live, caller, count, [partial(caller.read, channel=number) for number in range(readers)])

    return load


async def _replay(bench: Bench, caller: Caller, count: int) -> Work:
    bench.say(f"replay: writing {count:,} events")
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
        start = start_request("PingPong", b'{"count":%d}' % (count + 1))
        await call.write(runs.ConverseRequest(start=runs.ConverseStart(request=start, options=OPTIONS)))
        await _next_question(call)
        times: list[float] = []
        for number in range(count):
            answer = event("Answer", b'{"number":%d}' % number)
            frame = runs.ConverseRequest(send=runs.ConverseSend(request_id=f"answer-{number}", event=answer))
            began = time.perf_counter()
            await call.write(frame)
            await _next_question(call)
            times.append(time.perf_counter() - began)
        call.cancel()
        return median(times), count

    return work


async def _next_question(call: Any) -> None:
    """Read until a frame with a question."""
    while (frame := await call.read()) is not grpc.aio.EOF:
        if frame.HasField("events") and frame.events.entries:
            return
    raise RuntimeError("a conversation ended early")


EVENTS, BATCHES, STREAMS = "events/s", "raw batches of 64", f"{SUBSCRIBERS} raw streams"
SUBSCRIBED = f"{SUBSCRIBERS} subscribers on one run, all together"
ANSWERED = "Converse ping-pong with an answer, p50"

SERVED = (
    Served("get_state", "GetState, 64 in flight", _calls("GetState"), (0.85, None)),
    Served("send_event", "SendEvent acknowledged, 64 in flight", _calls("SendEvent"), (0.6, None), durable=0.6),
    Served("trivial", "start → result, 64 in flight", _trivial, (0.5, 0.7)),
    Served("latency", "start → result, one at a time, p50", _latency, (1, None), "s", bound=(2, 3)),
    Served("live", "one run's stream, live", _live(1), (0.45, 0.6), EVENTS, BATCHES, sizes=(50_000, 20_000)),
    Served("replay", "replay of {count} events", _replay, (0.8, None), EVENTS, BATCHES, sizes=(100_000, 20_000)),
    Served("subscribers", SUBSCRIBED, _live(SUBSCRIBERS), (0.8, None), EVENTS, STREAMS, sizes=(2_000, 500)),
    Served("first_event", "StartRun → first streamed event, p50", _first_event, (1, None), "s", bound=(2, 2)),
    Served("converse", ANSWERED, _converse, (1, None), "s", "raw bidi", (1.5, 2), (400, 150)),
    Served("h2load", "start → result, h2load, 64 streams", _h2load, (0.4, 0.55), sizes=(4000, 1000)),
)


# -- what a commit, and a log of attempts, add ------------------------------------------------------------------------


async def commit_latency(bench: Bench) -> list[Row]:
    """Write an event to the stream of waiting runs, one at a time: what SQLite adds to the memory store's latency."""
    seconds = bench.seconds
    async with running(bench, {kind: server(kind, bench) for kind in (SQLITE, MEMORY)}) as sides:
        measures: dict[str, Measure] = {}
        for kind, (process, caller) in sides.items():
            call = caller.each("PublishEvent", await caller.start_many("Park", 16))
            measures[kind] = partial(cost, process, partial(one_at_a_time, call, seconds / 2))
        with BareCommits(bench.data()) as one, BareCommits(bench.data(), runs=1) as same:
            bare = {"one": one.measure(seconds / 4), "same": same.measure(seconds / 4)}
            samples = await alternate(bench, "a commit", measures | bare)
    pairs = zip(samples[SQLITE], samples[MEMORY], strict=True)
    added = [Sample(durable.value - memory.value) for durable, memory in pairs]
    title = "what a commit adds to PublishEvent, one at a time, p50"
    note = f"SQLite {milliseconds(samples[SQLITE])}, memory {milliseconds(samples[MEMORY])}"
    same_rows, one_row = "bare SQLite commit of the same rows", "bare SQLite commit of one row"
    return [
        row("commit_latency", title, "s", same_rows, added, samples["same"], target=1.5, note=note),
        row("commit_latency_one_row", f"{title}, beside one row", "s", one_row, added, samples["one"]),
    ]


async def execution_log(bench: Bench) -> list[Row]:
    """Run durable chains without and with entries of attempts, one alone and many side by side."""
    rows: list[Row] = []
    levels = {level: stepwire_server(bench.data(), "--execution-log", level) for level in ("off", "all")}
    async with running(bench, levels) as sides:
        for number, steps in ((1, bench.scaled(2_000, 500)), (32, bench.scaled(200, 60))):

            async def chains(caller: Caller, number: int = number, steps: int = steps) -> tuple[float, int]:
                rate, _ = await shared(caller.run_to_end("Chain", b'{"steps":%d}' % steps), number, number)
                return rate * steps, number * steps

            measures = {
                level: partial(cost, side.server, partial(chains, side.caller)) for level, side in sides.items()
            }
            title = f"steps of {number} durable chain{'s' * (number > 1)}, attempts logged"
            found = await alternate(bench, title, measures)
            both = found["all"], found["off"]
            rows.append(row(f"execution_log_{number}", title, "1/s", "none logged", *both, target=0.95, guarded=False))
    return rows
