"""S8 and S9: collect_events; the deadline, requirements and removal of a wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.collecting import A, Answer, Ask, B, C, Prompt
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    Context,
    Event,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import SerializationError


class Unregistered(Event):
    """Known to no workflow: it is taken out of the module below."""


_unregistered = Unregistered
del Unregistered


def collector() -> Context[Any]:
    class Nothing(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    return Context(Nothing())


async def test_s08_all_or_nothing_in_the_order_of_expected() -> None:
    ctx = collector()
    assert ctx.collect_events(A(n=1), [B, A, A]) is None
    assert ctx.collect_events(A(n=2), [B, A, A]) is None
    assert ctx.collect_events(B(n=3), [B, A, A]) == [B(n=3), A(n=1), A(n=2)]
    assert ctx.collect_events(B(n=4), [B, A, A]) is None


async def test_s08_arrival_order_is_kept_per_type() -> None:
    ctx = collector()
    for n in range(5):
        assert ctx.collect_events(A(n=n), [A, A, B]) is None
    assert ctx.collect_events(B(), [A, A, B]) == [A(n=0), A(n=1), B()]
    assert ctx.collect_events(B(), [A, A, B]) == [A(n=2), A(n=3), B()]


async def test_s08_the_default_buffer_is_that_of_the_set_of_types() -> None:
    ctx = collector()
    assert ctx.collect_events(A(n=1), [A, B]) is None
    assert ctx.collect_events(A(n=2), [A, C]) is None
    assert ctx.collect_events(C(n=3), [A, C]) == [A(n=2), C(n=3)]
    assert ctx.collect_events(B(n=4), [B, A]) == [B(n=4), A(n=1)]


async def test_s08_steps_do_not_share_the_default_buffer_but_a_named_one() -> None:
    class Share(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | B:
            ctx.send_event(A(n=1))
            return B(n=2)

        @step
        async def first(self, ctx: Context, ev: A) -> C | None:
            assert ctx.collect_events(ev, [A, B]) is None
            found = ctx.collect_events(ev, [A, B], buffer_id="shared")
            return None if found is None else C(n=1)

        @step
        async def second(self, ctx: Context, ev: B) -> C | None:
            assert ctx.collect_events(ev, [A, B]) is None
            found = ctx.collect_events(ev, [A, B], buffer_id="shared")
            return None if found is None else C(n=2)

        @step
        async def end(self, ev: C) -> StopEvent:
            return StopEvent(result=ev.n)

    assert await Share().run() in (1, 2)


async def test_s08_buffers_of_a_context_outside_a_run_are_there_in_the_run() -> None:
    class Late(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ctx.collect_events(B(n=2), [A, B], buffer_id="x"))

    workflow = Late()
    ctx: Context[Any] = Context(workflow)
    assert ctx.collect_events(A(n=1), [A, B], buffer_id="x") is None
    assert await workflow.run(ctx=ctx) == [A(n=1), B(n=2)]


async def test_s09_there_is_one_deadline_for_the_whole_wait() -> None:
    class Picky(Ask):
        requirements = {"user": "eve"}  # noqa: RUF012

    run = DurableRun(Picky()).start()
    await run.until(lambda run: run.kept("w"))
    for _ in range(3):
        run.advance(3)
        run.send(Answer(user="bob"))  # not the one: it does not begin the wait anew
    run.advance(1)
    assert (await run.ended()).event.result == "late"


async def test_s09_a_wait_times_out_in_process() -> None:
    class Short(Ask):
        timeout_of_wait = 0.001

    assert await Short().run() == "late"


async def test_s09_the_timeout_error_is_asyncios() -> None:
    ctx = collector()
    with pytest.raises(asyncio.TimeoutError, match=r"no A within 0\.001 seconds"):
        await ctx.wait_for_event(A, timeout=0.001)


async def test_s09_requirements_match_declared_and_dynamic_fields() -> None:
    class Picky(Ask):
        requirements = {"user": "eve", "room": 5, "items": [1]}  # noqa: RUF012

    workflow = Picky()
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            for fields in (
                {"user": "bob", "room": 5, "items": [1]},
                {"user": "eve", "room": 6, "items": [1]},
                {"user": "eve", "room": 5},  # `items` is a method, no field
                {"user": "eve", "items": [1]},
            ):
                assert handler.ctx.send_event(Answer(n=1, **fields)).delivered == 0
            assert handler.ctx.send_event(Answer(n=2, user="eve", room=5, items=[1])).delivered == 1
    assert await handler == 2


async def test_s09_waiter_data_never_lives_in_the_users_state() -> None:
    run = DurableRun(Ask()).start()
    await run.until(lambda run: run.kept("w"))
    assert (await run.context.store.get_state()).to_dict() == {}
    assert [key for key in run.parts if key.startswith("s/")] == []
    assert run.kept("w")[0]["id"] == "who"


@pytest.mark.parametrize("how", ["resolve", "timeout", "cancel"])
async def test_s09_a_waiter_is_removed(how: str) -> None:
    class Twice(Ask):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            wait = asyncio.create_task(ctx.wait_for_event(A, waiter_event=Prompt(text="1"), timeout=10))
            if how == "cancel":
                await asyncio.sleep(0)
                wait.cancel()
            await asyncio.wait([wait])
            await ctx.wait_for_event(B, waiter_event=Prompt(text="2"), timeout=None)
            return StopEvent(result=ctx.send_event(A()).delivered)

    run = DurableRun(Twice(disable_validation=True)).start()
    if how != "cancel":
        await run.until(lambda run: run.stream == ["Prompt"])
        if how == "resolve":
            run.send(A())
        else:
            run.advance(10)
    await run.until(lambda run: run.stream == ["Prompt"] * 2)
    assert [part["t"] for part in run.kept("w")] == ["B"]
    assert len(run.broker.waits) == 1
    run.send(B())
    assert (await run.ended()).event.result == 0


async def test_s09_a_waiter_never_sees_an_event_older_than_itself() -> None:
    class Late(Ask):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            ctx.send_event(Answer(n=1))
            wait = asyncio.create_task(ctx.wait_for_event(Answer, waiter_event=Prompt()))
            return StopEvent(result=(await wait).n)

    handler = Late().run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            handler.ctx.send_event(Answer(n=2))
    assert await handler == 2


async def test_s09_a_wait_that_is_cancelled_ends_and_the_step_goes_on() -> None:
    class Impatient(Ask):
        @step(num_workers=1)
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            try:
                async with asyncio.timeout(0.001):
                    await ctx.wait_for_event(Answer)
            except TimeoutError:
                assert await ctx.running_steps() == ["ask"]
                assert run_of(ctx).broker.queues["ask"].running == 1  # it has its worker again
                return StopEvent(result="gave up")
            return StopEvent()

    assert await Impatient().run() == "gave up"


async def test_s09_what_cannot_be_saved_is_refused_at_the_call() -> None:
    class Bad(Ask):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            with pytest.raises(SerializationError):
                await ctx.wait_for_event(Answer, requirements={"user": object()})
            with pytest.raises(SerializationError):
                await ctx.wait_for_event(Answer, waiter_event=Prompt(extra=object()))
            with pytest.raises(SerializationError):
                await ctx.wait_for_event(_unregistered)
            return StopEvent(result=len(run_of(ctx).broker.waits))

    run = DurableRun(Bad()).start()
    assert (await run.ended()).event.result == 0
    assert run.stream == ["StopEvent"]
