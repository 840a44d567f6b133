"""The Durability rules that are the engine's: commit, membrane, ledger, clocks, poison, damage, dead attempts."""

from __future__ import annotations

import asyncio
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
    WorkflowFailedEvent,
    catch_error,
    step,
)
from stepwire.workflow.broker.outcome import FAILED
from stepwire.workflow.broker.progress import is_idle
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import DeadAttemptError, SerializationError, SnapshotError


class Work(Event):
    n: int = 0


class Done(Event):
    n: int = 0


class Note(Event):
    text: str = ""


class Prompt(InputRequiredEvent):
    n: int = 0


class Answer(HumanResponseEvent):
    n: int = 0


class Flow(Workflow):
    """One step whose body the test gives; `attempts` counts how often it began."""

    def __init__(self, body: Any) -> None:
        super().__init__(timeout=None, disable_validation=True)
        self.body = body
        self.attempts = 0
        self.at_work = asyncio.Event()
        self.go_on = asyncio.Event()

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        self.attempts += 1
        return StopEvent(result=await self.body(self, ctx))

    @step
    async def sink(self, ctx: Context, ev: Work) -> None:
        return None

    async def pause(self) -> None:
        """Hang in the first attempt, go on in the next."""
        if self.attempts == 1:
            self.at_work.set()
            await self.go_on.wait()


async def settle(turns: int = 10) -> None:
    """Give tasks that can go on a chance to; what is tested after it must not have happened."""
    for _ in range(turns):
        await asyncio.sleep(0)


# -- the commit and the membrane ------------------------------------------------------------------------------------


async def test_membrane_a_body_starts_only_after_its_delivery_is_durable() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> list[str]:
        return [part["st"] for part in run.kept("d") if part["s"] == "work"]

    flow = Flow(body)
    run = DurableRun(flow)
    run.hold()
    run.start()
    await settle()
    assert (flow.attempts, run.parts) == (0, {})
    run.let_go()
    assert (await run.ended()).event.result == ["running"]


async def test_membrane_a_run_lost_before_its_commit_has_done_nothing() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        raise AssertionError

    flow = Flow(body)
    run = DurableRun(flow)
    run.hold()
    run.start()
    await settle()
    run.crash()
    run.let_go()
    await settle()
    assert (flow.attempts, run.parts, run.log) == (0, {}, [])


async def test_membrane_an_answer_reaches_the_body_only_when_it_is_durable() -> None:
    answered: list[int] = []

    async def body(flow: Flow, ctx: Context[Any]) -> int:
        answered.append((await ctx.wait_for_event(Answer)).n)
        return answered[-1]

    run = DurableRun(Flow(body)).start()
    await run.until(lambda run: run.kept("w"))
    run.hold()
    run.send(Answer(n=5))
    await settle()
    assert answered == []
    run.let_go()
    assert (await run.ended()).event.result == 5


async def test_commit_counters_are_never_behind_the_log() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        for n in range(3):
            ctx.write_event_to_stream(Note(text=str(n)))
        await flow.pause()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: len(run.log) == 4)
    assert run.head["seq"] == 4
    run.crash_and_recover()
    await run.ended()
    assert [entry.sequence for entry in run.log] == [1, 2, 3, 4, 5]


async def test_commit_outputs_and_the_end_of_their_delivery_are_one() -> None:
    class Two(Workflow):
        go_on = asyncio.Event()

        @step
        async def first(self, ev: StartEvent) -> Work:
            return Work(n=1)

        @step
        async def second(self, ev: Work) -> StopEvent:
            await self.go_on.wait()
            return StopEvent()

    run = DurableRun(Two()).start()
    states: set[tuple[str, ...]] = set()
    while not any(part["s"] == "second" and part["st"] == "running" for part in run.kept("d")):
        count = run.commits
        await run.until(lambda run, count=count: run.commits > count)  # type: ignore[misc]
        states.add(tuple(part["s"] for part in run.kept("d")))
    assert states == {("first",), ("second",)}
    Two.go_on.set()
    await run.ended()


