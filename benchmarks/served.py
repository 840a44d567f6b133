"""Figures of the server beside a bare gRPC server that answers the same calls, and beside bare commits."""

from __future__ import annotations

import asyncio
import re
import shutil
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import grpc.aio
from benchmarks.harness import Bench, Measure, Row, Sample, Work, alternate, cost, row
from benchmarks.load import OPTIONS, Caller, event, live, one_at_a_time, replay, saturate, shared, start_request
from benchmarks.processes import BEFORE, MEMORY, RAW, SQLITE, Server, start, stepwire_server
from benchmarks.store import BareCommits

from stepwire.v1 import run_service_pb2 as runs

__all__ = ["SERVED", "commit_latency", "execution_log"]

CHANNELS = 4
SUBSCRIBERS = 100
SMALLEST_ANSWER = 100
"""Bytes that an answer to StartRun has at least."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the servers that a figure measures, and the channels to it."""

    bench: Bench
    process: Server
    callers: list[Caller]

    @property
    def caller(self) -> Caller:
        """Return the first channel's."""
        return self.callers[0]


Load = Callable[[Side, int], Awaitable[Work]]
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
        program: What must be installed, and in which package of Debian it is.
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
    program: tuple[str, str] | None = None

    async def __call__(self, bench: Bench) -> list[Row]:
        """Measure the servers in turn."""
        if self.program is not None and shutil.which(self.program[0]) is None:
            name, package = self.program
            bench.notes.append(f"{name} is not installed (Debian: {package}): the figures under {name} were skipped")
            return []
        count = bench.scaled(*self.sizes)
        title = self.title.format(count=f"{count:,}")
        measures: dict[str, Measure] = {}
        async with AsyncExitStack() as stack:
            for kind in (RAW, SQLITE, MEMORY, *([BEFORE] if bench.beside else [])):
                process = stack.enter_context(start(kind, bench))
                opened = [Caller.open(process.address, kind == RAW) for _ in range(CHANNELS)]
                callers = [await stack.enter_async_context(each) for each in opened]
                await saturate(callers[0].run_trivial(), 0.3)  # connections, caches
                measures[kind] = partial(cost, process, await self.load(Side(bench, process, callers), count))
            if self.bound:
                measures["commit"] = stack.enter_context(BareCommits(bench.data())).measure(bench.seconds / 4)
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


def _calls(method: str = "", *, one_by_one: bool = False) -> Load:
    """Call a method, or start trivial runs: 64 in flight, or one after the other."""

    async def load(side: Side, count: int) -> Work:
        caller = side.caller
        call = caller.each(method, await caller.parked()) if method else caller.run_trivial()
        if one_by_one:
            return partial(one_at_a_time, call, side.bench.seconds / 2)
        return partial(saturate, call, side.bench.seconds)

    return load


async def _h2load(side: Side, calls: int) -> Work:
    """Start trivial runs by a C client: one connection, 64 streams."""
    body = start_request("Trivial", wait=30).SerializeToString()
    file = side.bench.directory / "request.grpc"
    file.write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
    url = f"http://{side.process.address}/stepwire.v1.RunService/StartRun"
    command = f"h2load -n {calls} -c 1 -m 64 -t 1 -H content-type:application/grpc -H te:trailers".split()

    async def work() -> tuple[float, int]:
        process = await asyncio.create_subprocess_exec(*command, "-d", str(file), url, stdout=asyncio.subprocess.PIPE)
        output = (await process.communicate())[0].decode()
        rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
        succeeded = re.search(r"(\d+) succeeded", output)
        data = re.search(r"\((\d+)\) data", output)
        # h2load sees HTTP only, where an error of gRPC is a success: but only an answer has data.
        whole = data is not None and int(data[1]) >= calls * SMALLEST_ANSWER
        if process.returncode or rate is None or succeeded is None or int(succeeded[1]) != calls or not whole:
            raise RuntimeError(f"h2load failed: {output[-500:]}")
        return float(rate[1]), calls

    return work


def _live(readers: int) -> Load:
    """Have streams read one run live: each event is encoded once for all of them."""

    async def load(side: Side, count: int) -> Work:
        reads = [side.callers[number % CHANNELS].read for number in range(readers)]
        return partial(live, side.caller, count, reads)

    return load


async def _replay(side: Side, count: int) -> Work:
    side.bench.say(f"replay: writing {count:,} events")
    return partial(replay, await side.caller.written(count), count, side.caller.read)


async def _first_event(side: Side, count: int) -> Work:
    """Start a run and follow it until its first event is here; the raw server answers one call."""

    async def ask(number: int) -> float:
        began = time.perf_counter()
        call = side.caller.stream(await side.caller.start("Talk"))
        seconds = 0.0
        async for frame in call:
            if not seconds and frame.events.entries:
                seconds = time.perf_counter() - began
        return seconds

    return partial(one_at_a_time, side.caller.run_trivial() if side.caller.raw else ask, side.bench.seconds / 2)


