"""Poison: a delivery whose executions are lost to crashes again and again fails with CRASH_LOOP."""

from __future__ import annotations

from pathlib import Path

from tests.integration.durability.flows import Flow, ask, stay
from tests.integration.durability.support import asked, crash, life, result, status, until
from tests.integration.rpc_serving import event, registry_of

from stepwire.workflow import Context, DictState, RetryPolicy, StartEvent, StopEvent, Workflow, step


async def test_poison_after_five_lost_executions_the_delivery_fails_with_crash_loop(tmp_path: Path) -> None:
    flow = Flow(stay)
    run_id = ""
    for lost in range(5):
        async with life(tmp_path, flow) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await flow.gate.arrived(lost + 1)
            assert status(await rpc.get(run_id)) == "RUNNING"
            await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        run = await rpc.ended(run_id)
        assert status(run) == "FAILED"
        assert (run.outcome.failure.error_type, run.outcome.failure.step) == ("CRASH_LOOP", "work")
        assert flow.attempts == 5


async def test_poison_restarts_that_drain_lose_no_execution(tmp_path: Path) -> None:
    flow = Flow(stay)
    run_id = ""
    for times in range(7):
        async with life(tmp_path, flow) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await flow.gate.arrived(times + 1)
    flow.gate.opened.set()
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "stayed"


async def test_poison_a_parked_delivery_loses_nothing_in_a_crash(tmp_path: Path) -> None:
    flow = Flow(ask)
    run_id = ""
    for _ in range(7):
        async with life(tmp_path, flow) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await asked(rpc, run_id)
            await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        await rpc.send(run_id, event("Answer", n=1))
        assert result(await rpc.ended(run_id)) == 1


class Policy(RetryPolicy):
    def __init__(self) -> None:
        self.attempts: list[int] = []

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        self.attempts.append(attempts)
        return 0.0 if attempts < 1 else None


async def test_poison_lost_executions_do_not_count_in_the_retry_policy(tmp_path: Path) -> None:
    policy, flow = Policy(), Flow(stay)

    class Failing(Workflow):
        @step(retry_policy=policy)
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            flow.attempts += 1
            await flow.gate.pass_through("work")
            raise ValueError("no")

    registry = registry_of(flow=Failing(timeout=None))
    run_id = ""
    for lost in range(3):
        async with life(tmp_path, registry) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await flow.gate.arrived(lost + 1)
            await crash(rpc)
    flow.gate.opened.set()
    async with life(tmp_path, registry) as rpc:
        run = await rpc.ended(run_id)
    assert policy.attempts == [0, 1]
    assert run.outcome.failure.attempts == 2
    assert flow.attempts == 5


async def test_poison_other_runs_go_on_beside_it(tmp_path: Path) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        bad, good = (await rpc.start("flow", {})).run_id, (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(2)
        run = rpc.pool._live[next(key for key in rpc.pool._live if key.run_id == bad)]
        (delivery,) = run.broker.deliveries.values()
        delivery.lost = 4
        run.broker.work.touch(delivery)
        await run.commits.wait()
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        assert (await rpc.ended(bad)).outcome.failure.error_type == "CRASH_LOOP"
        await until(lambda: len(flow.gate.entered) >= 3)
        flow.gate.opened.set()
        assert result(await rpc.ended(good)) == "stayed"
