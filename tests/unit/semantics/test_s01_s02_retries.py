"""S1 and S2: deliveries have an identity; retries."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.semantics.deliveries import Done, Twins, Work
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    step,
)
from stepwire.workflow.broker.deliveries.delivery import RUNNING
from stepwire.workflow.context.context import run_of


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
