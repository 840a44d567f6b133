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
from stepwire.workflow.broker.progress import is_idle, may_leave


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


# -- while it waits -----------------------------------------------------------------------------------------------


def nested_of(run: DurableRun) -> Any:
    (execution,) = run.broker.executions
    assert execution.nested
    return execution.nested[0]


@pytest.mark.parametrize("make", [lambda: Inner(), deep])
async def test_while_a_nested_run_waits_for_an_answer_the_outer_one_does(make: Any) -> None:
    run = DurableRun(outer_of(make())).start(timeout=10)
    for text in ("Ada", "London"):
        await run.until(lambda run: len(run.kept("w")) == 1 and run.head["due"] is None)
        assert is_idle(run.broker)
        assert not nested_of(run).works, "its own clock stands still, too"
        run.advance(1000)
        run.send(Reply(text=text))
        await run.until(lambda run: not run.kept("w"))
    assert (await run.ended()).event.result == ["Ada", "London"]


async def test_an_outer_run_that_waits_is_not_begun_again_before_the_answer() -> None:
    outer = outer_of(Inner())
    Outer.began = 0
    run = DurableRun(outer).start(timeout=10)
    await run.until(lambda run: len(run.kept("w")) == 1 and run.head["due"] is None)
    run.crash_and_recover()
    run.advance(1000)
    assert (Outer.began, run.outcome) == (1, None)
    run.send(Reply(text="Ada"))
    await run.until(lambda run: len(run.logged(Question)) == 2)
    run.send(Reply(text="London"))
    assert (await run.ended()).event.result == ["Ada", "London"]
    assert Outer.began == 2


class Gate(Workflow):
    """Asks in one step, and works in another."""

    def __init__(self) -> None:
        super().__init__(disable_validation=True)
        self.go_on = asyncio.Event()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.send_event(Signal())
        reply = await ctx.wait_for_event(Reply, waiter_event=Question(text="name"))
        return StopEvent(result=reply.text)

    @step
    async def work(self, ev: Signal) -> None:
        await self.go_on.wait()


async def test_a_nested_run_that_works_beside_its_question_lets_the_outer_one_work() -> None:
    gate = Gate()
    run = DurableRun(outer_of(gate)).start(timeout=10)
    await run.until(lambda run: len(run.kept("w")) == 1)
    broker = run.broker
    assert not is_idle(broker)
    gate.go_on.set()
    await run.until(lambda run: run.head["due"] is None)
    assert is_idle(run.broker)
    assert not may_leave(broker), "its finished step would run again if the run left memory"
    run.send(Reply(text="Ada"))
    assert (await run.ended()).event.result == "Ada"


async def test_a_nested_run_none_of_whose_steps_has_finished_may_leave_memory() -> None:
    run = DurableRun(outer_of(Inner())).start()
    await run.until(lambda run: len(run.kept("w")) == 1 and may_leave(run.broker))
    run.cancel()
    await run.ended()


@pytest.mark.parametrize("how", ["stays", "crash"])
async def test_the_outer_run_keeps_the_deadline_of_a_nested_question(how: str) -> None:
    class Patient(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                await ctx.wait_for_event(Reply, waiter_event=Question(text="name"), timeout=60)
            except TimeoutError:
                return StopEvent(result="late")
            return StopEvent(result="in time")

    run = DurableRun(outer_of(Patient())).start(timeout=10)
    await run.until(lambda run: len(run.kept("w")) == 1 and run.head["due"] is None)
    run.advance(59)
    if how == "crash":
        run.crash_and_recover()
    assert run.outcome is None
    run.advance(2)
    assert (await run.ended()).event.result == "late"


async def test_a_nested_run_ends_with_the_attempt_that_started_it() -> None:
    inner = Inner(timeout=None)
    handler = outer_of(inner).run()
    async for event in handler.stream_events():
        if isinstance(event, Question):
            break
    assert not inner.is_done()
    await handler.cancel_run()
    assert inner.is_done()


async def test_a_nested_run_that_its_step_does_not_await_goes_on_alone() -> None:
    inner = Inner(timeout=None)
    started = []

    class Starts(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> StopEvent:
            started.append(inner.run())
            async for event in started[0].stream_events():
                if isinstance(event, Question):
                    break
            return StopEvent(result="begun")

    assert await Starts(timeout=None).run() == "begun"
    (nested,) = started
    nested.ctx.send_event(Reply(text="Ada"))
    async for event in nested.stream_events():
        if isinstance(event, Question) and event.text == "town":
            nested.ctx.send_event(Reply(text="London"))
    assert await nested == ["Ada", "London"]


async def test_an_outer_step_that_follows_the_stream_of_a_nested_run_waits_too() -> None:
    class Follows(Workflow):
        @step
        async def begin(self, ev: StartEvent, inner: Workflow) -> StopEvent:
            handler = inner.run()
            seen = [type(event).__name__ async for event in handler.stream_events()]
            return StopEvent(result=[seen, await handler])

    outer = Follows(timeout=None)
    outer.add_workflows(inner=Inner())
    run = DurableRun(outer).start(timeout=10)
    for text in ("Ada", "London"):
        await run.until(lambda run: len(run.kept("w")) == 1 and run.head["due"] is None)
        run.advance(1000)
        run.send(Reply(text=text))
        await run.until(lambda run: not run.kept("w"))
    assert (await run.ended()).event.result == [["Question", "Question", "StopEvent"], ["Ada", "London"]]
