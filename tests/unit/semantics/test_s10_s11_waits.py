"""S10 and S11: waits of one id, prompts, and workers of steps that wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from tests.unit.semantics.collecting import A, Answer, Ask, B, C, Prompt
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    step,
)
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import RunEndedError


class Queue(Workflow):
    """Three deliveries wait for A, with ids and prompts as configured."""

    waits: list[tuple[str, str]] = []  # noqa: RUF012 - replaced, not changed

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> B | None:
        for n in range(len(self.waits)):
            ctx.send_event(B(n=n))
        return None

    @step(num_workers=1)
    async def work(self, ctx: Context, ev: B) -> C:
        waiter_id, text = self.waits[ev.n]
        answer = await ctx.wait_for_event(A, waiter_event=Prompt(text=text), waiter_id=waiter_id, timeout=None)
        return C(n=ev.n * 100 + answer.n)

    @step
    async def end(self, ctx: Context, ev: C) -> StopEvent | None:
        found = ctx.collect_events(ev, [C] * len(self.waits))
        return None if found is None else StopEvent(result=[each.n for each in found])

    def __init__(self, *waits: tuple[str, str]) -> None:
        super().__init__(timeout=None, disable_validation=True)
        self.waits = list(waits)


async def test_s10_same_id_first_in_first_out_one_event_one_waiter() -> None:
    run = DurableRun(Queue(("x", "?"), ("x", "?"), ("x", "?"))).start()
    await run.until(lambda run: len(run.kept("w")) == 3)
    for n in range(3):
        assert run.send(A(n=n)).delivered == 1
    assert (await run.ended()).event.result == [0, 101, 202]


async def test_s10_an_equal_prompt_is_suppressed_while_that_id_is_open() -> None:
    run = DurableRun(Queue(("x", "same"), ("x", "same"), ("x", "other"), ("y", "same"))).start()
    await run.until(lambda run: len(run.kept("w")) == 4)
    assert [each["text"] for each in run.logged(Prompt)] == ["same", "other", "same"]


async def test_s10_a_prompt_is_asked_again_once_the_id_is_not_open() -> None:
    class Twice(Ask):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            for _ in range(2):
                await ctx.wait_for_event(A, waiter_event=Prompt(text="again?"), waiter_id="x")
            return StopEvent()

    handler = Twice(disable_validation=True).run()
    asked = 0
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            asked += 1
            handler.ctx.send_event(A())
    assert asked == 2


async def test_s10_prompts_are_suppressed_across_a_restore() -> None:
    run = DurableRun(Queue(("x", "one"), ("y", "two"))).start()
    await run.until(lambda run: len(run.kept("w")) == 2)
    run.crash_and_recover()
    # Both deliveries run again when their answers come; neither asks anew.
    run.send(A(n=1))
    assert (await run.ended()).event.result == [1, 101]
    assert [each["text"] for each in run.logged(Prompt)] == ["one", "two"]


async def test_s10_prompts_are_suppressed_across_to_dict_and_from_dict() -> None:
    handler = Ask().run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            break
    saved = handler.ctx.to_dict()
    await handler.cancel_run()
    restored: Context[Any] = Context.from_dict(Ask(), saved)
    again = Ask().run(ctx=restored)
    again.ctx.send_event(Answer(n=8))
    assert await again == 8
    assert [type(ev) async for ev in again.stream_events()] == [StopEvent]


async def test_s10_each_matching_waiter_of_different_ids_gets_the_event() -> None:
    run = DurableRun(Queue(("x", "?"), ("y", "?"), ("x", "?"))).start()
    await run.until(lambda run: len(run.kept("w")) == 3)
    assert run.send(A(n=1)).delivered == 2
    assert run.send(A(n=2)).delivered == 1
    assert (await run.ended()).event.result == [1, 101, 202]


async def test_s10_steps_that_accept_the_type_get_it_too() -> None:
    class Both(Ask):
        taken = asyncio.Event()

        @step
        async def also(self, ctx: Context, ev: Answer) -> None:
            await ctx.store.set("also", ev.n)
            self.taken.set()

        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            answer = await ctx.wait_for_event(Answer, waiter_event=Prompt())
            await self.taken.wait()
            return StopEvent(result=[answer.n, await ctx.store.get("also")])

    handler = Both().run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            assert handler.ctx.send_event(Answer(n=6)).delivered == 2
    assert await handler == [6, 6]


async def test_s10_an_event_for_one_step_answers_no_waiter() -> None:
    class Both(Ask):
        @step
        async def also(self, ctx: Context, ev: Answer) -> None:
            ctx.send_event(A(n=ev.n))

        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            one = asyncio.create_task(ctx.wait_for_event(Answer, waiter_event=Prompt()))
            await ctx.wait_for_event(A)
            answered = one.done()
            one.cancel()
            return StopEvent(result=answered)

    handler = Both().run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            assert handler.ctx.send_event(Answer(n=6), step="also").delivered == 1
    assert await handler is False


async def test_s10_a_dict_as_prompt_is_taken_with_a_warning() -> None:
    class Old(Ask):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            with pytest.warns(UserWarning, match="pass an event"):
                answer = await ctx.wait_for_event(Answer, waiter_event={"text": "old"})
            return StopEvent(result=answer.n)

    handler = Old().run()
    async for event in handler.stream_events():
        if type(event) is Event:  # none that the caller could take for a question of another kind
            assert event.text == "old"
            handler.ctx.send_event(Answer(n=1))
    assert await handler == 1


async def test_s11_a_waiting_step_gives_its_worker_back() -> None:
    # Queue.work has one worker, and all of its deliveries wait at once.
    run = DurableRun(Queue(*[(str(n), "?") for n in range(10)])).start()
    await run.until(lambda run: len(run.kept("w")) == 10)
    assert run.broker.queues["work"].running == 0
    run.send(A(n=1))
    assert (await run.ended()).event.result == [n * 100 + 1 for n in range(10)]


async def test_s11_an_answered_step_goes_on_only_with_a_worker() -> None:
    running = 0
    most = 0

    class Busy(Queue):
        @step(num_workers=1)
        async def work(self, ctx: Context, ev: B) -> C:
            nonlocal running, most
            await ctx.wait_for_event(A, waiter_id=str(ev.n), timeout=None)
            running += 1
            most = max(most, running)
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1
            return C(n=ev.n)

    run = DurableRun(Busy(*[("", "")] * 5)).start()
    await run.until(lambda run: len(run.kept("w")) == 5)
    run.send(A())
    assert (await run.ended()).event.result == [0, 1, 2, 3, 4]
    assert most == 1


class Typed(BaseModel):
    count: int = 0


async def test_s11_waits_work_with_typed_state() -> None:
    class TypedAsk(Workflow):
        @step
        async def ask(self, ctx: Context[Typed], ev: StartEvent) -> Prompt | StopEvent:
            answer = await ctx.wait_for_event(Answer, waiter_event=Prompt())
            await ctx.store.set("count", answer.n)
            return StopEvent(result=(await ctx.store.get_state()).count)

    handler = TypedAsk().run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            handler.ctx.send_event(Answer(n=3))
    assert await handler == 3


async def test_s11_waits_work_outside_a_step_with_and_without_a_run() -> None:
    class Emit(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> A:
            return A(n=5)

        @step
        async def end(self, ev: A) -> StopEvent:
            return StopEvent(result=ev.n)

    workflow = Emit()
    ctx: Context[Any] = Context(workflow)
    early = asyncio.create_task(ctx.wait_for_event(C))
    waiting = asyncio.create_task(ctx.wait_for_event(A))
    await asyncio.sleep(0)
    ctx.send_event(C(n=1))
    assert (await early).n == 1
    handler = workflow.run(ctx=ctx)
    assert (await waiting).n == 5
    assert await handler == 5


async def test_s11_a_wait_outside_a_step_ends_with_the_run() -> None:
    handler = Ask().run()
    waiting = asyncio.create_task(handler.ctx.wait_for_event(A))
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            handler.ctx.send_event(Answer(n=1))
    with pytest.raises(RunEndedError):
        await waiting


async def test_s11_a_wait_outside_is_answered_by_what_ends_the_run_too() -> None:
    class Fan(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> list[A | StopEvent]:
            await ctx.wait_for_event(B)
            return [A(n=5), StopEvent()]

    handler = Fan(disable_validation=True).run()
    waiting = asyncio.create_task(handler.ctx.wait_for_event(A))
    await asyncio.sleep(0)
    handler.ctx.send_event(B())
    await handler
    assert (await waiting).n == 5


async def test_s11_waiting_inside_edit_state_raises() -> None:
    class Wrong(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async with ctx.store.edit_state():
                with pytest.raises(WorkflowRuntimeError, match="inside edit_state"):
                    await ctx.wait_for_event(A)
                with pytest.raises(WorkflowRuntimeError, match="inside edit_state"):
                    await ctx.sleep(1)
            return StopEvent()

    await Wrong().run()


async def test_s11_several_waits_of_one_step_at_once() -> None:
    class Gather(Ask):
        @step(num_workers=1)
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            async def one(n: int) -> int:
                answer = await ctx.wait_for_event(
                    Answer, waiter_event=Prompt(text=str(n)), waiter_id=str(n), requirements={"user": str(n)}
                )
                await ctx.wait_for_event(A, waiter_id=f"then {n}")
                return answer.n

            found = await asyncio.gather(*(one(n) for n in range(3)))
            return StopEvent(result=[found, run_of(ctx).broker.queues["ask"].running, run_of(ctx).broker.work.parked])

    run = DurableRun(Gather(disable_validation=True)).start()
    await run.until(lambda run: len(run.kept("w")) == 3)
    for n in (2, 0, 1):
        run.send(Answer(user=str(n), n=n * 10))
    await run.until(lambda run: {part["t"] for part in run.kept("w")} == {"A"} and len(run.kept("w")) == 3)
    assert run.send(A()).delivered == 3
    assert (await run.ended()).event.result == [[0, 10, 20], 1, 0]


async def test_s11_a_wait_that_is_open_while_the_step_works_on() -> None:
    class Side(Ask):
        @step(num_workers=1, retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
        async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
            side = asyncio.create_task(ctx.wait_for_event(Answer, waiter_id="side"))
            await ctx.wait_for_event(A, waiter_event=Prompt(), waiter_id="main")
            answers = [(await side).n]
            for n in range(3):
                one = asyncio.create_task(ctx.wait_for_event(Answer, waiter_id=f"one {n}"))
                two = asyncio.create_task(ctx.wait_for_event(B, waiter_id=f"two {n}"))
                await asyncio.sleep(0)
                ctx.send_event(B())
                await two
                ctx.send_event(Answer(n=n))
                answers.append((await one).n)
            queue = run_of(ctx).broker.queues["ask"]
            return StopEvent(result=[answers, queue.running, len(queue), run_of(ctx).broker.work.parked])

    run = DurableRun(Side(disable_validation=True)).start()
    await run.until(lambda run: run.logged(Prompt))
    run.send(A())
    await run.until(lambda run: len(run.kept("w")) == 1)
    run.send(Answer(n=7))
    assert (await run.ended()).event.result == [[7, 0, 1, 2], 1, 0, 0]
