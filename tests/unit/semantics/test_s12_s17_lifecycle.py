"""S12-S17: how runs live and end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
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
    WorkflowValidationError,
    catch_error,
    step,
)
from stepwire.workflow.broker.outcome import CANCELLED, COMPLETED, ENDED_TIMED_OUT, FAILED
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import DeadAttemptError, RunEndedError


class Work(Event):
    n: int = 0


class Note(Event):
    n: int = 0


class Prompt(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    n: int = 0


class Report(StopEvent):
    pages: int


class Whole(Workflow):
    """End as the start event says."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.at_work = asyncio.Event()
        self.go_on = asyncio.Event()

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        how = ev.get("how", "complete")
        if how == "fail":
            raise ValueError("no good")
        if how == "hang":
            self.at_work.set()
            await self.go_on.wait()
        return StopEvent(result={"how": how})


async def events_of(handler: Any) -> list[Event]:
    return [event async for event in handler.stream_events()]


# -- S12 ------------------------------------------------------------------------------------------------------------


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


# -- S13 ------------------------------------------------------------------------------------------------------------


class Count(Workflow):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.go_on = asyncio.Event()

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(3):
            ctx.write_event_to_stream(Note(n=n))
        await self.go_on.wait()
        for n in range(3, 6):
            ctx.write_event_to_stream(Note(n=n))
        return StopEvent()


async def numbers(events: Any) -> list[int]:
    return [event.n async for event in events if isinstance(event, Note)]


async def test_s13_several_consumers_each_with_its_own_cursor() -> None:
    workflow = Count()
    handler = workflow.run()
    early = [asyncio.create_task(numbers(handler.stream_events())) for _ in range(3)]
    middle = asyncio.create_task(numbers(handler.stream_events(after=2)))
    await asyncio.sleep(0)
    workflow.go_on.set()
    await handler
    assert await asyncio.gather(*early) == [[0, 1, 2, 3, 4, 5]] * 3
    assert await middle == [2, 3, 4, 5]


async def test_s13_the_stream_can_be_read_after_the_end_and_again() -> None:
    workflow = Count()
    workflow.go_on.set()
    handler = workflow.run()
    await handler
    for _ in range(2):
        assert await numbers(handler.stream_events()) == list(range(6))
    assert await numbers(workflow.stream_events()) == list(range(6))


async def test_s13_an_iteration_that_is_broken_off_is_continued() -> None:
    workflow = Count()
    handler = workflow.run()
    seen: list[int] = []
    async for event in handler.stream_events():
        assert isinstance(event, Note)
        seen.append(event.n)
        if event.n == 1:
            break
    workflow.go_on.set()
    async for event in handler.stream_events():
        if isinstance(event, Note):
            seen.append(event.n)
    assert seen == list(range(6))
    await handler


async def test_s13_a_slow_reader_holds_no_one_up_and_leaves_nothing_behind() -> None:
    workflow = Count()
    handler = workflow.run()
    reader = handler.stream_events(after=3)
    stream = run_of(handler.ctx).broker.stream
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(reader), 0)
    assert not stream._waiting
    workflow.go_on.set()
    await handler
    assert await numbers(reader) == [3, 4, 5]


async def test_s13_the_streaming_queue_of_1x_keeps_its_place() -> None:
    workflow = Count()
    workflow.go_on.set()
    handler = workflow.run()
    seen = []
    while not isinstance(event := await handler.ctx.streaming_queue.get(), StopEvent):
        assert isinstance(event, Note)
        seen.append(event.n)
    assert seen == list(range(6))
    assert handler.ctx.streaming_queue.empty()


# -- S14 ------------------------------------------------------------------------------------------------------------


