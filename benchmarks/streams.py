"""Figures of streams: live, replay, many subscribers, the first event, questions and answers."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.commits import CommitLoop
from benchmarks.load import JSON, Caller, answer
from benchmarks.measure import AT_MOST, Bench, Measure, Row, Sample, alternate, cost, make_row
from benchmarks.servers import Process
from benchmarks.unary import MEMORY, RAW, SQLITE, servers
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2

__all__ = ["converse", "first_event", "live", "replay", "subscribers"]


def _values(samples: list[Sample]) -> list[float]:
    return [sample.value for sample in samples]


async def _timed_read(caller: Caller, run_id: str, count: int) -> tuple[float, int]:
    began = time.perf_counter()
    events = await caller.read(run_id)
    seconds = time.perf_counter() - began
    if events < count:
        raise RuntimeError(f"a stream of {count} events gave {events}")
    return events / seconds, events


async def _raw_read(caller: Caller, process: Process, count: int) -> Sample:
    return await cost(process, lambda: _timed_read(caller, f"raw-{count}", count))


async def _held_talk(caller: Caller, count: int) -> str:
    """Start a run that writes events once it gets an answer, and wait until it waits."""
    run_id = await caller.start("Talk", b'{"count":%d,"held":true}' % count)
    while not (await caller.runs.GetRun(runs.GetRunRequest(run_id=run_id))).run.pending_waiters:
        await asyncio.sleep(0.01)
    return run_id


async def _live(caller: Caller, process: Process, count: int) -> Sample:
    run_id = await _held_talk(caller, count)

    async def work() -> tuple[float, int]:
        request = runs.StreamEventsRequest(run_id=run_id, options=runs.StreamOptions(encoding=JSON))
        call = caller.runs.StreamEvents(request)
        began = time.perf_counter()
        await caller.runs.SendEvent(runs.SendEventRequest(run_id=run_id, event=answer()))
        events = 0
        async for frame in call:
            events += len(frame.events.entries)
        seconds = time.perf_counter() - began
        if events < count:
            raise RuntimeError(f"a stream of {count} events gave {events}")
        return events / seconds, events

    return await cost(process, work)


async def live(bench: Bench) -> list[Row]:
    """One run writes events of 200 bytes, one client reads them as they come."""
    count = bench.scaled(50_000, 20_000)
    async with AsyncExitStack() as stack:
        processes = await servers(bench, stack)
        measures: dict[str, Measure] = {}
        for kind, process in processes.items():
            caller = await stack.enter_async_context(Caller.open(process.address))
            if kind == RAW:
                measures[kind] = lambda c=caller, p=process: _raw_read(c, p, count)  # type: ignore[misc]
            else:
                measures[kind] = lambda c=caller, p=process: _live(c, p, count)  # type: ignore[misc]
        samples = await alternate(bench, "live stream", measures)
    raw = samples[RAW]
    return [
        make_row(
            "live" if kind == SQLITE else "live_memory",
            f"one run's stream, live{'' if kind == SQLITE else ' (memory)'}",
            "events/s",
            samples[kind],
            _values(raw),
            limit_name="raw batches of 64",
            raw=raw,
            target=0.45 if kind == SQLITE else 0.6,
        )
        for kind in (SQLITE, MEMORY)
    ]


async def replay(bench: Bench) -> list[Row]:
    """Read the log of an ended run."""
    count = bench.scaled(100_000, 20_000)
    async with AsyncExitStack() as stack:
        processes = await servers(bench, stack)
        measures: dict[str, Measure] = {}
        for kind, process in processes.items():
            caller = await stack.enter_async_context(Caller.open(process.address))
            if kind == RAW:
                measures[kind] = lambda c=caller, p=process: _raw_read(c, p, count)  # type: ignore[misc]
                continue
            bench.say(f"replay: writing {count:,} events, {kind}")
            run_id = await caller.start("Talk", b'{"count":%d}' % count)
            await caller.ended(run_id)
            measures[kind] = lambda c=caller, p=process, r=run_id: cost(  # type: ignore[misc]
                p, lambda: _timed_read(c, r, count)
            )
        samples = await alternate(bench, "replay", measures)
    raw = samples[RAW]
    return [
        make_row(
            "replay" if kind == SQLITE else "replay_memory",
            f"replay of {count:,} events{'' if kind == SQLITE else ' (memory)'}",
            "events/s",
            samples[kind],
            _values(raw),
            limit_name="raw batches of 64",
            raw=raw,
            target=0.8 if kind == SQLITE else None,
        )
        for kind in (SQLITE, MEMORY)
    ]
