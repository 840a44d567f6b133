"""Waiters and clocks over crashes, releases and forks; poison."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.semantics.durable_flow import Answer, Done, Flow, Prompt, Work, settle
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    WorkflowFailedEvent,
    catch_error,
    step,
)
from stepwire.workflow.broker.outcome import FAILED


async def wait_once(flow: Flow, ctx: Context[Any]) -> int:
    return (await ctx.wait_for_event(Answer, waiter_event=Prompt(), timeout=100)).n


async def test_waiters_a_parked_delivery_is_not_run_again_at_restore() -> None:
    flow = Flow(wait_once)
    run = DurableRun(flow).start()
    await run.until(lambda run: run.kept("w"))
    for _ in range(10):
        run.crash_and_recover()
        await settle()
    assert flow.attempts == 1
    assert list(run.broker.executions) == []
    assert run.kept("d")[0]["l"] == 0
    run.send(Answer(n=3))
    assert (await run.ended()).event.result == 3
    assert flow.attempts == 2


async def test_waiters_an_answer_is_taken_before_the_step_ran_again() -> None:
    flow = Flow(wait_once)
    run = DurableRun(flow).start()
    await run.until(lambda run: run.kept("w"))
    run.crash_and_recover()
    run.hold()
    assert run.send(Answer(n=3)).delivered == 1
    assert run.send(Answer(n=4)).delivered == 0
    await settle()
    assert flow.attempts == 1
    run.let_go()
    assert (await run.ended()).event.result == 3


async def test_waiters_a_deadline_runs_a_parked_delivery_again() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> str:
        try:
            await ctx.wait_for_event(Answer, timeout=100)
        except TimeoutError:
            return f"late in attempt {flow.attempts}"
        return "answered"

    run = DurableRun(Flow(body)).start()
    await run.until(lambda run: run.kept("w"))
    run.release()
    run.advance(1000)
    run.recover()
    assert run.broker.next_due() == run.clock.now() - 900
    run.advance(0)
    assert (await run.ended()).event.result == "late in attempt 2"


async def test_waiters_a_sleep_is_durable() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> int:
        await ctx.sleep(50)
        await ctx.sleep(50)
        return flow.attempts

    run = DurableRun(Flow(body)).start()
    for _ in range(2):
        due = run.clock.now() + 50
        await run.until(lambda run, due=due: [part["u"] for part in run.kept("w")] == [due])  # type: ignore[misc]
        run.crash_and_recover()
        run.advance(50)
    assert (await run.ended()).event.result == 3


async def test_waiters_of_one_gather_are_each_durable() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> list[int]:
        async def one(n: int) -> int:
            answer = await ctx.wait_for_event(
                Answer, waiter_event=Prompt(n=n), waiter_id=str(n), requirements={"user": n}, timeout=None
            )
            return answer.n

        return list(await asyncio.gather(*(one(n) for n in range(3))))

    flow = Flow(body)
    run = DurableRun(flow).start()
    await run.until(lambda run: len(run.kept("w")) == 3)
    run.send(Answer(user=1, n=10))
    await run.until(lambda run: len(run.kept("w")) == 2)
    run.crash_and_recover()
    await settle()
    assert flow.attempts == 1
    run.send(Answer(user=2, n=20))
    await run.until(lambda run: len(run.kept("w")) == 1)
    run.crash_and_recover()
    run.send(Answer(user=0, n=30))
    assert (await run.ended()).event.result == [30, 10, 20]
    assert len(run.logged(Prompt)) == 3
    assert run.parts.keys() == {"h"}


async def test_waiters_are_not_lost_by_release() -> None:
    flow = Flow(wait_once)
    run = DurableRun(flow).start()
    await run.until(lambda run: run.kept("w"))
    run.release()
    assert [part["st"] for part in run.kept("d")] == ["parked"]
    assert len(run.kept("w")) == 1
    run.recover().send(Answer(n=1))
    assert (await run.ended()).event.result == 1


async def test_waiters_what_was_answered_but_had_no_worker_yet_is_not_lost() -> None:
    class Narrow(Flow):
        @step(num_workers=1)
        async def sink(self, ctx: Context, ev: Work) -> Done:  # type: ignore[override]
            answer = await ctx.wait_for_event(Answer, waiter_id=str(ev.n), timeout=None)
            await self.pause()
            return Done(n=answer.n + ev.n)

        @step
        async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
            found = ctx.collect_events(ev, [Done, Done])
            return None if found is None else StopEvent(result=sorted(each.n for each in found))

        @step
        async def work(self, ctx: Context, ev: StartEvent) -> list[Work]:  # type: ignore[override]
            self.attempts = 1
            return [Work(n=1), Work(n=2)]

    flow = Narrow(None)
    run = DurableRun(flow).start()
    await run.until(lambda run: len(run.kept("w")) == 2)
    run.send(Answer(n=10))
    await flow.at_work.wait()
    assert sorted(part["st"] for part in run.kept("d")) == ["ready", "running"]
    run.crash()
    flow.attempts = 2
    run.recover()
    assert (await run.ended()).event.result == [11, 12]


async def test_poison_after_five_lost_executions_the_run_fails_with_crash_loop() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        flow.at_work.set()
        await flow.go_on.wait()

    flow = Flow(body)
    run = DurableRun(flow).start()
    for lost in range(5):
        await flow.at_work.wait()
        flow.at_work.clear()
        assert (flow.attempts, run.outcome) == (lost + 1, None)
        run.crash_and_recover()
    outcome = await run.ended()
    assert (outcome.status, flow.attempts) == (FAILED, 5)
    assert isinstance(outcome.event, WorkflowFailedEvent)
    assert (outcome.event.step, outcome.event.error_type, outcome.event.attempts) == ("work", "CRASH_LOOP", 5)


async def test_poison_can_be_caught() -> None:
    class Caught(Flow):
        @catch_error
        async def rescue(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=[ev.step, ev.error_type])

    async def body(flow: Flow, ctx: Context[Any]) -> None:
        flow.at_work.set()
        await flow.go_on.wait()

    flow = Caught(body)
    run = DurableRun(flow).start()
    for _ in range(5):
        await flow.at_work.wait()
        flow.at_work.clear()
        run.crash_and_recover()
    assert (await run.ended()).event.result == ["work", "CRASH_LOOP"]


async def test_poison_lost_executions_do_not_count_in_the_retry_policy() -> None:
    failures: list[int] = []

    class Policy:
        def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
            failures.append(attempts)
            return 0 if attempts < 1 else None

    class Retried(Flow):
        @step(retry_policy=Policy())
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            self.attempts += 1
            if self.attempts <= 2:
                self.at_work.set()
                await self.go_on.wait()
            raise ValueError("no")

    flow = Retried(None)
    run = DurableRun(flow).start()
    for _ in range(2):
        await flow.at_work.wait()
        flow.at_work.clear()
        run.crash_and_recover()
    outcome = await run.ended()
    assert failures == [0, 1]
    assert (outcome.event.attempts, flow.attempts) == (2, 4)


async def test_poison_a_release_loses_no_execution() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> int:
        flow.at_work.set()
        if flow.attempts < 9:
            await flow.go_on.wait()
        return flow.attempts

    flow = Flow(body)
    run = DurableRun(flow).start()
    for _ in range(8):
        await flow.at_work.wait()
        flow.at_work.clear()
        run.release()
        assert [part["l"] for part in run.kept("d")] == [0]
        run.recover()
    assert (await run.ended()).event.result == 9


async def test_poison_a_task_cancelled_by_someone_else_is_a_lost_execution() -> None:
    tasks: list[Any] = []

    async def body(flow: Flow, ctx: Context[Any]) -> int:
        tasks.append(asyncio.current_task())
        await flow.pause()
        return flow.attempts

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    tasks[0].cancel()
    await run.until(lambda run: run.kept("d") and run.kept("d")[0]["l"] == 1)
    assert (await run.ended()).event.result == 2


async def test_poison_a_cancellation_that_the_step_raises_itself_is_a_failure() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        raise asyncio.CancelledError

    run = DurableRun(Flow(body)).start()
    assert (await run.ended()).event.error_type == "CancelledError"


async def test_clocks_the_same_run_keeps_its_due_times_and_a_fork_the_seconds_left() -> None:
    class Clocks(Flow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=40))
        async def sink(self, ctx: Context, ev: Work) -> None:
            raise ValueError("later")

        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.send_event(Work())
            await ctx.wait_for_event(Answer, timeout=100)
            return StopEvent()

    run = DurableRun(Clocks(None)).start(timeout=500)
    await run.until(lambda run: sorted(part["st"] for part in run.kept("d")) == ["backoff", "parked"])
    start = run.clock.now()
    run.release()
    run.advance(30)

    other = run.fork(Clocks(None))
    now = other.clock.now()
    assert now == start + 30
    assert dues(other, now) == [40, 100, 500]

    run.recover()
    assert dues(run, start) == [40, 100, 500]


def dues(run: DurableRun, since: float) -> list[float]:
    """Return the seconds from `since` to each due time: of waits, back-offs and the run itself."""
    timers = [timer.due for timer in run.broker.work.timers._heap if timer.item is not None]
    return sorted(due - since for due in [*timers, run.broker.limit.due or since])


async def test_clocks_the_elapsed_time_of_a_retry_spans_a_crash_and_never_runs_backwards() -> None:
    elapsed: list[float] = []

    class Policy:
        def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
            elapsed.append(elapsed_time)
            return None

    class Retried(Flow):
        @step(retry_policy=Policy())
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            self.attempts += 1
            await self.pause()
            raise ValueError("no")

    for passed, expected in ((70, 70), (-20, 0)):
        flow = Retried(None)
        run = DurableRun(flow).start()
        await flow.at_work.wait()
        run.crash()
        run.clock.time += passed
        run.recover()
        await run.ended()
        assert elapsed.pop() == expected


async def test_clocks_a_stopped_clock_stays_stopped() -> None:
    run = DurableRun(Flow(wait_once)).start(timeout=60)
    await run.until(lambda run: run.head.get("remaining") == 60)
    run.release()
    run.advance(90)
    run.recover()
    assert run.outcome is None
    assert run.broker.limit.remaining == 60
