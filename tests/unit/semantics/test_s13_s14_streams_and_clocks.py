"""S13 and S14: the stream belongs to the run; the clock of its timeout."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun
from tests.unit.semantics.whole import Answer, Note, Prompt, Work, idle, numbers

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowTimedOutEvent,
    WorkflowTimeoutError,
    step,
)
from stepwire.workflow.broker.outcome import ENDED_TIMED_OUT
from stepwire.workflow.context.context import run_of


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
    assert not stream.waiting
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
