"""S3: sync steps."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from tests.unit.semantics.deliveries import Done, Exact, Question, Work

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    step,
)
from stepwire.workflow.context.context import run_of

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


async def test_s03_sync_steps_run_in_threads_with_the_contextvars_of_the_caller() -> None:
    class Sync(Workflow):
        @step
        def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(threading.current_thread() is threading.main_thread(), color.get()))

    token = color.set("blue")
    handler = Sync().run()
    color.reset(token)
    assert await handler == (False, "blue")


async def test_s03_sync_steps_are_retried_and_are_in_progress() -> None:
    seen: list[list[str]] = []

    class Sync(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
        def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            seen.append([each.step for each in run_of(ctx).broker.deliveries.values()])
            if len(seen) == 1:
                raise ValueError("first")
            return StopEvent(result=ctx.step_info().attempt)

    assert await Sync().run() == 2
    assert seen == [["work"], ["work"]]


async def test_s03_sync_calls_are_effective_at_once() -> None:
    class Sync(Workflow):
        go_on = threading.Event()

        @step
        def begin(self, ctx: Context, ev: StartEvent) -> Work | Done:
            ctx.write_event_to_stream(Question(text="now"))
            assert ctx.collect_events(ev, [StartEvent]) == [ev]
            receipt = ctx.send_event(Work(n=1))
            assert receipt.delivered == 1
            assert self.go_on.wait(60)  # set by the step that takes the event, while this one still runs
            return Done(n=5)

        @step
        async def work(self, ev: Work) -> None:
            self.go_on.set()

        @step
        async def end(self, ev: Done) -> StopEvent:
            return StopEvent(result=ev.n)

    handler = Sync().run()
    assert await handler == 5
    assert [type(ev).__name__ async for ev in handler.stream_events()] == ["Question", "StopEvent"]


async def test_s03_calls_from_many_threads_are_safe() -> None:
    class Sync(Workflow):
        @step
        def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
            for n in range(50):
                ctx.send_event(Work(n=n))
            return None

        @step(num_workers=8)
        def work(self, ctx: Context, ev: Work) -> Done:
            for _ in range(10):
                ctx.write_event_to_stream(Work(n=ev.n))
            return Done(n=ev.n)

        @step
        def end(self, ctx: Context, ev: Done) -> StopEvent | None:
            found = ctx.collect_events(ev, [Done] * 50)
            return None if found is None else StopEvent(result=sorted(each.n for each in found))

    handler = Sync().run()
    assert await handler == list(range(50))
    written = [ev.n async for ev in handler.stream_events() if isinstance(ev, Work)]
    assert sorted(written) == sorted(list(range(50)) * 10)


async def test_s03_events_can_be_sent_from_any_thread() -> None:
    class Threads(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
            def send() -> None:
                ctx.send_event(Work(n=9))

            thread = threading.Thread(target=send)
            thread.start()
            answer = await ctx.wait_for_event(Work)
            thread.join()
            return StopEvent(result=answer.n)

    workflow = Threads(disable_validation=True)
    assert await workflow.run() == 9


async def test_s03_blocking_twins_of_store_and_waits() -> None:
    class Sync(Workflow):
        @step
        def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            store = ctx.blocking.store
            store.set("a.b", 1)
            with store.edit_state() as state:
                state["c"] = 2
                with pytest.raises(WorkflowRuntimeError, match="inside edit_state"):
                    store.set("d", 1)
                with pytest.raises(WorkflowRuntimeError, match="inside edit_state"):
                    ctx.blocking.wait_for_event(Work)
            with pytest.raises(ZeroDivisionError), store.edit_state() as state:
                state["c"] = 3 // 0
            with pytest.raises(TimeoutError):
                ctx.blocking.wait_for_event(Work, timeout=0)
            answer = ctx.blocking.wait_for_event(Work, waiter_event=Question(text="?"))
            return StopEvent(result=[store.get("a.b"), store.get("c"), store.get("x", default=None), answer.n])

    workflow = Sync(disable_validation=True)
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, Question):
            handler.ctx.send_event(Work(n=4))
    assert await handler == [1, 2, None, 4]


async def test_s03_blocking_calls_in_an_async_step_are_refused() -> None:
    class Wrong(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(WorkflowRuntimeError, match="await"):
                ctx.blocking.store.get("x")
            return StopEvent()

    await Wrong().run()


async def test_s03_a_sync_step_whose_run_ended_is_not_left_waiting() -> None:
    woke: list[str] = []
    woken = threading.Event()

    class Sync(Workflow):
        @step
        def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                ctx.blocking.wait_for_event(Work, waiter_event=Question(), timeout=None)
            except BaseException as error:
                woke.append(type(error).__name__)
                woken.set()
                raise
            return StopEvent()

    handler = Sync(disable_validation=True).run()
    async for _ in handler.stream_events():
        break
    await handler.cancel_run()
    assert await asyncio.to_thread(woken.wait, 60)
    assert woke == ["DeadAttemptError"]


async def test_s03_a_sync_step_that_raises_stop_iteration_fails() -> None:
    class Sync(Workflow):
        @step
        def work(self, ev: StartEvent) -> StopEvent:
            return next(iter(()))

    with pytest.raises(WorkflowRuntimeError, match="StopIteration"):
        await Sync().run()


async def test_s03_stepwise_works_with_sync_steps() -> None:
    class Chain(Workflow):
        @step
        def first(self, ev: StartEvent) -> Work:
            return Work(n=1)

        @step
        async def second(self, ev: Work) -> Done:
            return Done(n=ev.n + 1)

        @step
        def third(self, ev: Done) -> StopEvent:
            return StopEvent(result=ev.n + 1)

    handler = Chain().run(stepwise=True)
    produced: list[str] = []
    while events := await handler.run_step():
        for event in events:
            produced.append(type(event).__name__)
            handler.ctx.send_event(event)
    assert produced == ["Work", "Done", "StopEvent"]
    assert await handler == 3
    assert await handler.run_step() is None


async def test_s03_stepwise_runs_a_step_through_its_retries() -> None:
    class Flaky(Workflow):
        attempts = 0

        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=2, delay=0.001))
        def work(self, ev: StartEvent) -> StopEvent:
            type(self).attempts += 1
            if self.attempts < 3:
                raise ValueError("again")
            return StopEvent(result=self.attempts)

    handler = Flaky().run(stepwise=True)
    events = await handler.run_step()
    assert events == [StopEvent(result=3)]
    handler.ctx.send_event(events[0])
    assert await handler == 3


async def test_s03_stepwise_raises_what_a_step_fails_with() -> None:
    class Failing(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError("no")

    handler = Failing().run(stepwise=True)
    with pytest.raises(WorkflowRuntimeError, match="Error in step 'work': no"):
        await handler.run_step()
    assert await handler.run_step() is None
    with pytest.raises(ValueError, match="stepwise=True"):
        await Exact().run().run_step()
