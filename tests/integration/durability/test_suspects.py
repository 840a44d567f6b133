"""Suspects of crashes: kills from outside, and a store that fails, are not held against a step."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.integration.durability.flows import Flow, stay
from tests.integration.durability.support import (
    crash,
    failing,
    life,
    publish,
    refused_reason,
    result,
    status,
    until,
)
from tests.integration.rpc_serving import Rpc

from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.store import StoreUnavailableError


async def test_kills_from_outside_do_not_fail_a_long_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwire.server.runs.hosting.loading.trials._TRIAL_SECONDS", 0.05)
    flow = Flow(stay)
    run_id = ""
    for times in range(8):
        async with life(tmp_path, flow) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await flow.gate.arrived(times + 1)
            (run,) = rpc.pool
            if times:
                await until(partial(_survived, run))
            await crash(rpc)
    flow.gate.opened.set()
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "stayed"
    assert flow.attempts == 9


async def test_kills_from_outside_before_the_end_of_trials_do_not_fail_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwire.server.runs.hosting.loading.trials._TRIAL_SECONDS", 30.0)
    flow = Flow(stay)
    run_id, controls = "", 0
    for _ in range(12):
        before = flow.attempts
        async with life(tmp_path, flow) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await until(partial(_works_or_is_held_back, flow, before, rpc))
            controls += rpc.pool.trials.in_control
            await crash(rpc)
    assert controls >= 3
    monkeypatch.setattr("stepwire.server.runs.hosting.loading.trials._TRIAL_SECONDS", 0.01)
    flow.gate.opened.set()
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "stayed"


async def test_a_step_that_goes_on_after_its_trial_is_suspected_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwire.server.runs.hosting.loading.trials._TRIAL_SECONDS", 0.01)
    monkeypatch.setattr("stepwire.server.runs.hosting.loading.trials._LONGEST_SECONDS", 0.02)
    flow = Flow(stay)
    run_id = ""
    for times in range(4):
        async with life(tmp_path, flow) as rpc:
            run_id = run_id or (await rpc.start("flow", {})).run_id
            await flow.gate.arrived(times + 1)
            (run,) = rpc.pool
            if times == 3:
                await until(partial(_is_cleared, run))
            await crash(rpc)
    flow.gate.opened.set()
    async with life(tmp_path, flow) as rpc:
        assert result(await rpc.ended(run_id)) == "stayed"


def _works_or_is_held_back(flow: Flow, attempts: int, rpc: Rpc) -> bool:
    return flow.attempts > attempts or rpc.pool.trials.in_control


def _is_cleared(run: LiveRun) -> bool:
    return all(delivery.lost == 0 for delivery in run.broker.deliveries.values())


def _survived(run: LiveRun) -> bool:
    return "survived" in run.record.info


async def test_the_server_answers_while_it_takes_runs_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
    going_on = asyncio.Event()

    def prepare(server: Any) -> None:
        claim = server._store.claim  # loading a run claims it, reading it does not

        async def slowly(*args: Any, **options: Any) -> Any:
            await going_on.wait()
            return await claim(*args, **options)

        monkeypatch.setattr(server._store, "claim", slowly)

    async with life(tmp_path, flow, prepare=prepare, take_up=False) as rpc:
        rpc.server.take_up()
        assert status(await rpc.get(run_id)) == "RUNNING"
        new = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(2)
        going_on.set()
        await flow.gate.arrived(3)
        flow.gate.opened.set()
        for each in (run_id, new):
            assert result(await rpc.ended(each)) == "stayed"


async def test_a_store_that_fails_again_and_again_blames_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwire.server.runs.hosting.loading.waking.RETRY_SECONDS", 0.01)
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        for times in range(7):
            await flow.gate.arrived(times + 1)
            with failing(rpc.store, StoreUnavailableError("the disk is full", full=True), times=1):
                assert await refused_reason(publish(rpc, run_id, "x")) == "LIMIT_EXCEEDED"
        await flow.gate.arrived(8)
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == "stayed"