# -- the ledger -----------------------------------------------------------------------------------------------------


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


# -- durable waiters ------------------------------------------------------------------------------------------------


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
    assert run.broker.executions == {}
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


# -- poison ---------------------------------------------------------------------------------------------------------


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


# -- clocks ---------------------------------------------------------------------------------------------------------


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


# -- state damage ---------------------------------------------------------------------------------------------------


async def test_damage_found_at_commit_fails_the_run_naming_the_keys() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        await ctx.store.set("good", [1])
        await ctx.store.set("bad", [1])
        await ctx.store.set("worse", {"a": 1})
        await flow.pause()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: "s/bad" in run.parts)
    run.context.store.peek("good").append(2)
    run.context.store.peek("bad").append(object())
    run.context.store.peek("worse")["b"] = {1: float("nan")}
    run.broker.touch_head()
    outcome = await run.ended()
    assert outcome.status == FAILED
    assert isinstance(outcome.error, SerializationError)
    assert sorted(outcome.error.keys) == ["bad", "worse"]
    assert "bad, worse" in outcome.event.message
    assert {key: part for key, part in run.parts.items() if key[0] == "s"} == {
        "s/good": b"[1,2]",
        "s/bad": b"[1]",
        "s/worse": b'{"a":1}',
    }


async def test_damage_done_by_the_last_step_fails_the_run_that_would_have_completed() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        await ctx.store.set("bad", [1])
        (await ctx.store.get("bad")).append(object())

    run = DurableRun(Flow(body)).start()
    outcome = await run.ended()
    assert outcome.status == FAILED
    assert isinstance(outcome.error, SerializationError)
    assert outcome.error.keys == ("bad",)
    assert run.stream == ["WorkflowFailedEvent"]


async def test_damage_an_event_that_cannot_be_saved_is_refused_at_the_call_and_nothing_changes() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> int:
        before = run_of(ctx).broker.sequence
        for event in (Work(bad=object()), Note(bad=float("nan"))):
            with pytest.raises(SerializationError, match="bad"):
                ctx.send_event(event)
            with pytest.raises(SerializationError, match="bad"):
                ctx.write_event_to_stream(event)
        with pytest.raises(SerializationError, match="bad"):
            ctx.collect_events(Work(bad=object()), [Work, Work])
        return run_of(ctx).broker.sequence - before

    run = DurableRun(Flow(body)).start()
    assert (await run.ended()).event.result == 0


async def test_damage_a_result_that_cannot_be_saved_fails_the_step() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        return object()

    run = DurableRun(Flow(body)).start()
    outcome = await run.ended()
    assert (outcome.status, outcome.event.error_type) == (FAILED, "SerializationError")


# -- dead attempts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["timeout", "cancel", "release", "crash"])
async def test_dead_attempts_raise_and_change_nothing(how: str) -> None:
    told: list[str] = []
    may_act = asyncio.Event()
    acted = asyncio.Event()

    class Zombie(Flow):
        @step(timeout=10, retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=1000))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            self.at_work.set()
            while not may_act.is_set():
                try:
                    await may_act.wait()
                except asyncio.CancelledError:
                    told.append("cancelled")
            for call in (
                lambda: ctx.send_event(Work()),
                lambda: ctx.write_event_to_stream(Note()),
                lambda: ctx.collect_events(Work(), [Work, Work]),
            ):
                try:
                    call()
                except DeadAttemptError:
                    told.append("dead")
            for awaitable in (ctx.store.set("a", 1), ctx.wait_for_event(Answer), ctx.sleep(1)):
                try:
                    await awaitable
                except DeadAttemptError:
                    told.append("dead")
            acted.set()
            return StopEvent(result="too late")

    flow = Zombie(None)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    if how == "timeout":
        run.advance(10)
    elif how == "cancel":
        run.cancel()
    elif how == "release":
        run.release()
    else:
        run.crash()
    await settle()
    before = (dict(run.parts), len(run.log), run.broker.sequence)
    may_act.set()
    await acted.wait()
    await settle()
    assert told == ["cancelled"] + ["dead"] * 6
    assert (run.parts, len(run.log), run.broker.sequence) == before


