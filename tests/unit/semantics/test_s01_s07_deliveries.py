"""S1-S7: deliveries, retries, steps."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    catch_error,
    step,
)
from stepwire.workflow.broker.delivery import QUEUED, RUNNING
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import StepDoesNotAcceptError, StepReturnError, UnknownStepError


class Work(Event):
    n: int = 0


class Done(Event):
    n: int = 0


class Question(InputRequiredEvent):
    text: str = ""


class SubWork(Work):
    pass


# -- S1: identity by id ---------------------------------------------------------------------------------------------


class Twins(Workflow):
    """Send two equal events; each body waits for its own gate."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gates = [asyncio.Event(), asyncio.Event()]
        self.started: list[int] = []
        self.both = asyncio.Event()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
        ctx.send_event(Work(n=7))
        ctx.send_event(Work(n=7))
        return None

    @step
    async def work(self, ctx: Context, ev: Work) -> Done:
        place = len(self.started)
        self.started.append(ctx.step_info().delivery_id)
        if place == 1:
            self.both.set()
        await self.gates[place].wait()
        return Done(n=place)

    @step
    async def gather(self, ctx: Context, ev: Done) -> StopEvent | None:
        both = ctx.collect_events(ev, [Done, Done])
        return None if both is None else StopEvent(result=[each.n for each in both])


async def test_s01_two_equal_events_are_two_deliveries() -> None:
    workflow = Twins()
    handler = workflow.run()
    await workflow.both.wait()
    assert len(set(workflow.started)) == 2
    working = [each for each in run_of(handler.ctx).broker.deliveries.values() if each.step == "work"]
    assert [each.event for each in working] == [Work(n=7), Work(n=7)]
    for gate in workflow.gates:
        gate.set()
    assert await handler == [0, 1]


async def test_s01_finishing_one_of_two_equal_events_leaves_the_other() -> None:
    workflow = Twins()
    run = DurableRun(workflow).start()
    await workflow.both.wait()
    workflow.gates[1].set()
    await run.until(lambda run: run.logged(Done))
    left = [each for each in run.broker.deliveries.values() if each.step == "work"]
    assert [each.id for each in left] == [workflow.started[0]]
    assert [part["s"] for part in run.kept("d")].count("work") == 1
    workflow.gates[0].set()
    assert (await run.ended()).event.result == [1, 0]


# -- S2: retries ----------------------------------------------------------------------------------------------------


class Recorder:
    """Retry at once and note what the policy is told."""

    def __init__(self, retries: int, delay: float = 0) -> None:
        self.calls: list[tuple[float, int, str]] = []
        self.retries = retries
        self.delay = delay

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        self.calls.append((elapsed_time, attempts, str(error)))
        return self.delay if attempts < self.retries else None


def flaky(policy: Recorder) -> type[Workflow]:
    class Flaky(Workflow):
        attempts = 0
        entries: list[int] = []  # noqa: RUF012 - fresh in every call

        @step(retry_policy=policy)
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            type(self).attempts += 1
            self.entries.append(len(run_of(ctx).broker.deliveries))
            await ctx.store.set(f"attempt_{self.attempts}", True)
            ctx.write_event_to_stream(Work(n=self.attempts))
            if self.attempts <= policy.retries:
                raise ValueError(f"failure {self.attempts}")
            return StopEvent(result=ctx.step_info().attempt)

    return Flaky


async def test_s02_a_retry_adds_no_second_entry() -> None:
    workflow = flaky(Recorder(3))()
    assert await workflow.run() == 4
    assert workflow.entries == [1, 1, 1, 1]  # type: ignore[attr-defined]


async def test_s02_the_policy_gets_failures_before_this_one_and_the_error() -> None:
    policy = Recorder(2)
    await flaky(policy)().run()
    assert [(attempts, error) for _, attempts, error in policy.calls] == [(0, "failure 1"), (1, "failure 2")]


async def test_s02_the_policy_gets_the_seconds_since_the_first_attempt() -> None:
    policy = Recorder(2, delay=10)
    run = DurableRun(flaky(policy)()).start()
    await run.until(lambda run: [part["st"] for part in run.kept("d")] == ["backoff"])
    run.advance(10)
    await run.until(lambda run: len(policy.calls) == 2 and run.kept("d")[0]["st"] == "backoff")
    run.advance(25)
    await run.ended()
    assert [elapsed for elapsed, _, _ in policy.calls] == [0, 10]


