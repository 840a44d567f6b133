"""Measure a workflow engine in process, each case alternated with a bare asyncio loop: prints one JSON object.

Runs under any interpreter that has the engine; it needs nothing else of this project.

    python benchmarks/peer/engine.py PACKAGE CASE [SIZE]      PACKAGE: stepwire.workflow or workflows
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import statistics
import sys
import time
import tracemalloc
from typing import Any, Optional, Union

from pydantic import BaseModel

PACKAGE = sys.argv[1]
engine = importlib.import_module(PACKAGE)
events = importlib.import_module(f"{PACKAGE}.events")
Context, Workflow, step = engine.Context, engine.Workflow, engine.step
Event, StartEvent, StopEvent = events.Event, events.StartEvent, events.StopEvent
HumanResponseEvent = events.HumanResponseEvent

ROUNDS = 7
ENOUGH = 20.0
"""Seconds after which no further round begins."""
TEXT = "x" * 189
FRAME = 64


class Hop(Event):
    number: int


class Work(Event):
    number: int


class Done(Event):
    number: int


class Token(Event):
    text: str = TEXT


class Parked(Event):
    number: int


class Bare(BaseModel):
    number: int


class Chain(Workflow):
    """`size` steps, one after the other."""

    size = 0

    @step
    async def begin(self, ev: StartEvent) -> Hop:
        return Hop(number=0)

    @step
    async def hop(self, ev: Hop) -> Union[Hop, StopEvent]:
        if ev.number >= self.size:
            return StopEvent(result=ev.number)
        return Hop(number=ev.number + 1)


class FanOut(Workflow):
    """`size` events over 8 workers, collected."""

    size = 0
    expected: tuple = ()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Optional[Work]:
        for number in range(self.size):
            ctx.send_event(Work(number=number))
        return None

    @step(num_workers=8)
    async def work(self, ev: Work) -> Done:
        return Done(number=ev.number)

    @step
    async def collect(self, ctx: Context, ev: Done) -> Optional[StopEvent]:
        found = ctx.collect_events(ev, self.expected)
        return None if found is None else StopEvent(result=len(found))


class Trivial(Workflow):
    """One step."""

    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


class Talk(Workflow):
    """`size` events to the stream."""

    size = 0

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(1, self.size + 1):
            ctx.write_event_to_stream(Token())
            if number % FRAME == 0:
                await asyncio.sleep(0)
        return StopEvent(result="done")


class Park(Workflow):
    """Wait for an answer, after `size` events."""

    size = 0

    @step
    async def begin(self, ev: StartEvent) -> Hop:
        return Hop(number=0)

    @step
    async def hop(self, ev: Hop) -> Union[Hop, Parked]:
        if ev.number >= self.size:
            return Parked(number=0)
        return Hop(number=ev.number + 1)

    @step
    async def wait(self, ctx: Context, ev: Parked) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=3600)
        return StopEvent(result="done")


def made(kind: type, size: int = 0) -> Any:
    flow = kind(timeout=3600)
    flow.size = size
    return flow


async def timed(work: Any) -> float:
    """Return the CPU seconds of this process: nothing here waits, and others use the machine too."""
    gc.collect()
    began = time.process_time()
    await work
    return time.process_time() - began


async def pairs(ours: Any, bare: Any) -> tuple[float, float, float]:
    """Return the medians of both and of the rounds' ratios."""
    mine, theirs = [], []
    began = time.perf_counter()
    for number in range(ROUNDS):
        if number and time.perf_counter() - began > ENOUGH:
            break
        order = [(mine, ours), (theirs, bare)]
        for times, make in order if number % 2 else reversed(order):
            times.append(await timed(make()))
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    return statistics.median(mine), statistics.median(theirs), statistics.median(ratios)


def told(size: int, found: tuple[float, float, float]) -> dict[str, float]:
    ours, bare, ratio = found
    return {"size": size, "ours": ours / size, "bare": bare / size, "ratio": ratio}