class Patient(Workflow):
    """Work, wait for an answer, work."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(disable_validation=True, **kwargs)
        self.go_on = asyncio.Event()

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
        how = ev.get("how", "wait")
        if how == "wait":
            await ctx.wait_for_event(Answer, timeout=None)
        elif how == "sleep":
            await ctx.sleep(1000)
        elif how == "ask":
            ctx.write_event_to_stream(Prompt())
            return None
        elif how == "stall":
            return None
        await self.go_on.wait()
        return StopEvent(result="done")

    @step
    async def answer(self, ev: Answer) -> StopEvent:
        await self.go_on.wait()
        return StopEvent(result="answered")


async def idle(run: DurableRun) -> None:
    await run.until(lambda run: run.parts and run.broker.active == 0)


async def test_s14_in_process_the_timeout_is_elapsed_time() -> None:
    with pytest.raises(WorkflowTimeoutError):
        await Patient(timeout=0.01).run()


@pytest.mark.parametrize("how", ["wait", "ask"])
async def test_s14_the_clock_stops_while_a_durable_run_waits_for_outside_input(how: str) -> None:
    run = DurableRun(Patient()).start(StartEvent(how=how), timeout=60)
    await idle(run)
    await run.until(lambda run: run.head["remaining"] == 60)
    assert run.broker.next_due() is None
    run.advance(10_000)
    assert run.outcome is None
    run.send(Answer())
    await run.until(lambda run: run.head["due"] == run.clock.now() + 60)
    run.advance(59)
    assert run.outcome is None
    run.advance(1)
    assert (await run.ended()).status == ENDED_TIMED_OUT


async def test_s14_the_clock_goes_on_while_something_works() -> None:
    run = DurableRun(Patient()).start(StartEvent(how="work"), timeout=60)
    await run.until(lambda run: run.kept("d"))
    run.advance(60)
    outcome = await run.ended()
    assert outcome.event == WorkflowTimedOutEvent(timeout=60, active_steps=["work"])


@pytest.mark.parametrize("how", ["stall", "sleep"])
async def test_s14_a_run_stalled_without_waiting_for_outside_keeps_its_clock(how: str) -> None:
    run = DurableRun(Patient()).start(StartEvent(how=how), timeout=60)
    await idle(run)
    run.advance(60)
    assert (await run.ended()).status == ENDED_TIMED_OUT


async def test_s14_a_retry_back_off_keeps_the_clock_going() -> None:
    class Retrying(Patient):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=1000))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
            ctx.write_event_to_stream(Prompt())
            raise ValueError("later")

    run = DurableRun(Retrying()).start(timeout=60)
    await run.until(lambda run: [part["st"] for part in run.kept("d")] == ["backoff"])
    run.advance(60)
    assert (await run.ended()).status == ENDED_TIMED_OUT


async def test_s14_an_answer_from_outside_ends_the_waiting_for_it() -> None:
    run = DurableRun(Patient()).start(StartEvent(how="ask"), timeout=60)
    await idle(run)
    run.send(Work())  # no one takes it: the run is stalled now
    run.advance(60)
    assert (await run.ended()).status == ENDED_TIMED_OUT


# -- S15 ------------------------------------------------------------------------------------------------------------


async def test_s15_cancelling_a_queued_run_acts_at_once() -> None:
    workflow = Whole(num_concurrent_runs=1)
    first = workflow.run(how="hang")
    second = workflow.run()
    third = workflow.run()
    await workflow.at_work.wait()
    assert not second.done()
    await second.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await second
    assert await events_of(second) == [WorkflowCancelledEvent()]
    assert not first.done()
    workflow.go_on.set()
    assert await first == {"how": "hang"}
    assert await third == {"how": "complete"}
    assert workflow.is_done()


async def test_s15_num_concurrent_runs_bounds_the_runs_at_work() -> None:
    at_work = 0
    most = 0

    class Bounded(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            for _ in range(3):
                await asyncio.sleep(0)
            at_work -= 1
            if ev.n == 2:
                raise ValueError("this one fails, the next ones run all the same")
            return StopEvent(result=ev.n)

    workflow = Bounded(num_concurrent_runs=2)
    handlers = [workflow.run(n=n) for n in range(6)]
    results = await asyncio.gather(*handlers, return_exceptions=True)
    assert [each for each in results if isinstance(each, int)] == [0, 1, 3, 4, 5]
    assert most == 2


async def test_s15_a_step_that_swallows_cancellation_cannot_hang_the_run() -> None:
    class Stubborn(Workflow):
        started = asyncio.Event()
        release = asyncio.Event()
        after = ""

        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            self.started.set()
            while not self.release.is_set():
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    type(self).after = "swallowed"
            try:
                ctx.send_event(Work())
            except DeadAttemptError as error:
                type(self).after = type(error).__name__
            return StopEvent(result="too late")

    workflow = Stubborn()
    handler = workflow.run()
    await workflow.started.wait()
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    await asyncio.sleep(0)
    assert workflow.after == "swallowed"
    workflow.release.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert workflow.after == "DeadAttemptError"
    assert await events_of(handler) == [WorkflowCancelledEvent()]


async def test_s15_cancelling_the_awaiting_is_not_cancelling_the_run() -> None:
    workflow = Whole()
    handler = workflow.run(how="hang")

    async def await_it() -> Any:
        return await handler

    tasks = [asyncio.create_task(await_it()) for _ in range(3)]
    await workflow.at_work.wait()
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handler, 0)
    assert not handler.done()
    workflow.go_on.set()
    assert await tasks[1] == await tasks[2] == await handler == {"how": "hang"}


async def test_s15_a_run_lives_to_its_end_without_its_handler() -> None:
    ended = asyncio.get_running_loop().create_future()

    class Alone(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> Work:
            await asyncio.sleep(0)
            return Work()

        @step
        async def end(self, ev: Work) -> StopEvent:
            ended.set_result(True)
            return StopEvent()

    Alone().run()
    gc.collect()
    assert await ended


async def test_s15_the_handler_is_like_a_future() -> None:
    workflow = Whole()
    handler = workflow.run(how="hang")
    called: list[Any] = []
    handler.add_done_callback(called.append)
    handler.add_done_callback(print)
    assert handler.remove_done_callback(print) == 1
    with pytest.raises(asyncio.InvalidStateError):
        handler.result()
    with pytest.raises(asyncio.InvalidStateError):
        handler.exception()
    workflow.go_on.set()
    done, pending = await asyncio.wait([handler])  # type: ignore[type-var]
    assert (done, pending) == ({handler}, set())
    assert handler.result() == {"how": "hang"}
    assert str(handler) == "{'how': 'hang'}"
    assert handler.exception() is None
    assert called == [handler]
    assert list(await asyncio.gather(handler, handler)) == [{"how": "hang"}] * 2


async def test_s15_an_invalid_start_surfaces_on_await_and_ends_the_stream() -> None:
    class Strict(StartEvent):
        n: int

    class Starting(Workflow):
        @step
        async def work(self, ev: Strict) -> StopEvent:
            return StopEvent(result=ev.n)

    handler = Starting().run(n="many")
    with pytest.raises(WorkflowRuntimeError, match=r"^The input is no Strict: n: "):
        await handler
    (last,) = await events_of(handler)
    assert isinstance(last, WorkflowFailedEvent)
    assert await Starting().run(n=4) == 4
    assert await Starting().run(start_event=Strict(n=5), n=6) == 5
    with pytest.raises(ValueError, match="start_event must be a StartEvent"):
        Starting().run(start_event=Work())  # type: ignore[arg-type]


# -- nested workflows -----------------------------------------------------------------------------------------------

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Inner(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Work:
        outer: Context[Any] | None = ev.get("outer")
        if outer is not None:
            with pytest.raises(WorkflowRuntimeError, match="only be called in a step"):
                outer.step_info()
        assert ctx.step_info().step == "begin"
        return Work(n=ev.n)

    @step
    def end(self, ctx: Context, ev: Work) -> StopEvent:
        return StopEvent(result=[ev.n * 2, ctx.step_info().step, who.get()])


async def test_s15_a_nested_run_knows_nothing_of_the_outer_step() -> None:
    class Outer(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent, inner: Workflow) -> StopEvent:
            who.set("outer step")
            result = await inner.run(n=21, outer=ctx)
            assert ctx.step_info().step == "work"
            return StopEvent(result=result)

    outer = Outer()
    with pytest.raises(WorkflowValidationError, match="inner"):
        outer.run()
    outer.add_workflows(inner=Inner())
    assert await outer.run() == [42, "end", "outer step"]


async def test_s15_a_queued_run_sees_the_contextvars_of_its_own_caller() -> None:
    workflow = Inner(num_concurrent_runs=1)

    async def call(name: str) -> Any:
        who.set(name)
        return await workflow.run(n=1)

    results = await asyncio.gather(*(asyncio.create_task(call(name)) for name in ("ann", "bob", "eve")))
    assert [result[2] for result in results] == ["ann", "bob", "eve"]


async def test_s15_a_step_does_not_see_the_contextvars_of_the_step_before() -> None:
    class Chain(Workflow):
        @step
        async def first(self, ctx: Context, ev: StartEvent) -> Work | None:
            who.set("first step")
            ctx.send_event(Work())
            return None

        @step
        async def second(self, ev: Work) -> StopEvent:
            return StopEvent(result=who.get())

    who.set("caller")
    assert await Chain().run() == "caller"


async def test_s15_what_a_step_left_running_may_still_write() -> None:
    left: list[asyncio.Task[None]] = []

    class Leaving(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> Work:
            returned = asyncio.Event()

            async def later() -> None:
                await returned.wait()
                ctx.write_event_to_stream(Note(n=1))
                await ctx.store.set("later", True)
                ctx.send_event(Answer(n=1))

            left.append(asyncio.create_task(later()))
            asyncio.get_running_loop().call_soon(returned.set)
            return Work()

        @step
        async def wait(self, ctx: Context, ev: Work) -> Note | StopEvent:
            answer = await ctx.wait_for_event(Answer)
            return StopEvent(result=[answer.n, await ctx.store.get("later")])

    handler = Leaving(disable_validation=True).run()
    assert await handler == [1, True]
    await left[0]
    assert [type(event).__name__ for event in await events_of(handler)] == ["Note", "StopEvent"]


async def test_s15_what_still_waits_when_its_step_returned_is_told() -> None:
    left: list[asyncio.Task[Any]] = []

    class Leaving(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            left.append(asyncio.create_task(ctx.wait_for_event(Work)))
            await asyncio.sleep(0)
            return StopEvent(result=len(run_of(ctx).broker.waits))

    handler = Leaving().run()
    assert await handler == 1
    with pytest.raises(DeadAttemptError):
        await left[0]


# -- S16 ------------------------------------------------------------------------------------------------------------


class Keep(Workflow):
    @step
    async def work(self, ctx: Context, ev: StartEvent) -> Work | Prompt | StopEvent:
        count = await ctx.store.get("count", default=0) + 1
        await ctx.store.set("count", count)
        ctx.write_event_to_stream(Note(n=count))
        ctx.send_event(Work(n=count))
        found = ctx.collect_events(Answer(n=count), [Answer] * 3, buffer_id="across")
        return StopEvent(result=[count, None if found is None else [each.n for each in found]])

    @step
    async def never_in_time(self, ctx: Context, ev: Work) -> StopEvent:
        await asyncio.sleep(0)
        await asyncio.Event().wait()
        return StopEvent(result="leaked")


async def test_s16_an_ended_context_keeps_state_and_buffers_and_nothing_else() -> None:
    workflow = Keep(disable_validation=True)
    ctx: Context[Any] = Context(workflow)
    results = []
    for n in range(1, 4):
        handler = workflow.run(ctx=ctx)
        results.append(await handler)
        assert await events_of(handler) == [Note(n=n), StopEvent(result=results[-1])]
        assert run_of(ctx).broker.deliveries == {}
        assert not ctx.is_running
    assert results == [[1, None], [2, None], [3, [1, 2, 3]]]


async def test_s16_a_stream_can_be_read_after_its_context_went_on() -> None:
    workflow = Keep(disable_validation=True)
    first = workflow.run()
    await first
    second = workflow.run(ctx=first.ctx)
    await second
    assert (await events_of(first))[0] == Note(n=1)
    assert (await events_of(second))[0] == Note(n=2)


@pytest.mark.parametrize("how", ["fail", "cancel", "timeout"])
async def test_s16_a_context_goes_on_after_any_end(how: str) -> None:
    workflow = Whole(timeout=0.01 if how == "timeout" else 30)
    handler = workflow.run(how="fail" if how == "fail" else "hang")
    await handler.ctx.store.set("kept", 1)
    if how == "cancel":
        await handler.cancel_run()
    with pytest.raises((WorkflowRuntimeError, WorkflowTimeoutError, WorkflowCancelledByUser)):
        await handler
    again = Whole().run(ctx=handler.ctx)
    assert await again == {"how": "complete"}
    assert await again.ctx.store.get("kept") == 1


async def test_s16_an_ended_snapshot_starts_anew() -> None:
    run = DurableRun(Keep(disable_validation=True)).start()
    await run.ended()
    other = run.fork()
    assert other.outcome is not None
    other.start()
    assert (await other.ended()).event.result == [2, None]
    assert [entry.sequence for entry in other.log] == list(range(1, len(other.log) + 1))


async def test_s16_a_context_belongs_to_one_run_at_a_time() -> None:
    workflow = Whole()
    handler = workflow.run(how="hang")
    with pytest.raises(WorkflowRuntimeError, match="has not ended"):
        workflow.run(ctx=handler.ctx)
    with pytest.raises(WorkflowRuntimeError, match="of workflow 'Whole', not "):
        Inner().run(ctx=handler.ctx)
    workflow.go_on.set()
    await handler


# -- S17 ------------------------------------------------------------------------------------------------------------


class Loop(Workflow):
    """Send, collect, wait and write for a number of rounds, then idle."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Work:
        return Work(n=ev.rounds)

    @step
    async def work(self, ctx: Context, ev: Work) -> Work | Prompt | None:
        ctx.write_event_to_stream(Note(n=ev.n))
        ctx.collect_events(Note(n=ev.n), [Note, Note])
        waiting = asyncio.create_task(ctx.wait_for_event(Answer, timeout=5))
        await asyncio.sleep(0)
        ctx.send_event(Answer(n=ev.n))
        await waiting
        await ctx.store.set("n", ev.n)
        return Work(n=ev.n - 1) if ev.n else Prompt()

    @step
    async def end(self, ev: Answer) -> StopEvent | None:
        return None


