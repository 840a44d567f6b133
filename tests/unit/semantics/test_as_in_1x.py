"""What a workflow written for 1.x leans on without knowing: each line was found by running one."""

from __future__ import annotations

import pytest

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    DictState,
    Event,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowCheckpointer,
    WorkflowValidationError,
    step,
)
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import UnknownStepError
from stepwire.workflow.handler import WorkflowHandler


class Left(Event):
    n: int


class Right(Event):
    n: int


class Typed(StopEvent):
    result: int
    note: str = ""


def test_a_stop_event_takes_its_result_without_a_name() -> None:
    assert StopEvent(3).result == 3
    assert StopEvent(None) == StopEvent(result=None)
    assert StopEvent("x", more=1).model_dump() == {"result": "x", "_data": {"more": 1}}
    assert Typed(4, note="n") == Typed(result=4, note="n")  # type: ignore[call-arg,misc]
    with pytest.raises(TypeError, match="Typed got its result twice"):
        Typed(1, result=2)  # type: ignore[misc]


async def test_a_step_is_retried_as_often_as_maximum_attempts_says() -> None:
    class Flaky(Workflow):
        executions = 0

        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=3, delay=0))
        async def work(self, ev: StartEvent) -> StopEvent:
            self.executions += 1
            if self.executions <= 3:
                raise ValueError("again")
            return StopEvent(self.executions)

    assert await Flaky().run() == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_clear_acts_at_once_and_may_be_awaited() -> None:
    class Clearing(Workflow):
        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            await ctx.store.set("a", 1)
            ctx.clear()
            found = [await ctx.store.get("a", default=None)]
            await ctx.store.set("a", 2)
            await ctx.clear()
            return StopEvent([*found, await ctx.store.get("a", default=None)])

        @step
        def in_a_thread(self, ctx: Context[DictState], ev: Left) -> None:
            ctx.clear()

    assert await Clearing(disable_validation=True).run() == [None, None]
    outside = Context[DictState](Clearing(disable_validation=True))
    await outside.store.set("a", 1)
    outside.clear()
    assert await outside.store.get("a", default=None) is None


async def test_the_workflows_own_stream_ends_before_the_stop_event() -> None:
    class Noisy(Workflow):
        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(Left(n=1))
            return StopEvent(2)

    workflow = Noisy()
    handler = workflow.run()
    assert [event async for event in workflow.stream_events()] == [Left(n=1)]
    assert await handler == 2
    assert [event async for event in handler.stream_events()] == [Left(n=1), StopEvent(2)]


class FanOut(Workflow):
    """Its first step sends, and returns nothing."""

    seen: list[int]

    @step
    async def begin(self, ctx: Context[DictState], ev: StartEvent) -> None:
        for n in range(ev.get("count", 1)):
            ctx.send_event(Left(n=n))
        ctx.send_event(Right(n=9), step="right")

    @step(num_workers=1)
    async def left(self, ctx: Context[DictState], ev: Left) -> Right | None:
        self.seen.append(ev.n)
        return Right(n=ev.n)

    @step
    async def right(self, ctx: Context[DictState], ev: Right) -> StopEvent | None:
        found = ctx.collect_events(ev, [Right] * 4)
        return None if found is None else StopEvent(sorted(each.n for each in found if isinstance(each, Right)))


async def drive(handler: WorkflowHandler) -> list[list[str]]:
    """Run a stepwise run as the documentation of 1.x shows; return the names of what each step gave."""
    given: list[list[str]] = []
    while events := await handler.run_step():
        given.append([type(event).__name__ for event in events])
        for event in events:
            handler.ctx.send_event(event)
    return given


async def test_run_step_returns_what_a_step_sent_and_sending_it_on_sends_it_once() -> None:
    workflow = FanOut(disable_validation=True)
    workflow.seen = []
    handler = workflow.run(stepwise=True, count=1)
    events = await handler.run_step()
    assert events == [Left(n=0), Right(n=9)]
    for event in events:
        assert handler.ctx.send_event(event).delivered == 1
    assert [len(run_of(handler.ctx).broker.queues[name]) for name in ("left", "right")] == [1, 1]
    # The same object sent a second time is sent a second time.
    handler.ctx.send_event(events[0])
    assert len(run_of(handler.ctx).broker.queues["left"]) == 2
    with pytest.raises(UnknownStepError):
        handler.ctx.send_event(events[0], step="nowhere")
    await handler.cancel_run()


async def test_a_stepwise_run_with_fan_out_comes_to_its_end() -> None:
    class Three(FanOut):
        @step
        async def begin(self, ctx: Context[DictState], ev: StartEvent) -> None:
            for n in range(3):
                ctx.send_event(Left(n=n))
            ctx.send_event(Right(n=9))

        @step(num_workers=4)
        async def left(self, ctx: Context[DictState], ev: Left) -> Right | None:
            self.seen.append(ev.n)
            return Right(n=ev.n)

    workflow = Three(disable_validation=True)
    workflow.seen = []
    handler = workflow.run(stepwise=True)
    assert await drive(handler) == [["Left", "Left", "Left", "Right"], ["Right"] * 3, ["StopEvent"]]
    assert await handler == [0, 1, 2, 9]
    assert sorted(workflow.seen) == [0, 1, 2]


async def test_a_checkpoint_of_a_stepwise_run_has_what_its_step_sent() -> None:
    workflow = FanOut(disable_validation=True)
    workflow.seen = []
    checkpointer = WorkflowCheckpointer(workflow)
    handler = checkpointer.run(stepwise=True, count=3)
    await handler.run_step()
    [checkpoint] = checkpointer.checkpoints[handler.run_id]
    assert checkpoint.output_event is None
    await handler.cancel_run()
    assert await workflow.run_from(checkpoint, count=3) == [0, 1, 2, 9]


async def test_a_dict_as_prompt_is_no_question_of_another_kind() -> None:
    """In 1.x it came out of the stream as it was; readers that look for their own questions passed it over."""

    class Old(Workflow):
        @step
        async def ask(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(Left, {"waiter_id": "one"})
            return StopEvent(answer.n)

    async def answer(handler: WorkflowHandler) -> list[Event]:
        seen: list[Event] = []
        async for event in handler.stream_events():
            seen.append(event)
            if type(event) is Event:
                assert event["waiter_id"] == "one"
                handler.ctx.send_event(Left(n=3))
        return seen

    handler = Old().run()
    with pytest.warns(UserWarning, match="pass an event"):
        seen = await answer(handler)
    assert await handler == 3
    assert not any(isinstance(event, InputRequiredEvent) for event in seen)


async def test_a_nested_workflow_is_found_by_name_whatever_its_annotation_says() -> None:
    """Services, and what is injected, may be imported for type checkers only; 1.x raised NameError."""

    class Inner(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            return StopEvent(ev.n + 1)

    class Outer(Workflow):
        @step
        async def work(self, ev: StartEvent, inner: nowhere.Inner, spare: Nothing | None = None) -> StopEvent:  # type: ignore[name-defined]  # noqa: F821
            return StopEvent([await inner.run(n=1), spare])

    outer = Outer()
    with pytest.raises(WorkflowValidationError, match=r"inner \(step 'work'\)"):
        outer.run()
    outer.add_workflows(inner=Inner())
    assert await outer.run() == [2, None]
