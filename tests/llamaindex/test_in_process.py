"""Workflows of LlamaIndex 2.x in process: `adopt(workflow).run()`."""

import asyncio
import json

import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, catch_error, step
from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

import stepwire.workflow as own
from stepwire.workflow import adopt


class Middle(Event):
    number: int


class Plain(Workflow):
    @step
    async def first(self, ctx: Context, ev: StartEvent) -> Middle:
        await ctx.store.set("seen", ev.number)
        ctx.write_event_to_stream(Middle(number=0, note="dynamic"))
        return Middle(number=ev.number)

    @step
    def second(self, ev: Middle) -> StopEvent:
        return StopEvent(result=ev.number + 1)


class Asking(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="?"))
        return StopEvent(result=answer.response)


async def test_events_state_and_result() -> None:
    handler = adopt(Plain()).run(number=1)
    events = [event async for event in handler.stream_events()]
    assert [type(event) for event in events] == [Middle, StopEvent]
    assert events[0].note == "dynamic"
    assert await handler == 2
    assert await handler.ctx.store.get("seen") == 1


def test_the_same_object_is_adopted_once() -> None:
    workflow = Plain()
    assert adopt(workflow) is adopt(workflow)


def test_events_count_as_ours() -> None:
    adopt(Plain())
    assert isinstance(Middle(number=1), own.Event)
    assert issubclass(StartEvent, own.StartEvent)
    assert not isinstance(Middle(number=1), own.StartEvent)
    assert not isinstance(object(), own.Event)


async def test_a_failure_is_the_steps_own_exception() -> None:
    class Failing(Workflow):
        @step
        async def fail(self, ev: StartEvent) -> StopEvent:
            raise KeyError("gone")

    handler = adopt(Failing()).run()
    events = [event async for event in handler.stream_events()]
    with pytest.raises(KeyError, match="gone"):
        await handler
    assert isinstance(events[-1], WorkflowFailedEvent)
    assert events[-1].step_name == "fail"
    assert isinstance(events[-1].exception, KeyError)


async def test_timeout_and_cancel() -> None:
    class Slow(Workflow):
        @step
        async def wait(self, ev: StartEvent) -> StopEvent:
            await asyncio.Event().wait()
            return StopEvent()

    late = adopt(Slow(timeout=0.05)).run()
    with pytest.raises(WorkflowTimeoutError):
        await late
    assert late.get_stop_event() is None
    assert isinstance([event async for event in late.stream_events()][-1], WorkflowTimedOutEvent)
    cancelled = adopt(Slow()).run()
    await cancelled.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await cancelled


async def test_a_retry_policy_counts_failures_from_one_and_is_told_of() -> None:
    infos = []

    class Flaky(Workflow):
        @step(retry_policy=retry_policy(stop=stop_after_attempt(3), wait=wait_fixed(0)))
        async def flaky(self, ctx: Context, ev: StartEvent) -> StopEvent:
            infos.append(ctx.retry_info())
            if len(infos) < 3:
                raise ValueError(str(len(infos)))
            return StopEvent(result="well")

    assert await adopt(Flaky()).run() == "well"
    assert [info.retry_number for info in infos] == [0, 1, 2]
    assert infos[0].last_exception is None
    assert str(infos[2].last_exception) == "2"


async def test_a_failure_is_caught() -> None:
    class Catching(Workflow):
        @step
        async def fail(self, ev: StartEvent) -> StopEvent:
            raise ValueError("bad")

        @catch_error
        async def rescue(self, ctx: Context, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=(ev.step_name, str(ev.exception), ev.attempts, type(ev.input_event).__name__))

    assert await adopt(Catching()).run() == ("fail", "bad", 1, "StartEvent")


async def test_a_context_goes_on_in_the_next_run() -> None:
    class Counting(Workflow):
        @step
        async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
            n = await ctx.store.get("n", default=0) + 1
            await ctx.store.set("n", n)
            return StopEvent(result=n)

    workflow = Counting()
    ctx = Context(workflow)
    await ctx.store.set("n", 10)
    assert await adopt(workflow).run(ctx=ctx) == 11
    assert await adopt(workflow).run(ctx=ctx) == 12
    again = Context.from_dict(workflow, json.loads(json.dumps(ctx.to_dict())))
    assert await adopt(workflow).run(ctx=again) == 13


async def test_a_saved_question_is_answered_after_a_restore() -> None:
    workflow = Asking()
    handler = adopt(workflow).run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    saved = json.loads(json.dumps(handler.ctx.to_dict()))
    await handler.cancel_run()
    ctx = Context.from_dict(workflow, saved)
    assert ctx.is_running
    handler = adopt(workflow).run(ctx=ctx)
    handler.ctx.send_event(HumanResponseEvent(response="fine"))
    assert await handler == "fine"


async def test_what_their_engine_saved_goes_on_here() -> None:
    workflow = Asking()
    theirs = workflow.run()
    async for event in theirs.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    saved = json.loads(json.dumps(theirs.ctx.to_dict()))
    await theirs.cancel_run()
    handler = adopt(workflow).run(ctx=Context.from_dict(workflow, saved))
    handler.ctx.send_event(HumanResponseEvent(response="moved"))
    assert await handler == "moved"


class Base(BaseModel):
    one: int = 1


class Derived(Base):
    two: int = 2


async def test_the_most_derived_state_is_the_states() -> None:
    class Typed(Workflow):
        @step
        async def first(self, ctx: Context[Base], ev: StartEvent) -> Middle:
            return Middle(number=(await ctx.store.get_state()).one)

        @step
        async def second(self, ctx: Context[Derived], ev: Middle) -> StopEvent:
            state = await ctx.store.get_state()
            return StopEvent(result=(type(state), ev.number + state.two))

    assert await adopt(Typed()).run() == (Derived, 3)


async def test_parallel_waits_without_ids_are_each_their_own() -> None:
    class Ask(Event):
        name: str

    class Many(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Ask | None:
            for name in "ab":
                ctx.send_event(Ask(name=name))
            return None

        @step
        async def ask(self, ctx: Context, ev: Ask) -> Middle:
            await ctx.wait_for_event(
                HumanResponseEvent, waiter_event=InputRequiredEvent(name=ev.name), requirements={"to": ev.name}
            )
            return Middle(number=1)

        @step
        async def gather(self, ctx: Context, ev: Middle) -> StopEvent | None:
            return StopEvent(result="both") if ctx.collect_events(ev, [Middle] * 2) else None

    handler = adopt(Many()).run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(HumanResponseEvent(to=event.name))
    assert await handler == "both"
