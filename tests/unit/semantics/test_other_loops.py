"""Code of a step may have an event loop of its own, in a thread: what it awaits there asks at the step, and ends."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.futures import complete


class Question(InputRequiredEvent):
    text: str


class Reply(HumanResponseEvent):
    text: str


class Inner(Workflow):
    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.wait_for_event(Reply, Question(text="name"), timeout=None)
        second = await ctx.wait_for_event(Reply, Question(text="town"), timeout=None)
        return StopEvent(result=[first.text, second.text])


async def run_inner(by: str) -> Any:
    handler = Inner().run()
    async for event in handler.stream_events():
        if by == "code" and isinstance(event, Question):
            handler.ctx.send_event(Reply(text=f"the {event.text}"))
    return await handler


class InThread(Workflow):
    def __init__(self, by: str) -> None:
        super().__init__(timeout=None)
        self.by = by

    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await asyncio.to_thread(lambda: asyncio.run(run_inner(self.by))))


class InSyncStep(Workflow):
    def __init__(self, by: str) -> None:
        super().__init__(timeout=None)
        self.by = by
        self.errors: list[BaseException] = []

    @step
    def go(self, ev: StartEvent) -> StopEvent:
        try:
            return StopEvent(result=asyncio.run(run_inner(self.by)))
        except BaseException as error:
            self.errors.append(error)
            raise


ANSWERS = ["the name", "the town"]
BOTH = pytest.mark.parametrize("outer", [InThread, InSyncStep])


@BOTH
@pytest.mark.parametrize("by", ["code", "person"])
async def test_in_process(outer: Any, by: str) -> None:
    handler = outer(by).run()
    async with asyncio.timeout(60):
        async for event in handler.stream_events():
            if by == "person" and isinstance(event, Question):
                handler.ctx.send_event(Reply(text=f"the {event.text}"))
        assert await handler == ANSWERS


def _asked(count: int, run: DurableRun) -> bool:
    return len(run.logged(Question)) == count and bool(run.kept("w"))


@BOTH
@pytest.mark.parametrize("by", ["code", "person"])
async def test_served(outer: Any, by: str) -> None:
    run = DurableRun(outer(by)).start()
    async with asyncio.timeout(60):
        if by == "person":
            for count, text in enumerate(ANSWERS, 1):
                await run.until(partial(_asked, count))
                run.send(Reply(text=text))
        assert (await run.ended()).event.result == ANSWERS
    assert not run.reported
    assert not run.kept("w"), "what the code has answered is not asked any more"


async def test_a_sync_step_that_is_lost_ends_its_thread_and_begins_again() -> None:
    workflow = InSyncStep("person")
    run = DurableRun(workflow).start()
    async with asyncio.timeout(60):
        await run.until(lambda run: run.kept("w"))
        run.send(Reply(text="Ada"))
        await run.until(partial(_asked, 2))
        run.crash_and_recover()
        while not workflow.errors:  # noqa: ASYNC110 - it is a thread that sets it
            await asyncio.sleep(0.01)
        run.send(Reply(text="London"))
        assert (await run.ended()).event.result == ["Ada", "London"]
    assert [each["text"] for each in run.logged(Question)] == ["name", "town"]


async def test_a_future_of_another_loop_is_completed_there_and_of_a_closed_one_not_at_all() -> None:
    found: list[asyncio.Future[str]] = []
    begun = threading.Event()

    async def wait() -> str:
        found.append(asyncio.get_running_loop().create_future())
        begun.set()
        return await found[0]

    waiting = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(wait())))
    await asyncio.to_thread(begun.wait, 60)
    complete(found[0], "there")
    async with asyncio.timeout(60):
        assert await waiting == "there"
    other = asyncio.new_event_loop()
    late: asyncio.Future[str] = other.create_future()
    other.close()
    complete(late, "late")
    assert not late.done()
