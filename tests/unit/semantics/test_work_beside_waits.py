"""A body that works beside its open waits is not taken for idle; one that can only wait is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.progress import is_idle, waits_outside


class Ask(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    n: int = 0


class Flow(Workflow):
    """Run a body; `go_on` is what its work waits for."""

    def __init__(self, body: Callable[[Context, asyncio.Event], Coroutine[Any, Any, Any]]) -> None:
        super().__init__(timeout=None)
        self.body = body
        self.go_on = asyncio.Event()
        self.began = 0

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        self.began += 1
        return StopEvent(result=await self.body(ctx, self.go_on))


def answer(ctx: Context, n: int = 0) -> Coroutine[Any, Any, Answer]:
    return ctx.wait_for_event(Answer, waiter_event=Ask(), requirements={"n": n})


async def stop_button(ctx: Context, go_on: asyncio.Event) -> str:
    stop, job = asyncio.create_task(answer(ctx)), asyncio.create_task(go_on.wait())
    done, pending = await asyncio.wait({stop, job}, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()
    return "stopped" if stop in done else "finished"


async def own_wait_for(ctx: Context, go_on: asyncio.Event) -> str:
    await asyncio.wait_for(answer(ctx), 1000)
    return "answered"


async def own_timeout(ctx: Context, go_on: asyncio.Event) -> str:
    async with asyncio.timeout(1000):
        await answer(ctx)
    return "answered"


async def timeout_around_a_group(ctx: Context, go_on: asyncio.Event) -> str:
    async with asyncio.timeout(1000), asyncio.TaskGroup() as group:
        group.create_task(answer(ctx))
    return "answered"


async def left_behind(ctx: Context, go_on: asyncio.Event) -> str:
    job = asyncio.create_task(go_on.wait())
    await answer(ctx)
    job.cancel()
    return "answered"


async def bounded_wait(ctx: Context, go_on: asyncio.Event) -> str:
    task = asyncio.create_task(answer(ctx))
    await asyncio.wait({task}, timeout=1000)
    return "answered"


async def in_a_thread(ctx: Context, go_on: asyncio.Event) -> str:
    loop = asyncio.get_running_loop()
    job = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()))
    await answer(ctx)
    go_on.set()
    await job
    return "answered"


WORKS = [stop_button, own_wait_for, own_timeout, timeout_around_a_group, left_behind, bounded_wait, in_a_thread]


async def plain(ctx: Context, go_on: asyncio.Event) -> str:
    await answer(ctx)
    return "answered"


async def gathered(ctx: Context, go_on: asyncio.Event) -> str:
    await asyncio.gather(answer(ctx), answer(ctx, 1))
    return "answered"


async def waited(ctx: Context, go_on: asyncio.Event) -> str:
    await asyncio.wait([asyncio.ensure_future(answer(ctx, n)) for n in (0, 1)])
    return "answered"


async def grouped(ctx: Context, go_on: asyncio.Event) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(gathered(ctx, go_on))
    return "answered"


async def awaited_task(ctx: Context, go_on: asyncio.Event) -> str:
    await asyncio.create_task(answer(ctx))
    return "answered"


async def after_its_timeout(ctx: Context, go_on: asyncio.Event) -> str:
    async with asyncio.timeout(None):
        await answer(ctx)
    return "answered"


ONLY_WAITS = [plain, gathered, waited, grouped, awaited_task, after_its_timeout]


def named(body: Any) -> str:
    return str(body.__name__)


def idle(run: DurableRun) -> bool:
    return is_idle(run.broker)


async def asked(run: DurableRun) -> None:
    await run.until(lambda run: run.kept("w"))
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("body", WORKS, ids=named)
async def test_a_body_that_works_is_not_idle_and_its_run_has_no_rest(body: Any) -> None:
    run = DurableRun(flow := Flow(body)).start(timeout=100)
    await asked(run)
    assert not is_idle(run.broker)
    assert not waits_outside(run.broker)
    assert (run.broker.limit.due, run.broker.limit.remaining) == (run.clock.now() + 100, None)
    (saved,) = run.kept("d")
    assert saved["st"] == "running", "in a crash its work is lost"
    run.release()
    (saved,) = run.kept("d")
    assert saved["st"] == "queued", "what was cut off begins again without being asked"
    run.recover()
    await run.until(lambda run: flow.began == 2)
    run.send(Answer())
    flow.go_on.set()
    await run.ended()


@pytest.mark.parametrize("body", ONLY_WAITS, ids=named)
async def test_a_body_that_can_only_wait_is_idle_and_stops_the_clock(body: Any) -> None:
    run = DurableRun(flow := Flow(body)).start(timeout=100)
    await asked(run)
    assert is_idle(run.broker)
    assert (run.broker.limit.due, run.broker.limit.remaining) == (None, 100)
    (saved,) = run.kept("d")
    assert saved["st"] == "parked"
    run.release()
    run.recover()
    for _ in range(5):
        await asyncio.sleep(0)
    assert flow.began == 1, "it is not run again before its answer"
    for n in (0, 1):
        run.send(Answer(n=n))
    assert (await run.ended()).event.result == "answered"


async def test_once_the_work_is_over_the_run_only_waits() -> None:
    run = DurableRun(flow := Flow(left_behind)).start(timeout=100)
    await asked(run)
    assert not idle(run)
    flow.go_on.set()
    await run.until(lambda run: run.kept("d")[0]["st"] == "parked")
    assert idle(run)
    assert (run.broker.limit.due, run.broker.limit.remaining) == (None, 100)


async def test_a_body_that_got_one_of_its_answers_may_work() -> None:
    async def body(ctx: Context, go_on: asyncio.Event) -> str:
        async def one() -> None:
            await answer(ctx)
            await go_on.wait()

        await asyncio.gather(one(), answer(ctx, 1))
        return "both"

    run = DurableRun(flow := Flow(body)).start(timeout=100)
    await asked(run)
    assert idle(run)
    run.send(Answer())
    await run.until(lambda run: len(run.kept("w")) == 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not idle(run)
    flow.go_on.set()
    await run.until(lambda run: run.kept("d")[0]["st"] == "parked")
    assert idle(run)
    run.send(Answer(n=1))
    assert (await run.ended()).event.result == "both"