async def test_s17_nothing_grows_with_history() -> None:
    sizes: dict[int, list[int]] = {}
    for rounds in (9, 59):
        run = DurableRun(Loop()).start(StartEvent(rounds=rounds))
        await idle(run)
        broker = run.broker
        assert broker.sequence > rounds * 3
        sizes[rounds] = [
            len(run.parts),
            len(broker.deliveries),
            len(broker.executions),
            len(broker.waits),
            len(broker.buffers.numbers()),
            len(broker.stream.events),
            len(broker.work.resumed or ()),
            len(broker.work.timers._heap) // 32,  # cancelled ones are forgotten in batches
        ]
        assert len(b"".join(run.parts.values())) < 1000
    assert sizes[9] == sizes[59]


async def test_s17_without_a_store_the_stream_lives_as_long_as_its_readers() -> None:
    import weakref

    workflow = Whole()
    handler = workflow.run()
    await handler
    stream = handler._stream
    alive = weakref.ref(handler)
    del handler
    gc.collect()
    assert alive() is None
    # This name and the call's own argument: no one else holds the stream.
    assert sys.getrefcount(stream) == 2


async def test_s16_what_is_left_of_an_ended_run_does_not_drive_the_next_one() -> None:
    class Lingering(Workflow):
        first_ended = asyncio.Event()
        lingered = asyncio.Event()

        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> list[Work | Note]:
            return [Note(n=ev.n)] if ev.n else [Work(), Note(n=0)]

        @step
        async def linger(self, ctx: Context, ev: Work) -> StopEvent:
            while not self.first_ended.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.first_ended.wait()
            self.lingered.set()
            return StopEvent(result="lingered")

        @step
        async def end(self, ctx: Context, ev: Note) -> StopEvent:
            if ev.n:
                self.first_ended.set()
                await self.lingered.wait()
                await asyncio.sleep(0)
            return StopEvent(result=ev.n)

    workflow = Lingering()
    first = workflow.run(n=0)
    assert await first == 0
    second = workflow.run(ctx=first.ctx, n=5)
    await first.cancel_run()
    assert await second == 5
    assert (await first, first.result()) == (0, 0)


async def test_s16_a_queued_run_of_a_used_context_begins_only_in_its_turn() -> None:
    class Turns(Workflow):
        go_on = asyncio.Event()
        ran: list[str] = []  # noqa: RUF012

        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if ev.get("hang"):
                await self.go_on.wait()
            return StopEvent(result=ctx.collect_events(Note(n=1), [Note], buffer_id="x"))

        @step
        async def note(self, ev: Note) -> None:
            self.ran.append("note")

    workflow = Turns(num_concurrent_runs=1, disable_validation=True)
    used = workflow.run()
    await used
    blocker = workflow.run(hang=True)
    queued = workflow.run(ctx=used.ctx)
    queued.ctx.send_event(Note())
    await asyncio.sleep(0)
    assert workflow.ran == []
    workflow.go_on.set()
    await blocker
    await queued
    assert workflow.ran == ["note"]