async def _converse(side: Side, count: int) -> Work:
    """Answer a question of a run on its stream and get the next one."""

    async def work() -> tuple[float, int]:
        call = side.caller.runs.Converse()
        start = start_request("PingPong", b'{"count":%d}' % (count + 1))
        await call.write(runs.ConverseRequest(start=runs.ConverseStart(request=start, options=OPTIONS)))
        await (call.read() if side.caller.raw else _next_question(call))
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
ANSWERED, H2LOAD = "Converse ping-pong with an answer, p50", ("h2load", "nghttp2-client")

SERVED = (
    Served("get_state", "GetState, 64 in flight", _calls("GetState"), (0.85, None)),
    Served("send_event", "SendEvent acknowledged, 64 in flight", _calls("SendEvent"), (0.6, None), durable=0.6),
    Served("trivial", "start → result, 64 in flight", _calls(), (0.5, 0.7)),
    Served("latency", "start → result, one at a time, p50", _calls(one_by_one=True), (1, None), "s", bound=(2, 3)),
    Served("live", "one run's stream, live", _live(1), (0.45, 0.6), EVENTS, BATCHES, sizes=(50_000, 20_000)),
    Served("replay", "replay of {count} events", _replay, (0.8, None), EVENTS, BATCHES, sizes=(100_000, 20_000)),
    Served("subscribers", SUBSCRIBED, _live(SUBSCRIBERS), (0.8, None), EVENTS, STREAMS, sizes=(2_000, 500)),
    Served("first_event", "StartRun → first streamed event, p50", _first_event, (1, None), "s", bound=(2, 2)),
    Served("converse", ANSWERED, _converse, (1, None), "s", "raw bidi", (1.5, 2), (400, 150)),
    Served("h2load", "start → result, h2load, 64 streams", _h2load, (0.4, 0.55), sizes=(4000, 1000), program=H2LOAD),
)


# -- what a commit, and a log of attempts, add ------------------------------------------------------------------------


async def commit_latency(bench: Bench) -> list[Row]:
    """Write an event to the stream of waiting runs, one at a time: what SQLite adds to the memory store's latency."""
    measures: dict[str, Measure] = {}
    async with AsyncExitStack() as stack:
        for kind in (SQLITE, MEMORY):
            process = stack.enter_context(start(kind, bench))
            caller = await stack.enter_async_context(Caller.open(process.address))
            call = caller.each("PublishEvent", await caller.parked(16))
            await one_at_a_time(call, 0.2)  # connection, caches
            measures[kind] = partial(cost, process, partial(one_at_a_time, call, bench.seconds / 2))
        for name, same_rows in (("one", False), ("same", True)):
            bare = stack.enter_context(BareCommits(bench.data(), same_rows=same_rows))
            measures[name] = bare.measure(bench.seconds / 4)
        samples = await alternate(bench, "a commit", measures)
    pairs = zip(samples[SQLITE], samples[MEMORY], strict=True)
    added = [Sample(durable.value - memory.value) for durable, memory in pairs]
    title = "what a commit adds to PublishEvent, one at a time, p50"
    note = f"SQLite {milliseconds(samples[SQLITE])}, memory {milliseconds(samples[MEMORY])}"
    same, one = "bare SQLite commit of the same rows", "bare SQLite commit of one row"
    return [
        row("commit_latency", title, "s", same, added, samples["same"], target=1.5, note=note),
        row("commit_latency_one_row", f"{title}, beside one row", "s", one, added, samples["one"]),
    ]


async def execution_log(bench: Bench) -> list[Row]:
    """Run durable chains without and with entries of attempts, one alone and many side by side."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        servers = {}
        for level in ("off", "all"):
            process = stack.enter_context(stepwire_server(bench.data(), args=("--execution-log", level)))
            servers[level] = process, await stack.enter_async_context(Caller.open(process.address))
        for number, steps in ((1, bench.scaled(2_000, 500)), (32, bench.scaled(200, 60))):

            async def chains(caller: Caller, number: int = number, steps: int = steps) -> tuple[float, int]:
                call = caller.run_to_end("Steps", b'{"steps":%d}' % steps)
                rate, _ = await shared(call, number, number)
                return rate * steps, number * steps

            measures = {
                level: partial(cost, process, partial(chains, caller)) for level, (process, caller) in servers.items()
            }
            title = f"steps of {number} durable chain{'s' * (number > 1)}, attempts logged"
            found = await alternate(bench, title, measures)
            both = found["all"], found["off"]
            rows.append(row(f"execution_log_{number}", title, "1/s", "none logged", *both, target=0.95, guarded=False))
    return rows
