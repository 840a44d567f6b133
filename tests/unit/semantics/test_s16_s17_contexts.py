"""S16 and S17: contexts that are used again; nothing grows with history."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun
from tests.unit.semantics.whole import Answer, Inner, Note, Prompt, Whole, Work, events_of, idle

from stepwire.workflow import (
    Context,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowCancelledByUser,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
    step,
)
from stepwire.workflow.context.context import run_of


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
