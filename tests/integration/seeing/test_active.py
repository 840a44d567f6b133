"""A run says what it is doing: its active deliveries, in memory or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.rpc_serving import JSON, Rpc, event, registry_of, serving
from tests.integration.seeing.flows import Busy, Outer, Shop

from stepwire.client import Client, DeliveryStatus
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types


async def stuck(rpc: Rpc, **fields: Any) -> types.Run:
    """Return a run whose charge backs off and whose ship waits."""
    run = await rpc.start("shop", {}, **fields)
    while True:
        found = await rpc.get(run.run_id)
        by = {each.step: each.status for each in found.active_deliveries}
        if by == {"charge": types.DELIVERY_STATUS_BACKING_OFF, "ship": types.DELIVERY_STATUS_PARKED}:
            return found
        await asyncio.sleep(0.01)


async def test_a_run_says_which_steps_back_off_and_wait() -> None:
    async with serving(registry_of(shop=Shop(timeout=None))) as rpc:
        run = await stuck(rpc)
        charge, ship = run.active_deliveries
        assert (charge.delivery_id, charge.attempt, charge.event_type) == (2, 1, "Charge")
        log = {entry.sequence: entry for entry in await rpc.log(run.run_id)}
        assert log[charge.caused_by].type == "Charge"
        assert log[charge.caused_by].delivery_id == 1, "the delivery whose step sent it"
        error = charge.last_error
        assert (error.step, error.error_type, error.attempts) == ("charge", "Down", 1)
        assert error.message == "connection refused\nby the bank"
        assert error.reference_id
        pause = charge.next_attempt_at.ToSeconds() - charge.since.ToSeconds()
        assert 3500 <= pause <= 3605  # an hour, less what the attempt took
        assert (ship.step, ship.event_type, ship.attempt) == ("ship", "Ship", 1)
        assert not ship.HasField("next_attempt_at")
        assert not ship.HasField("last_error")
        assert ship.since.ToSeconds() >= run.created_at.ToSeconds()


async def test_it_is_the_same_when_the_run_is_not_in_memory(tmp_path: Path) -> None:
    async with serving(registry_of(shop=Shop(timeout=None)), str(tmp_path)) as rpc:
        run = await stuck(rpc)
    async with serving(registry_of(shop=Shop(timeout=None)), str(tmp_path)) as rpc:
        rpc.pool.draining = True  # nothing is loaded any more
        for key in [each.key for each in rpc.pool]:
            live = rpc.pool.in_memory(key)
            assert live is not None
            live.leave(None)
        assert not len(rpc.pool)
        found = await rpc.get(run.run_id)
        assert list(found.active_deliveries) == list(run.active_deliveries)
        rpc.pool.draining = False


async def test_a_list_says_it_when_asked(tmp_path: Path) -> None:
    async with serving(registry_of(shop=Shop(timeout=None)), str(tmp_path)) as rpc:
        run = await stuck(rpc)
        full = await rpc.runs.ListRuns(runs.ListRunsRequest(view=runs.RUN_VIEW_FULL, encoding=JSON))
        assert list(full.runs[0].active_deliveries) == list(run.active_deliveries)
        basic = await rpc.runs.ListRuns(runs.ListRunsRequest(encoding=JSON))
        assert not basic.runs[0].active_deliveries


async def test_a_run_that_has_ended_has_none() -> None:
    async with serving(registry_of(shop=Shop(timeout=None))) as rpc:
        run = await stuck(rpc)
        await rpc.send(run.run_id, event("Answer", yes=True))
        ended = await rpc.get((await rpc.ended(run.run_id)).run_id)
        assert ended.status == types.RUN_STATUS_COMPLETED
        assert not ended.active_deliveries


async def test_a_conversation_that_attaches_says_it() -> None:
    async with serving(registry_of(shop=Shop(timeout=None))) as rpc:
        run = await stuck(rpc)
        call = rpc.runs.Converse()
        await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run.run_id)))
        opened = (await call.read()).opened
        assert list(opened.run.active_deliveries) == list(run.active_deliveries)
        call.cancel()


async def test_the_client_reads_it() -> None:
    async with serving(registry_of(shop=Shop(timeout=None))) as rpc, Client(rpc.server.address) as client:
        run = await stuck(rpc)
        info = await client.get_run(run.run_id)
        charge, ship = info.active_deliveries
        assert (charge.step, charge.status, charge.attempt) == ("charge", DeliveryStatus.BACKING_OFF, 1)
        assert charge.last_error is not None
        assert charge.last_error.error_type == "Down"
        assert charge.next_attempt_at is not None
        assert (ship.status, ship.last_error, ship.next_attempt_at) == (DeliveryStatus.PARKED, None, None)


@pytest.mark.parametrize(("detail", "message"), [("type", ""), ("message", "connection refused\nby the bank")])
async def test_failure_detail_bounds_what_is_told(detail: str, message: str) -> None:
    async with serving(registry_of(shop=Shop(timeout=None)), failure_detail=detail) as rpc:
        run = await stuck(rpc)
        error = run.active_deliveries[0].last_error
        assert (error.message, error.traceback) == (message, "")
        assert error.reference_id
        (entry,) = (each for each in await rpc.executions(run.run_id) if each.execution.HasField("error"))
        assert entry.execution.error.message == message


async def test_queued_and_running_are_told_apart() -> None:
    busy = Busy(timeout=None, num_concurrent_runs=1)
    busy.entered = asyncio.Event()
    async with serving(registry_of(busy=busy), grace=0.0) as rpc:
        first = await rpc.start("busy", {})
        await asyncio.wait_for(busy.entered.wait(), 60)
        second = await rpc.start("busy", {})
        assert (await rpc.get(second.run_id)).status == types.RUN_STATUS_QUEUED
        (waits,) = (await rpc.get(second.run_id)).active_deliveries
        (works,) = (await rpc.get(first.run_id)).active_deliveries
        assert (works.status, works.attempt) == (types.DELIVERY_STATUS_RUNNING, 1)
        assert (waits.status, waits.attempt) == (types.DELIVERY_STATUS_QUEUED, 0)


async def test_questions_of_nested_runs_are_questions_of_the_run() -> None:
    async with serving(registry_of(outer=Outer(timeout=None))) as rpc:
        run = await rpc.start("outer", {})
        found = await rpc.asked(run.run_id)
        (question,) = found.pending_waiters
        assert question.prompt.type == "Question"
        assert question.step == "nest"
        assert b"From within?" in question.prompt.payload.json
        (parked,) = found.active_deliveries
        assert (parked.step, parked.status) == ("nest", types.DELIVERY_STATUS_PARKED)
