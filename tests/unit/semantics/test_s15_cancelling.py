"""S15: cancelling, queued and nested runs."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from tests.unit.semantics.whole import Answer, Inner, Note, Whole, Work, events_of, who

from stepwire.workflow import (
    Context,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowCancelledByUser,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowRuntimeError,
    WorkflowValidationError,
    step,
)
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import DeadAttemptError


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
