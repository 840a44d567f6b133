"""Measure a workflow engine in process, each case alternated with a bare asyncio loop: prints one JSON object.

Runs under any interpreter that has the engine; it needs nothing else of this project.

    python benchmarks/peer/engine.py PACKAGE CASE SIZE      PACKAGE: stepwire.workflow or workflows
"""

import asyncio
import gc
import itertools
import json
import logging
import os
import statistics
import sys
import time
import tracemalloc
from typing import Any

from pydantic import BaseModel

os.environ["BENCH_ENGINE"], CASE, SIZE = sys.argv[1], sys.argv[2], int(sys.argv[3])

from flows import FRAME, Chain, Done, FanOut, Talk, Token, Trivial  # noqa: E402 - for that engine

ROUNDS = 7
ENOUGH = 20.0
"""Seconds after which no further round begins."""
KEPT: list[list[Any]] = []
"""Runs that wait until the end."""


class Bare(BaseModel):
    number: int


async def bare_step(ev: Bare) -> Bare:
    return Bare(number=ev.number + 1)


def made(kind: type, **attributes: Any) -> Any:
    flow = kind(timeout=3600)
    for name, value in attributes.items():
        setattr(flow, name, value)
    return flow


async def compared(size: int, ours: Any, bare: Any) -> dict[str, list[float]]:
    """Return the time of one operation in each round of both.

    Times are CPU seconds of this process: nothing here waits, and others use the machine too.
    """
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    began = time.perf_counter()
    for number in range(ROUNDS):
        if number and time.perf_counter() - began > ENOUGH:
            break
        turns = [("bare", bare), ("ours", ours)]
        for name, work in reversed(turns) if number % 2 else turns:
            gc.collect()
            start = time.process_time()
            await work()
            times[name].append((time.process_time() - start) / size)
    return times


async def chain(size: int) -> dict[str, list[float]]:
    async def bare() -> None:
        ev = Bare(number=0)
        for _ in range(size):
            ev = await asyncio.create_task(bare_step(ev))

    async def ours() -> None:
        assert await made(Chain).run(steps=size) == "done"

    return await compared(size, ours, bare)


async def fan_out(size: int) -> dict[str, list[float]]:
    async def bare_collect(ev: Bare, found: list[Bare]) -> None:
        found.append(ev)

    async def bare() -> None:
        found: list[Bare] = []
        for first in range(0, size, 8):
            tasks = [asyncio.create_task(bare_step(Bare(number=number))) for number in range(first, first + 8)]
            for task in tasks:
                await asyncio.create_task(bare_collect(await task, found))

    async def ours() -> None:
        assert await made(FanOut, expected=(Done,) * size).run() == size

    return await compared(size, ours, bare)


async def trivial(size: int) -> dict[str, list[float]]:
    flow = made(Trivial)

    async def bare_run() -> str:
        return "done"

    async def bare() -> None:
        for _ in range(size):
            await asyncio.create_task(bare_run())

    async def ours() -> None:
        for _ in range(size):
            await flow.run()

    return await compared(size, ours, bare)


async def stream(size: int) -> dict[str, list[float]]:
    async def write(queue: asyncio.Queue[Any]) -> None:
        for number in range(1, size + 1):
            queue.put_nowait(Token())
            if number % FRAME == 0:
                await asyncio.sleep(0)
        queue.put_nowait(None)

    async def bare() -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        task = asyncio.create_task(write(queue))
        while await queue.get() is not None:
            pass
        await task

    async def ours() -> None:
        handler = made(Talk).run(count=size)
        seen = 0
        async for _ in handler.stream_events():
            seen += 1
        await handler
        assert seen >= size

    return await compared(size, ours, bare)


async def parked_runs(steps: int = 0, count: int = 1) -> list[Any]:
    """Start runs and wait until nothing moves any more: a run parks within a few turns of the loop once it is idle."""
    flow = made(Chain, parks=True)
    handlers = [flow.run(steps=steps) for _ in range(count)]
    for handler in handlers:
        # No engine tells when a run has nothing more to do.
        while "wait" not in await handler.ctx.running_steps():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    KEPT.append(handlers)
    return handlers


async def snapshot(size: int) -> dict[str, float]:
    (handler,) = await parked_runs(size)
    times = []
    for _ in range(20):
        began = time.process_time()
        data = handler.ctx.to_dict()
        times.append(time.process_time() - began)
    return {"seconds": statistics.median(times), "bytes": len(json.dumps(data, default=str))}


async def grown(steps: int = 0, count: int = 1) -> int:
    """Return the bytes that so many more runs take once they are parked."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    await parked_runs(steps, count)
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


async def parked(size: int) -> dict[str, float]:
    await parked_runs(count=50)
    tracemalloc.start()
    return {"bytes": await grown(count=size) / size}


async def passed(size: int) -> dict[str, float]:
    """Memory that one event leaves behind, while its run goes on waiting."""
    tracemalloc.start()
    few, many = await grown(size // 10), await grown(size)
    return {"bytes": (many - few) / (size - size // 10)}


async def main() -> None:
    cases = (chain, fan_out, trivial, stream, snapshot, parked, passed)
    found = await {case.__name__: case for case in cases}[CASE](SIZE)
    tracemalloc.stop()
    for handler in itertools.chain(*KEPT):
        await handler.cancel_run()
    # Runs that were cancelled end now, and what they raise is nobody's.
    await asyncio.sleep(0.1)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    print(json.dumps(found))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main())
