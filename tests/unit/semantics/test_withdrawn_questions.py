"""A wait that its own step gave up: its question is asked once, however often the step runs again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step


class Choice(InputRequiredEvent):
    name: str


class Chosen(HumanResponseEvent):
    name: str


async def ask(ctx: Context, name: str, **more: Any) -> str:
    answer = await ctx.wait_for_event(Chosen, waiter_event=Choice(name=name), requirements={"name": name}, **more)
    return answer.name


class FirstOfTwo(Workflow):
    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        tasks = [asyncio.ensure_future(ask(ctx, name)) for name in ("tea", "coffee")]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await ask(ctx, "sure")
        return StopEvent(result=done.pop().result())


class Group(Workflow):
    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def one(name: str) -> None:
            await ask(ctx, name)
            raise LookupError(name)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(one("tea"))
                group.create_task(one("coffee"))
        except* LookupError:
            pass
        await ask(ctx, "sure")
        return StopEvent(result="tea")


@pytest.mark.parametrize("kind", [FirstOfTwo, Group])
@pytest.mark.parametrize("how", ["stays", "release", "crash", "fork"])
async def test_it_is_asked_once(kind: type[Workflow], how: str) -> None:
    run = DurableRun(kind()).start()
    await run.until(lambda run: len(run.kept("w")) == 2)
    run.send(Chosen(name="tea"))
    await run.until(lambda run: [each["p"] for each in run.kept("w")] and len(run.logged(Choice)) == 3)
    if how == "release":
        run.release()
        run.recover()
    elif how == "crash":
        run.crash_and_recover()
    elif how == "fork":
        run = run.fork()
    before = len(run.logged(Choice))
    run.send(Chosen(name="sure"))
    outcome = await run.ended()
    assert outcome.event.result == "tea"
    asked = [each["name"] for each in run.logged(Choice)]
    assert len(asked) == before
    assert how == "fork" or asked == ["tea", "coffee", "sure"]


async def test_a_step_that_does_not_give_it_up_the_next_time_gets_its_answer() -> None:
    patient = asyncio.Event()

    class Patience(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            waiting = asyncio.ensure_future(ask(ctx, "tea"))
            if not patient.is_set():
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await ask(ctx, "sure")
            return StopEvent(result=await waiting)

    run = DurableRun(Patience()).start()
    await run.until(lambda run: len(run.logged(Choice)) == 2)
    patient.set()
    run.crash()
    run.recover()
    run.send(Chosen(name="sure"))  # which has the step run again
    await run.until(lambda run: any(each["r"] == {"name": "tea"} for each in run.kept("w")))
    assert len(run.logged(Choice)) == 2
    run.send(Chosen(name="tea"))
    assert (await run.ended()).event.result == "tea"
