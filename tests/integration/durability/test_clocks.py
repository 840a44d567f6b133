"""Clocks: due times for the same run, the seconds left for a fork, elapsed time over restarts, never below 0."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.durability.flows import Flow, ask, sleep_an_hour, stay
from tests.integration.durability.support import (
    advance,
    asked,
    crash,
    fork,
    key_of,
    life,
    parked,
    result,
    settle,
    status,
    until,
)
from tests.integration.rpc_serving import Rpc, event, registry_of

from stepwire.workflow import Context, DictState, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.timing.clock import CLOCK


class Policy:
    """Say how often a retry was asked for, and after how long; a delay for each of the first."""

    def __init__(self, *delays: float) -> None:
        self.delays = delays
        self.asked: list[tuple[float, int]] = []

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        self.asked.append((elapsed_time, attempts))
        return self.delays[attempts] if attempts < len(self.delays) else None


def failing_flow(policy: Policy, flow: Flow) -> Workflow:
    class Failing(Workflow):
        @step(retry_policy=policy)
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            flow.attempts += 1
            if flow.attempts == 2:
                await flow.gate.pass_through("second")
            raise ValueError("again")

    return Failing(timeout=None)


async def wake_at(rpc: Rpc, run_id: str) -> float:
    record = await rpc.store.get(key_of(run_id))
    assert record is not None
    assert record.wake_at is not None
    return record.wake_at


async def test_clocks_a_retry_keeps_its_count_and_its_due_time_over_a_restart(tmp_path: Path) -> None:
    policy, flow = Policy(3600.0), Flow(ask)
    flow.gate.opened.set()
    registry = registry_of(flow=failing_flow(policy, flow))
    async with life(tmp_path, registry) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await until(lambda: policy.asked)
        # A run in back-off is at work, so it comes back at the next start, and then waits for its time.
        await crash(rpc)
    async with life(tmp_path, registry) as rpc:
        await settle(rpc)
        assert (status(await rpc.get(run_id)), flow.attempts) == ("RUNNING", 1)
        await crash(rpc)
    advance(3600)
    async with life(tmp_path, registry) as rpc:
        ended = await rpc.ended(run_id)
        assert (status(ended), ended.outcome.failure.attempts) == ("FAILED", 2)
    assert [attempts for _, attempts in policy.asked] == [0, 1]
    assert policy.asked[1][0] >= 3600


async def test_clocks_elapsed_time_is_never_below_0(tmp_path: Path) -> None:
    policy, flow = Policy(0.0), Flow(ask)
    registry = registry_of(flow=failing_flow(policy, flow))
    async with life(tmp_path, registry) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        await crash(rpc)
    advance(-86_400)
    flow.gate.opened.set()
    async with life(tmp_path, registry) as rpc:
        await rpc.ended(run_id)
    assert policy.asked[0][0] >= 0
    assert policy.asked[1] == (0.0, 1)


async def test_clocks_a_run_s_timeout_is_a_due_time(tmp_path: Path) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {}, timeout=Duration(seconds=100))).run_id
        await flow.gate.arrived(1)
        before = (await rpc.get(run_id)).timeout_at
        await crash(rpc)
    advance(50)
    async with life(tmp_path, flow) as rpc:
        await flow.gate.arrived(2)
        assert (await rpc.get(run_id)).timeout_at == before
        await crash(rpc)
    advance(51)
    async with life(tmp_path, flow) as rpc:
        assert status(await rpc.ended(run_id)) == "TIMED_OUT"


async def test_clocks_a_run_that_waits_for_an_answer_takes_no_time(tmp_path: Path) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {}, timeout=Duration(seconds=100))).run_id
        await asked(rpc, run_id)
        await crash(rpc)
    advance(10_000)
    async with life(tmp_path, flow) as rpc:
        await settle(rpc)
        assert status(await rpc.get(run_id)) == "WAITING"
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1


async def test_clocks_a_fork_gets_the_seconds_that_were_left(tmp_path: Path) -> None:
    flow = Flow(sleep_an_hour)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        began = CLOCK.now()
        due = await wake_at(rpc, run_id)
        await crash(rpc)
    advance(3000)
    async with life(tmp_path, flow) as rpc:
        # The snapshot is of when the sleep began: the fork has all of the hour, the run itself 600 seconds.
        forked = (await fork(rpc, run_id)).run_id
        await parked(rpc, forked)
        assert await wake_at(rpc, forked) == pytest.approx(began + 3000 + 3600, abs=30)
        assert await wake_at(rpc, run_id) == due == pytest.approx(began + 3600, abs=30)
        await crash(rpc)
    advance(700)
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "slept"
        assert status(await rpc.get(forked)) == "WAITING"