async def chain(size: int) -> dict[str, float]:
    async def bare_step(ev: Bare) -> Bare:
        return Bare(number=ev.number + 1)

    async def bare() -> None:
        ev = Bare(number=0)
        for _ in range(size):
            ev = await asyncio.create_task(bare_step(ev))

    async def ours() -> None:
        assert await made(Chain, size).run() == size

    return told(size, await pairs(ours, bare))


async def fan_out(size: int) -> dict[str, float]:
    async def bare_work(ev: Bare) -> Bare:
        return Bare(number=ev.number)

    async def bare_collect(ev: Bare, found: list[Bare]) -> None:
        found.append(ev)

    async def bare() -> None:
        found: list[Bare] = []
        for first in range(0, size, 8):
            tasks = [asyncio.create_task(bare_work(Bare(number=number))) for number in range(first, first + 8)]
            for task in tasks:
                await asyncio.create_task(bare_collect(await task, found))

    async def ours() -> None:
        flow = made(FanOut, size)
        flow.expected = (Done,) * size
        assert await flow.run() == size

    return told(size, await pairs(ours, bare))


async def trivial(size: int) -> dict[str, float]:
    async def bare_step() -> str:
        return "done"

    async def bare() -> None:
        for _ in range(size):
            await asyncio.create_task(bare_step())

    flow = made(Trivial)

    async def ours() -> None:
        for _ in range(size):
            await flow.run()

    return told(size, await pairs(ours, bare))


async def stream(size: int) -> dict[str, float]:
    async def bare() -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def write() -> None:
            for number in range(1, size + 1):
                queue.put_nowait(Token())
                if number % FRAME == 0:
                    await asyncio.sleep(0)
            queue.put_nowait(None)

        task = asyncio.create_task(write())
        while await queue.get() is not None:
            pass
        await task

    async def ours() -> None:
        handler = made(Talk, size).run()
        seen = 0
        async for _ in handler.stream_events():
            seen += 1
        await handler
        assert seen >= size

    return told(size, await pairs(ours, bare))


async def until_parked(handlers: list[Any]) -> None:
    """Wait until nothing moves any more: a run parks within a few turns of the loop once it is idle."""
    for handler in handlers:
        # No engine tells when a run has nothing more to do.
        while "wait" not in await handler.ctx.running_steps():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)


async def snapshot(size: int) -> dict[str, float]:
    handler = made(Park, size).run()
    await until_parked([handler])
    times = []
    for _ in range(20):
        began = time.process_time()
        data = handler.ctx.to_dict()
        times.append(time.process_time() - began)
    found = {"size": size, "seconds": statistics.median(times), "bytes": len(json.dumps(data, default=str))}
    await handler.cancel_run()
    return found


async def parked(size: int) -> dict[str, float]:
    flow = made(Park)

    async def park(count: int) -> list[Any]:
        handlers = [flow.run() for _ in range(count)]
        await until_parked(handlers)
        return handlers

    first = await park(50)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    handlers = await park(size)
    gc.collect()
    found = (tracemalloc.get_traced_memory()[0] - before) / size
    tracemalloc.stop()
    for handler in first + handlers:
        await handler.cancel_run()
    return {"size": size, "bytes": found}


async def passed(size: int) -> dict[str, float]:
    """Memory that one event leaves behind, while its run goes on waiting."""
    tracemalloc.start()
    levels = []
    handlers = []
    for hops in (size // 10, size):
        handler = made(Park, hops).run()
        before = tracemalloc.get_traced_memory()[0]
        await until_parked([handler])
        gc.collect()
        levels.append(tracemalloc.get_traced_memory()[0] - before)
        handlers.append(handler)
    tracemalloc.stop()
    for handler in handlers:
        await handler.cancel_run()
    return {"size": size, "bytes": (levels[1] - levels[0]) / (size - size // 10)}


CASES = {
    "chain": chain,
    "fan_out": fan_out,
    "trivial": trivial,
    "stream": stream,
    "snapshot": snapshot,
    "parked": parked,
    "passed": passed,
}


async def swallow(work: Any) -> Any:
    found = await work
    # Runs that were cancelled end now, and what they raise is nobody's.
    await asyncio.sleep(0.1)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    return found


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(json.dumps(asyncio.run(swallow(CASES[sys.argv[2]](int(sys.argv[3]))))))