async def test_dead_attempts_whose_waits_are_open_are_told() -> None:
    told: list[str] = []

    async def body(flow: Flow, ctx: Context[Any]) -> None:
        async def aside() -> None:
            try:
                await ctx.wait_for_event(Answer, timeout=None)
            except DeadAttemptError:
                told.append("dead")

        flow.aside = asyncio.create_task(aside())  # type: ignore[attr-defined]
        await flow.go_on.wait()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await run.until(lambda run: run.kept("w"))
    run.release()
    await flow.aside  # type: ignore[attr-defined]
    assert told == ["dead"]
    assert len(run.kept("w")) == 1


# -- fork -----------------------------------------------------------------------------------------------------------


async def test_fork_copies_ledger_buffers_and_open_waiters_and_begins_its_log_at_1() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        ctx.write_event_to_stream(Note(text="once"))
        ctx.collect_events(Work(n=1), [Work, Done], buffer_id="mine")
        ctx.collect_events(Work(n=flow.attempts), [Work, Done], buffer_id="kept")
        first = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=1), waiter_id="1", timeout=None)
        second = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=2), waiter_id="2", timeout=None)
        found = ctx.collect_events(Done(n=2), [Work, Done], buffer_id="mine")
        return [first.n, second.n, found, len(run_of(ctx).broker.buffers)]

    run = DurableRun(Flow(body)).start()
    await run.until(lambda run: run.kept("w"))
    run.send(Answer(n=1))
    await run.until(lambda run: [part["id"] for part in run.kept("w")] == ["2"])

    expected = [1, 2, [Work(n=1), Done(n=2)], 1]
    other = run.fork(Flow(body))
    other.send(Answer(n=2))
    assert (await other.ended()).event.result == expected
    assert [entry.type for entry in other.log] == ["Answer", "StopEvent"]
    assert [entry.sequence for entry in other.log] == [1, 2]

    run.send(Answer(n=2))
    assert (await run.ended()).event.result == expected


async def test_pause_starts_nothing_and_keeps_what_comes() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=1), waiter_id="1", timeout=10)
        await ctx.sleep(5)
        return answer.n

    flow = Flow(body)
    run = DurableRun(flow).start(timeout=60)
    await run.until(lambda run: run.kept("w"))
    run.hosted.hold(True)
    run.send(Answer(n=1))
    await run.until(lambda run: not run.kept("w"))
    assert [part["st"] for part in run.kept("d")] == ["ready"]
    assert is_idle(run.broker)
    assert run.broker.next_due() is None
    run.release()
    run.recover()
    run.hosted.hold(True)
    run.advance(1000)  # the run's own timeout stands still
    assert run.outcome is None
    assert flow.attempts == 1
    run.hosted.hold(False)
    await run.until(lambda run: run.kept("w"))
    run.advance(6)
    assert (await run.ended()).event.result == 1


async def test_retry_goes_on_from_what_failed_under_its_key_and_repeats_its_sends() -> None:
    keys = []

    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        keys.append(ctx.step_info().key)
        ctx.write_event_to_stream(Note(text="tried"))
        first = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=1), waiter_id="1", timeout=None)
        if flow.attempts < 3:
            raise ValueError("not yet")
        return first.n

    run = DurableRun(Flow(body)).start()
    await run.until(lambda run: run.kept("w"))
    run.send(Answer(n=7))
    assert (await run.ended()).status == FAILED

    again = run.fork(retry_of="first")
    assert (await again.ended()).status == FAILED
    assert again.stream == ["Note", "WorkflowFailedEvent"]  # its answer is known, so nothing is asked again

    last = again.fork(retry_of="second")
    assert (await last.ended()).event.result == 7
    assert keys[1:] == ["first/1"] * 2


