"""The ledger: what the calls of a delivery got is given again after a crash."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.semantics.durable_flow import Answer, Done, Flow, Note, Prompt, Work
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


async def test_ledger_sends_and_writes_are_not_doubled_after_a_crash() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> list[int]:
        delivered = [ctx.send_event(Work(n=1)).delivered, ctx.send_event(Work(n=1)).delivered]
        ctx.write_event_to_stream(Note(text="a"))
        await flow.pause()
        ctx.write_event_to_stream(Note(text="b"))
        return delivered

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: run.logged(Note))
    run.crash_and_recover()
    await run.ended()
    assert flow.attempts == 2
    assert [each["n"] for each in run.logged(Work)] == [1, 1]
    assert [each["text"] for each in run.logged(Note)] == ["a", "b"]


async def test_ledger_a_call_that_differs_is_new() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        ctx.write_event_to_stream(Note(text=f"attempt {flow.attempts}"))
        ctx.write_event_to_stream(Note(text="same"))
        ctx.send_event(Work(n=1), step="sink" if flow.attempts == 2 else None)
        await flow.pause()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: run.logged(Work))
    run.crash_and_recover()
    await run.ended()
    assert [each["text"] for each in run.logged(Note)] == ["attempt 1", "same", "attempt 2"]
    assert len(run.logged(Work)) == 2


async def test_ledger_many_effects_are_kept_in_pages() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        for n in range(1300):
            ctx.write_event_to_stream(Note(text=str(n)))
        await flow.pause()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: len(run.logged(Note)) == 1300)
    assert len(run.kept("x")) == 3
    run.crash_and_recover()
    await run.ended()
    assert [each["text"] for each in run.logged(Note)] == [str(n) for n in range(1300)]
    assert run.kept("x") == []


async def test_ledger_answers_of_waits_are_given_again() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> list[int]:
        found = [(await ctx.wait_for_event(Answer, waiter_event=Prompt(n=n), timeout=None)).n for n in range(2)]
        await flow.pause()
        return found

    flow = Flow(body)
    run = DurableRun(flow).start()
    for n in range(2):
        await run.until(lambda run, n=n: len(run.logged(Prompt)) == n + 1)  # type: ignore[misc]
        run.send(Answer(n=n * 10))
    await flow.at_work.wait()
    run.crash_and_recover()
    assert (await run.ended()).event.result == [0, 10]
    assert len(run.logged(Prompt)) == 2


async def test_ledger_a_wait_that_timed_out_times_out_again_at_once() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> str:
        try:
            await ctx.wait_for_event(Answer, timeout=10)
        except TimeoutError:
            await flow.pause()
            return "late"
        return "answered"

    flow = Flow(body)
    run = DurableRun(flow).start()
    await run.until(lambda run: run.kept("w"))
    run.advance(10)
    await flow.at_work.wait()
    run.crash_and_recover()
    assert (await run.ended()).event.result == "late"


async def test_ledger_a_wait_that_differs_is_new() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> str:
        if flow.attempts == 1:
            await ctx.wait_for_event(Answer, waiter_id="one", timeout=None)
            open_wait = asyncio.create_task(ctx.wait_for_event(Answer, waiter_id="two", timeout=None))
            await asyncio.sleep(0)
            await flow.pause()
            await open_wait
        first = await ctx.wait_for_event(Work, waiter_id="one", timeout=None)
        second = await ctx.wait_for_event(Work, waiter_id="two", timeout=None)
        return f"{type(first).__name__} {first.n} {type(second).__name__} {second.n}"

    flow = Flow(body)
    run = DurableRun(flow).start()
    await run.until(lambda run: run.kept("w"))
    run.send(Answer())
    await run.until(lambda run: [part["id"] for part in run.kept("w")] == ["two"])
    run.crash_and_recover()
    run.send(Answer(n=1))  # answers what the first attempt had waited for
    await run.until(lambda run: [part["t"] for part in run.kept("w")] == ["Work"])
    run.send(Work(n=2))
    await run.until(lambda run: [(part["id"], part["t"]) for part in run.kept("w")] == [("two", "Work")])
    run.send(Work(n=3))
    assert (await run.ended()).event.result == "Work 2 Work 3"


async def test_ledger_collected_events_are_consumed_only_when_the_delivery_finishes() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        assert ctx.collect_events(Work(n=1), [Work, Done], buffer_id="x") is None
        found = ctx.collect_events(Done(n=2), [Work, Done], buffer_id="x")
        await flow.pause()
        return found

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: len(run.kept("b")) == 2)
    run.crash_and_recover()
    assert (await run.ended()).event.result == [Work(n=1), Done(n=2)]
    assert run.kept("b") == []
    assert run.broker.buffers.numbers() == []


async def test_ledger_a_collect_is_not_doubled_after_a_crash() -> None:
    class Collect(Workflow):
        hang = True
        at_work = asyncio.Event()

        @step
        async def begin(self, ev: StartEvent) -> list[Work]:
            return [Work(n=1), Work(n=2), Work(n=3)]

        @step(num_workers=1)
        async def work(self, ctx: Context, ev: Work) -> StopEvent | None:
            found = ctx.collect_events(ev, [Work] * 3)
            if ev.n == 2 and self.hang:
                Collect.hang = False
                self.at_work.set()
                await asyncio.Event().wait()
            return None if found is None else StopEvent(result=[each.n for each in found])

    run = DurableRun(Collect()).start()
    await Collect.at_work.wait()
    await run.until(lambda run: len(run.kept("b")) == 2)
    run.crash_and_recover()
    assert (await run.ended()).event.result == [1, 2, 3]


async def test_ledger_a_collect_that_differs_finds_the_events_again() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        if flow.attempts == 1:
            for event in (Work(n=1), Done(n=2), Work(n=3)):
                ctx.collect_events(event, [Work, Done], buffer_id="x")
        ctx.collect_events(Work(n=1), [Work, Done], buffer_id="x")
        found = ctx.collect_events(Done(n=9), [Done, Work], buffer_id="x")
        await flow.pause()
        return found

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: run.kept("b"))
    run.crash_and_recover()
    found = (await run.ended()).event.result
    assert [type(each) for each in found] == [Done, Work]
    assert found[1] == Work(n=1)


async def test_ledger_a_retry_by_policy_repeats_sends_and_reuses_collects_and_answers() -> None:
    class Retried(Flow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            self.attempts += 1
            ctx.write_event_to_stream(Note(text="again"))
            ctx.send_event(Work(n=1))
            answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(), timeout=None)
            ctx.collect_events(Work(n=1), [Work, Done], buffer_id="x")
            found = ctx.collect_events(Done(n=2), [Work, Done], buffer_id="x")
            if self.attempts == 1:
                raise ValueError("once")
            return StopEvent(result=[answer.n, found])

    run = DurableRun(Retried(None)).start()
    await run.until(lambda run: run.kept("w"))
    run.send(Answer(n=4))
    assert (await run.ended()).event.result == [4, [Work(n=1), Done(n=2)]]
    assert len(run.logged(Note)) == len(run.logged(Work)) == 2
    assert len(run.logged(Prompt)) == 1


async def test_ledger_a_crash_after_a_retry_repeats_nothing_of_the_retry() -> None:
    class Retried(Flow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            self.attempts += 1
            ctx.write_event_to_stream(Note(text="x"))
            if self.attempts == 1:
                raise ValueError("once")
            if self.attempts == 2:
                self.at_work.set()
                await self.go_on.wait()
            return StopEvent(result=ctx.step_info().attempt)

    flow = Retried(None)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: len(run.logged(Note)) == 2)
    run.crash_and_recover()
    assert (await run.ended()).event.result == 3
    assert len(run.logged(Note)) == 2


async def test_ledger_the_key_of_the_work_is_the_same_in_every_attempt() -> None:
    seen: list[tuple[str, int]] = []

    async def body(flow: Flow, ctx: Context[Any]) -> None:
        info = ctx.step_info()
        seen.append((info.key, info.attempt))
        await flow.pause()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    run.crash_and_recover()
    await run.ended()
    assert seen == [("run/1", 1), ("run/1", 2)]
