"""A question of a nested run is asked at the outer run, and answered there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Question(InputRequiredEvent):
    text: str


class Reply(HumanResponseEvent):
    text: str


class Signal(Event):
    pass


class Inner(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.wait_for_event(Reply, waiter_event=Question(text="name"))
        second = await ctx.wait_for_event(Reply, waiter_event=Question(text="town"))
        return StopEvent(result=[first.text, second.text])


class Middle(Workflow):
    @step
    async def run_it(self, ev: StartEvent, inner: Inner) -> StopEvent:
        return StopEvent(result=await inner.run())


class Outer(Workflow):
    began = 0

    @step
    async def run_it(self, ev: StartEvent, inner: Workflow) -> StopEvent:
        type(self).began += 1
        return StopEvent(result=await inner.run())


def outer_of(inner: Workflow) -> Outer:
    outer = Outer(timeout=None)
    outer.add_workflows(inner=inner)
    return outer


def deep() -> Workflow:
    middle = Middle(timeout=None)
    middle.add_workflows(inner=Inner(timeout=None))
    return middle


@pytest.mark.parametrize("make", [lambda: Inner(timeout=None), deep])
async def test_in_process(make: Any) -> None:
    handler = outer_of(make()).run()
    asked = []
    async for event in handler.stream_events():
        if isinstance(event, Question):
            asked.append(event.text)
            handler.ctx.send_event(Reply(text=f"the {event.text}"))
    assert await handler == ["the name", "the town"]
    assert asked == ["name", "town"]


@pytest.mark.parametrize("how", ["stays", "crash"])
async def test_served_and_over_a_crash_each_question_is_asked_once(how: str) -> None:
    run = DurableRun(outer_of(Inner(timeout=None))).start()
    await run.until(lambda run: len(run.kept("w")) == 1)
    (waiter,) = run.kept("w")
    assert waiter["p"] is not None, "the question is open at the outer run"
    run.send(Reply(text="Ada"))
    await run.until(lambda run: len(run.logged(Question)) == 2)
    if how == "crash":
        run.crash_and_recover()
    run.send(Reply(text="London"))
    assert (await run.ended()).event.result == ["Ada", "London"]
    assert [each["text"] for each in run.logged(Question)] == ["name", "town"]


async def test_what_is_no_question_stays_inside() -> None:
    class Signals(Workflow):
        @step
        async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
            waiting = asyncio.ensure_future(ctx.wait_for_event(Signal))
            await asyncio.sleep(0)
            ctx.send_event(Signal())
            await waiting
            return StopEvent(result="inside")

    handler = outer_of(Signals(timeout=None, disable_validation=True)).run()
    assert await handler == "inside"
    assert [type(event) async for event in handler.stream_events()] == [StopEvent]


async def test_a_question_that_the_outer_run_cannot_keep_fails_it() -> None:
    class Local(InputRequiredEvent):
        pass

    class Asks(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(Reply, waiter_event=Local())
            return StopEvent()

    run = DurableRun(outer_of(Asks(timeout=None, disable_validation=True))).start()
    outcome = await run.ended()
    assert outcome.status == "failed"
    assert "Local" in str(outcome.error)


class Returns(Workflow):
    """A step returns the question, and another one takes the answer."""

    @step
    async def ask(self, ev: StartEvent) -> Question:
        return Question(text="name")

    @step
    async def take(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.text)


@pytest.mark.parametrize("how", ["stays", "crash"])
async def test_a_question_that_a_step_returns_is_asked_too(how: str) -> None:
    run = DurableRun(outer_of(Returns(timeout=None))).start()
    await run.until(lambda run: len(run.kept("w")) == 1)
    if how == "crash":
        run.crash_and_recover()
    run.send(Reply(text="Ada"))
    assert (await run.ended()).event.result == "Ada"
    assert len(run.logged(Question)) == 1