async def test_retry_waits_again_if_the_wait_that_timed_out_failed_the_run() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        reminded = 0
        while True:
            try:
                answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=1), waiter_id="1", timeout=10)
            except TimeoutError:
                reminded += 1
                if reminded == 2:
                    raise
            else:
                return [reminded, answer.n]

    run = DurableRun(Flow(body)).start()
    for reminded in range(2):
        await run.until(lambda run, n=reminded: [part["n"] for part in run.kept("w")] == [n])  # type: ignore[misc]
        run.advance(11)
    assert (await run.ended()).status == FAILED
    again = run.fork(retry_of="first")
    await again.until(lambda run: run.kept("w"))
    again.send(Answer(n=1))
    assert (await again.ended()).event.result == [1, 1]


async def test_retry_of_a_run_that_a_limit_ended_is_refused() -> None:
    flow = Flow(lambda flow, ctx: flow.pause())
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    run.broker.exceed("too much")
    await run.ended()
    assert run.kept("d") == [] or "left" not in run.head
    with pytest.raises(SnapshotError, match="left nothing in progress"):
        run.fork(retry_of="first")


# -- every crash point ----------------------------------------------------------------------------------------------


class Everything(Workflow):
    """Fan out, write, send, collect, ask, retry: its outcome must not depend on crashes."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> list[Work]:
        ctx.write_event_to_stream(Note(text="begun"))
        return [Work(n=n) for n in range(3)]

    @step(num_workers=2)
    async def work(self, ctx: Context, ev: Work) -> Done:
        ctx.write_event_to_stream(Note(text=f"work {ev.n}"))
        await asyncio.sleep(0)
        answer = await ctx.wait_for_event(
            Answer, waiter_event=Prompt(n=ev.n), waiter_id=str(ev.n), requirements={"to": ev.n}, timeout=None
        )
        await asyncio.sleep(0)
        ctx.write_event_to_stream(Note(text=f"answered {ev.n}"))
        return Done(n=answer.n)

    @step(num_workers=1)
    async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
        found = ctx.collect_events(ev, [Done] * 3)
        if found is None:
            return None
        await asyncio.sleep(0)
        ctx.write_event_to_stream(Note(text="summed"))
        return StopEvent(result=sorted(each.n for each in found))


async def through(crash_at: int, turns: int) -> tuple[DurableRun, int]:
    """Run Everything, answering prompts as a client does, and crash once, some turns after a commit."""
    run = DurableRun(Everything()).start()
    answered: set[int] = set()
    crashed = False
    while "outcome" not in run.head:
        count = run.commits
        await run.until(lambda run, count=count: run.commits > count or "outcome" in run.head)  # type: ignore[misc]
        if not crashed and run.commits >= crash_at:
            crashed = True
            await settle(turns)
            run.crash_and_recover()
        for prompt in run.logged(Prompt):
            if prompt["n"] not in answered:
                answered.add(prompt["n"])
                run.send(Answer(to=prompt["n"], n=prompt["n"] * 10))
                # The client knows only after the commit that its answer is there.
                sequence = run.broker.sequence
                await run.until(lambda run, sequence=sequence: run.head["seq"] >= sequence)  # type: ignore[misc]
    return run, run.commits


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_every_crash_point_gives_the_same_run(turns: int) -> None:
    whole, commits = await through(10**6, turns)
    notes = sorted(each["text"] for each in whole.logged(Note))
    assert commits > 8
    for crash_at in range(1, commits + 1):
        run, _ = await through(crash_at, turns)
        assert run.outcome is not None
        assert run.outcome.event.result == [0, 10, 20]
        assert sorted(each["text"] for each in run.logged(Note)) == notes
        assert sorted(each["n"] for each in run.logged(Prompt)) == [0, 1, 2]
        assert sorted(each["n"] for each in run.logged(Done)) == [0, 10, 20]
        assert [entry.sequence for entry in run.log] == list(range(1, len(run.log) + 1))
        assert run.parts.keys() == {"h"}
