"""S12: how runs end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun
from tests.unit.semantics.whole import Note, Whole, Work, events_of

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Workflow,
    WorkflowCancelledByUser,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowRuntimeError,
    WorkflowTimedOutEvent,
    WorkflowTimeoutError,
    catch_error,
    step,
)
from stepwire.workflow.broker.outcome import CANCELLED, COMPLETED, ENDED_TIMED_OUT, FAILED
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import RunEndedError


class Report(StopEvent):
    pages: int


async def test_s12_completed() -> None:
    handler = Whole().run()
    assert await handler == {"how": "complete"}
    assert await events_of(handler) == [StopEvent(result={"how": "complete"})]
    outcome = run_of(handler.ctx).broker.outcome
    assert outcome is not None
    assert outcome.status == COMPLETED
    assert handler.ctx.get_result() == {"how": "complete"}


async def test_s12_failed() -> None:
    handler = Whole().run(how="fail")
    with pytest.raises(WorkflowRuntimeError, match=r"^Error in step 'work': no good$") as caught:
        await handler
    assert isinstance(caught.value.__cause__, ValueError)
    (last,) = await events_of(handler)
    assert last == WorkflowFailedEvent(step="work", error_type="ValueError", message="no good", attempts=1)
    outcome = run_of(handler.ctx).broker.outcome
    assert outcome is not None
    assert outcome.status == FAILED
    with pytest.raises(WorkflowRuntimeError, match="no result"):
        handler.ctx.get_result()


async def test_s12_cancelled() -> None:
    workflow = Whole()
    handler = workflow.run(how="hang")
    await workflow.at_work.wait()
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert await events_of(handler) == [WorkflowCancelledEvent()]
    outcome = run_of(handler.ctx).broker.outcome
    assert outcome is not None
    assert outcome.status == CANCELLED


async def test_s12_timed_out() -> None:
    handler = Whole(timeout=0.01).run(how="hang")
    with pytest.raises(WorkflowTimeoutError, match=r"^Operation timed out after 0\.01 seconds$"):
        await handler
    assert await events_of(handler) == [WorkflowTimedOutEvent(timeout=0.01, active_steps=["work"])]
    outcome = run_of(handler.ctx).broker.outcome
    assert outcome is not None
    assert outcome.status == ENDED_TIMED_OUT


async def test_s12_the_reason_is_in_the_terminal_entry_and_there_is_one() -> None:
    workflow = Whole()
    run = DurableRun(workflow).start(StartEvent(how="hang"))
    await workflow.at_work.wait()
    run.cancel("enough")
    run.cancel("twice")
    workflow.go_on.set()
    outcome = await run.ended()
    assert outcome.event == WorkflowCancelledEvent(reason="enough")
    assert run.stream == ["WorkflowCancelledEvent"]
    assert run.logged(WorkflowCancelledEvent) == [{"reason": "enough"}]


async def test_s12_the_result_survives_serialization() -> None:
    run = DurableRun(Whole()).start()
    await run.ended()
    run.release()
    run.recover()
    assert run.outcome is not None
    assert run.outcome.event == StopEvent(result={"how": "complete"})

    handler = Whole().run()
    await handler
    restored: Context[Any] = Context.from_dict(Whole(), handler.ctx.to_dict())
    assert restored.get_result() == {"how": "complete"}
    assert not restored.is_running


async def test_s12_a_stop_event_of_ones_own_is_the_result() -> None:
    class Reporting(Workflow):
        @step
        async def work(self, ev: StartEvent) -> Report:
            return Report(pages=3)

    handler = Reporting().run()
    assert await handler == Report(pages=3)
    assert await events_of(handler) == [Report(pages=3)]


async def test_s12_an_ended_run_takes_nothing_more() -> None:
    run = DurableRun(Whole()).start()
    await run.ended()
    with pytest.raises(RunEndedError, match="completed"):
        run.send(Work())
    handler = Whole().run()
    await handler
    with pytest.raises(RunEndedError):
        handler.ctx.send_event(Work())
    with pytest.raises(RunEndedError):
        handler.ctx.write_event_to_stream(Work())


async def test_s12_a_stop_event_from_outside_ends_the_run() -> None:
    workflow = Whole()
    handler = workflow.run(how="hang")
    await workflow.at_work.wait()
    handler.ctx.send_event(StopEvent(result="outside"))
    assert await handler == "outside"
    assert await events_of(handler) == [StopEvent(result="outside")]


async def test_s12_a_stop_event_ends_the_run_while_others_work() -> None:
    seen: list[str] = []

    class Race(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Work | Note:
            ctx.send_event(Work())
            return Note()

        @step
        async def slow(self, ctx: Context, ev: Work) -> StopEvent:
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cancelled")
            return StopEvent(result="slow")

        @step
        async def fast(self, ev: Note) -> StopEvent:
            return StopEvent(result="fast")

    assert await Race().run() == "fast"
    await asyncio.sleep(0)
    assert seen == ["cancelled"]


async def test_s12_a_caught_failure_is_no_end() -> None:
    class Careful(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError("oh")

        @catch_error
        async def rescue(self, ctx: Context, ev: StepFailedEvent) -> StopEvent:
            assert isinstance(ev.exception, ValueError)
            return StopEvent(result=[ev.step, ev.error_type, ev.message, ev.attempts, type(ev.event).__name__])

    expected = ["work", "ValueError", "oh", 2, "StartEvent"]
    handler = Careful().run()
    assert await handler == expected
    assert await events_of(handler) == [StopEvent(result=expected)]
    run = DurableRun(Careful()).start()
    assert (await run.ended()).event.result == expected


async def test_s12_a_failing_rescue_fails_the_run() -> None:
    class Careless(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError("oh")

        @catch_error
        async def rescue(self, ev: StepFailedEvent) -> StopEvent:
            raise KeyError("dear")

    with pytest.raises(WorkflowRuntimeError, match=r"^Error in step 'rescue'"):
        await Careless().run()


async def test_s12_a_rescue_for_named_steps_goes_first() -> None:
    class Rescues(Workflow):
        @step
        async def work(self, ev: StartEvent) -> Work:
            if ev.get("early"):
                raise ValueError("early")
            return Work()

        @step
        async def more(self, ev: Work) -> StopEvent:
            raise ValueError("late")

        @catch_error
        async def all(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="all")

        @catch_error(steps=["more"])
        async def only(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="only")

    assert await Rescues().run() == "only"
    assert await Rescues().run(early=True) == "all"


async def test_s12_text_that_no_log_can_hold_fails_the_run_all_the_same() -> None:
    class Surrogate(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError("half \ud800")

    run = DurableRun(Surrogate()).start()
    outcome = await run.ended()
    assert isinstance(outcome.event, WorkflowFailedEvent)
    assert outcome.event.message == "half ?"