async def test_s02_what_a_failed_attempt_did_stays_and_is_repeated() -> None:
    workflow = flaky(Recorder(1))()
    handler = workflow.run()
    await handler
    written = [ev.n async for ev in handler.stream_events() if isinstance(ev, Work)]
    assert written == [1, 2]
    assert await handler.ctx.store.get("attempt_1") is True


async def test_s02_no_retry_left_fails_the_run() -> None:
    class Broken(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=2, delay=0))
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError("no")

    with pytest.raises(WorkflowRuntimeError, match=r"^Error in step 'work': no") as caught:
        await Broken().run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.attempts == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("delay", [float("nan"), float("inf")])
async def test_s02_a_policy_that_gives_no_number_is_given_up(delay: float) -> None:
    with pytest.raises(WorkflowRuntimeError, match="failure 1"):
        await flaky(Recorder(1, delay=delay))().run()


async def test_s02_a_step_timeout_is_retried_and_takes_no_time_while_it_waits() -> None:
    class Slow(Workflow):
        attempts = 0

        @step(timeout=30, retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            type(self).attempts += 1
            answer = await ctx.wait_for_event(Work, timeout=None)
            if self.attempts == 1:
                await asyncio.Event().wait()
            return StopEvent(result=[answer.n, self.attempts])

    run = DurableRun(Slow()).start()
    await run.until(lambda run: run.kept("w"))
    run.advance(1000)  # parked: the attempt's clock stands still
    run.send(Work(n=3))
    await run.until(lambda run: run.kept("d")[0]["st"] == RUNNING)
    run.advance(29)
    assert Slow.attempts == 1
    run.advance(1)
    assert (await run.ended()).event.result == [3, 2]


# -- S3: sync steps -------------------------------------------------------------------------------------------------

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
            assert self.go_on.wait(30)  # set by the step that takes the event, while this one still runs
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
    assert await asyncio.to_thread(woken.wait, 30)
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


# -- S4: order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
async def test_s04_deliveries_start_in_order_and_no_more_than_num_workers_run(workers: int) -> None:
    order: list[int] = []
    running: list[int] = []
    most = 0

    class Order(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
            for n in range(20):
                ctx.send_event(Work(n=n))
            return None

        @step(num_workers=workers)
        async def work(self, ev: Work) -> Done:
            nonlocal most
            order.append(ev.n)
            running.append(ev.n)
            most = max(most, len(running))
            for _ in range(ev.n % 3):
                await asyncio.sleep(0)
            running.remove(ev.n)
            return Done(n=ev.n)

        @step
        async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
            return StopEvent() if ctx.collect_events(ev, [Done] * 20) else None

    await Order().run()
    assert order == list(range(20))
    assert most == workers


async def test_s04_a_retry_goes_before_younger_events() -> None:
    order: list[tuple[int, int]] = []

    class Order(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
            for n in range(3):
                ctx.send_event(Work(n=n))
            return None

        @step(num_workers=1, retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
        async def work(self, ctx: Context, ev: Work) -> StopEvent | None:
            attempt = ctx.step_info().attempt
            order.append((ev.n, attempt))
            if ev.n == 0 and attempt == 1:
                raise ValueError("again")
            return StopEvent() if ev.n == 2 else None

    await Order().run()
    assert order == [(0, 1), (0, 2), (1, 1), (2, 1)]


# -- S5: routing ----------------------------------------------------------------------------------------------------


class Exact(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Work | SubWork | StopEvent:
        return SubWork(n=1) if ev.get("sub") else Work(n=1)

    @step
    async def exact(self, ev: Work) -> StopEvent:
        return StopEvent(result="exact")

    @step
    async def sub(self, ev: SubWork) -> StopEvent:
        return StopEvent(result="sub")


async def test_s05_routing_is_by_exact_type() -> None:
    assert await Exact().run() == "exact"
    assert await Exact().run(sub=True) == "sub"


async def test_s05_a_step_may_opt_in_to_subclasses() -> None:
    class Wide(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> SubWork:
            return SubWork(n=2)

        @step(accept_subclasses=True)
        async def wide(self, ev: Work) -> StopEvent:
            return StopEvent(result=type(ev).__name__)

    assert await Wide().run() == "SubWork"


async def test_s05_an_event_no_one_takes_is_recorded_and_reported() -> None:
    class Unheard(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ctx.send_event(Done(n=1)).delivered)

    run = DurableRun(Unheard()).start()
    assert (await run.ended()).event.result == 0
    assert [(entry.type, entry.delivered) for entry in run.log] == [
        ("StartEvent", 1),
        ("Done", 0),
        ("StopEvent", 0),
    ]
    assert [entry.sequence for entry in run.log] == [1, 2, 3]


async def test_s05_an_event_for_one_step_goes_to_that_step_only() -> None:
    class Two(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
            assert ctx.send_event(Work(n=1), step="second").delivered == 1
            with pytest.raises(UnknownStepError, match="third does not exist"):
                ctx.send_event(Work(n=1), step="third")
            with pytest.raises(StepDoesNotAcceptError, match="second does not accept event of type Done"):
                ctx.send_event(Done(), step="second")
            with pytest.raises(WorkflowRuntimeError, match="takes an Event, not int"):
                ctx.send_event(1)  # type: ignore[arg-type]
            return None

        @step
        async def first(self, ev: Work) -> StopEvent:
            return StopEvent(result="first")

        @step
        async def second(self, ev: Work) -> StopEvent:
            return StopEvent(result="second")

    assert await Two().run() == "second"


# -- S6: what steps return ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("returned", ["text", 5, StopEvent, [Work()], (Work(),)])
async def test_s06_anything_but_an_event_fails_the_run_naming_step_and_type(returned: Any) -> None:
    class Wrong(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=4, delay=60))
        async def work(self, ev: StartEvent) -> StopEvent:
            return returned  # type: ignore[no-any-return]

        @catch_error
        async def rescue(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="rescued")

    told = f"the class {returned.__name__}" if isinstance(returned, type) else type(returned).__name__
    with pytest.raises(StepReturnError, match=f"'work' returned {told} ") as caught:
        await Wrong().run()
    assert (caught.value.step, caught.value.type_name) == ("work", type(returned).__name__)


async def test_s06_none_is_no_event_and_a_declared_list_fans_out() -> None:
    class Fan(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Work | Done]:
            return [Work(n=1), Done(n=2), Work(n=3)]

        @step
        async def work(self, ev: Work) -> Done:
            return Done(n=ev.n)

        @step
        async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
            found = ctx.collect_events(ev, [Done] * 3)
            return None if found is None else StopEvent(result=sorted(each.n for each in found))

    run = DurableRun(Fan()).start()
    assert (await run.ended()).event.result == [1, 2, 3]
    assert await Fan().run() == [1, 2, 3]


async def test_s06_a_declared_list_with_something_else_fails_the_run() -> None:
    class Fan(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Work] | StopEvent:
            return [Work(n=1), 2]  # type: ignore[list-item]

        @step
        async def work(self, ev: Work) -> None:
            return None

    with pytest.raises(StepReturnError, match="'begin' returned a list with a int"):
        await Fan().run()


# -- S7: the stream's input events -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["return", "send"])
async def test_s07_an_input_required_event_goes_to_the_stream(how: str) -> None:
    class Ask(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Question | None:
            if how == "return":
                return Question(text="who?")
            ctx.send_event(Question(text="who?"))
            return None

        @step
        async def end(self, ev: Work) -> StopEvent:
            return StopEvent(result=ev.n)

    handler = Ask(disable_validation=True).run()
    seen: list[Event] = []
    async for event in handler.stream_events():
        seen.append(event)
        if isinstance(event, Question):
            handler.ctx.send_event(Work(n=1))
    assert seen == [Question(text="who?"), StopEvent(result=1)]
    assert await handler == 1


async def test_s07_the_stream_takes_events_only() -> None:
    class Write(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(WorkflowRuntimeError, match="takes an Event, not dict"):
                ctx.write_event_to_stream({"n": 1})  # type: ignore[arg-type]
            ctx.write_event_to_stream(Work(n=1))
            return StopEvent()

    handler = Write().run()
    await handler
    assert [type(ev).__name__ async for ev in handler.stream_events()] == ["Work", "StopEvent"]


async def test_s07_a_queued_delivery_is_saved_as_queued() -> None:
    workflow = Twins()
    run = DurableRun(workflow).start()
    await workflow.both.wait()
    assert {part["st"] for part in run.kept("d")} == {RUNNING}
    run.release()
    assert {part["st"] for part in run.kept("d")} == {QUEUED}
