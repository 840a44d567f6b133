"""A failed commit is a crash of that run: it is dropped and loaded again, its callers repeat, nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.durability.flows import Flow, ask, stay
from tests.integration.durability.support import (
    asked,
    failing,
    held,
    key_of,
    life,
    publish,
    refused_reason,
    result,
    set_state,
    settle,
    state_of,
    status,
    until,
)
from tests.integration.rpc_serving import JSON, Rpc, event, plain, refused

from stepwire.server.store import Claim, RunKey, StoreUnavailableError
from stepwire.v1 import run_service_pb2 as runs

DOWN = StoreUnavailableError("the disk is gone")
FULL = StoreUnavailableError("the disk is full", full=True)


@pytest.mark.parametrize("after", [False, True], ids=["nothing was kept", "it was durable all the same"])
async def test_failed_commit_is_a_crash_of_that_run_and_a_repeat_has_one_effect(tmp_path: Path, after: bool) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        one, other = (await rpc.start("flow", {})).run_id, (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, one)).last_sequence
        await asked(rpc, other)
        with failing(rpc.store, DOWN, run_id=one, after=after, times=1):
            refusal = await refused(publish(rpc, one, "x", "r"))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert await publish(rpc, other, "y") == before + 1
        assert await publish(rpc, one, "x", "r") == before + 1
        assert sum(entry.type == "Note" for entry in await rpc.log(one)) == 1
        await rpc.send(one, event("Answer", n=1))
        assert result(await rpc.ended(one)) == 1


async def test_failed_commit_is_a_crash_of_that_run_for_everyone_who_waits_for_it(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        with failing(rpc.store, DOWN, run_id=run_id, times=1):
            calls: list[Awaitable[object]] = [
                publish(rpc, run_id, "x", "p"),
                set_state(rpc, run_id, "k", 1, "s"),
                rpc.send(run_id, event("Answer", n=1), request_id="a"),
            ]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, grpc.aio.AioRpcError):
                assert outcome.code() == grpc.StatusCode.UNAVAILABLE
        assert any(isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes)
        await rpc.send(run_id, event("Answer", n=1), request_id="a")
        assert result(await rpc.ended(run_id)) == 1


async def test_failed_commit_is_a_crash_of_that_run_its_step_runs_again_when_the_store_heals(tmp_path: Path) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        with failing(rpc.store, DOWN, times=1):
            await refused(publish(rpc, run_id, "x"))
        await flow.gate.arrived(2)  # nobody had to ask for it
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == "stayed"
        assert flow.attempts == 2


async def test_failed_commit_is_a_crash_of_that_run_and_a_store_that_stays_down_is_asked_now_and_then(
    tmp_path: Path,
) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        with failing(rpc.store, FULL, delay=0.05) as failed:
            refusal = await refused(publish(rpc, run_id, "x"))
            assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refusal.retry_after is not None
            await until(lambda: len(failed) >= 3)
            began = asyncio.get_running_loop().time()
            tried = len(failed)
            await until(lambda: len(failed) >= tried + 2)
            assert asyncio.get_running_loop().time() - began >= 0.4  # two tries take their time
            # Reads go on.
            assert status(await rpc.get(run_id)) == "RUNNING"
            assert [entry.type for entry in await rpc.logged(run_id)] == ["StartEvent"]
        await flow.gate.arrived(2)
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == "stayed"


async def test_failed_commit_is_a_crash_of_that_run_and_a_store_that_gives_no_claims_is_asked_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Flow(stay)
    tries: list[float] = []

    async def refuse(key: RunKey, **options: Any) -> Claim | None:
        tries.append(asyncio.get_running_loop().time())
        raise FULL

    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        with monkeypatch.context() as patch, failing(rpc.store, FULL, times=1):
            patch.setattr(rpc.store, "claim", refuse)
            await refused(publish(rpc, run_id, "x"))
            await until(lambda: len(tries) >= 3)
        assert tries[2] - tries[0] >= 0.4
        await flow.gate.arrived(2)
        flow.gate.opened.set()
        assert result(await rpc.ended(run_id)) == "stayed"


async def test_failed_commit_is_a_crash_of_that_run_also_of_its_first(tmp_path: Path) -> None:
    flow = Flow(ask, num_concurrent_runs=1)
    async with life(tmp_path, flow) as rpc:
        with failing(rpc.store, DOWN, times=1):
            refusal = await refused(rpc.start("flow", {}, run_id="r", request_id="s"))
            assert refusal.reason == "STORE_UNAVAILABLE"
        assert (await refused(rpc.get("r"))).reason == "RUN_NOT_FOUND"
        assert flow.attempts == 0
        # It holds no place of the workflow's concurrent runs.
        assert status(await rpc.start("flow", {}, run_id="another")) == "RUNNING"
        await asked(rpc, "another")
        await rpc.send("another", event("Answer", n=1))
        await rpc.ended("another")
        assert (await rpc.start("flow", {}, run_id="r", request_id="s")).run_id == "r"
        await asked(rpc, "r")
        await rpc.send("r", event("Answer", n=2))
        assert result(await rpc.ended("r")) == 2


async def test_failed_commit_is_a_crash_of_that_run_also_when_it_was_started_all_the_same(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        with failing(rpc.store, DOWN, times=1, after=True):
            await refused(rpc.start("flow", {}, request_id="s"))
        run_id = (await rpc.start("flow", {}, request_id="s")).run_id
        await asked(rpc, run_id)
        await rpc.send(run_id, event("Answer", n=2))
        assert result(await rpc.ended(run_id)) == 2
        assert len(await rpc.store.snapshots(key_of(run_id), None, 100)) > 0


async def test_failed_commit_is_a_crash_of_that_run_not_of_one_whose_id_is_taken(tmp_path: Path) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow, idle_after=0.05) as rpc:
        await rpc.start("flow", {}, run_id="r")
        await asked(rpc, "r")
        await until(lambda: len(rpc.pool) == 0)
        with held(rpc.store) as hold:
            starting = asyncio.ensure_future(rpc.start("flow", {}, run_id="r"))
            await settle(rpc)
            # Whatever became of it, the run that has the id takes its answers.
            sending = asyncio.ensure_future(rpc.send("r", event("Answer", n=7)))
            await hold.arrived(1)
        assert (await refused(starting)).reason == "RUN_EXISTS"
        assert (await sending).delivered == 1
        assert result(await rpc.ended("r")) == 7


async def test_failed_commit_is_a_crash_of_that_run_so_state_that_was_not_keptgone(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await set_state(rpc, run_id, "k", "kept")
        with failing(rpc.store, DOWN, times=1):
            await refused(set_state(rpc, run_id, "k", "lost"))
        assert await state_of(rpc, run_id, "k") == "kept"


async def test_failed_commit_that_was_durable_leaves_no_gap_in_streams(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        stream = rpc.stream(run_id, include_internal=True)
        seen = await _read_to(stream, 0, (await rpc.get(run_id)).last_sequence)
        await publish(rpc, run_id, "w")
        seen = await _read_to(stream, seen, seen + 1)
        with failing(rpc.store, DOWN, run_id=run_id, after=True, times=1):
            await refused(publish(rpc, run_id, "x", "r"))
        await publish(rpc, run_id, "y")
        await _read_to(stream, seen, seen + 2)


async def test_failed_commit_that_was_durable_and_the_last_ends_streams_and_frees_the_place(tmp_path: Path) -> None:
    flow = Flow(ask, num_concurrent_runs=1)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        second = (await rpc.start("flow", {})).run_id
        assert status(await rpc.get(second)) == "QUEUED"
        waiting = asyncio.ensure_future(rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run_id), timeout=60))
        stream = rpc.stream(run_id)
        await stream.read()
        with failing(rpc.store, DOWN, run_id=run_id, after=True, times=1):
            await refused(rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id)))
        assert status((await waiting).run) == "CANCELLED"
        while (await stream.read()).WhichOneof("frame") != "finished":
            continue
        await asked(rpc, second)
        await rpc.send(second, event("Answer", n=2))
        assert result(await rpc.ended(second)) == 2


async def _read_to(stream: Any, after: int, sequence: int) -> int:
    """Read a stream on from one sequence to another, without gap or repeat; return how far it came."""
    while after < sequence:
        frame = await stream.read()
        if frame.WhichOneof("frame") == "events":
            assert frame.events.from_sequence == after + 1
            sequences = [entry.sequence for entry in frame.events.entries]
            assert sequences == list(range(after + 1, frame.events.to_sequence + 1))
            after = frame.events.to_sequence
    return after


def _wait(rpc: Rpc, run_id: str, timeout: float = 60.0, **fields: Any) -> asyncio.Future[runs.WaitForEventResponse]:
    seconds = Duration()
    seconds.FromMilliseconds(int(timeout * 1000))
    request = runs.WaitForEventRequest(run_id=run_id, event_type="Note", timeout=seconds, encoding=JSON, **fields)
    waiting: asyncio.Future[runs.WaitForEventResponse] = asyncio.ensure_future(rpc.runs.WaitForEvent(request))
    return waiting


async def test_a_wait_for_an_event_misses_nothing_after_a_failed_commit(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, run_id)).last_sequence
        with held(rpc.store) as hold:
            publishing = asyncio.ensure_future(refused(publish(rpc, run_id, "lost")))
            await hold.arrived(1)
            waiting = _wait(rpc, run_id)
            await settle(rpc)
            hold.fail_one(DOWN)
            assert (await publishing).reason == "STORE_UNAVAILABLE"
        assert await publish(rpc, run_id, "kept") == before + 1  # the sequence of the event that was lost
        found = await waiting
        assert (found.entry.sequence, found.timed_out) == (before + 1, False)
        assert plain(found.entry.payload) == {"text": "kept"}


async def test_a_wait_for_an_event_keeps_its_timeout_while_nothing_can_be_committed(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, run_id)).last_sequence
        with held(rpc.store) as hold:
            publishing = asyncio.ensure_future(publish(rpc, run_id, "x"))
            await hold.arrived(1)
            found = await _wait(rpc, run_id, 0.1)
            assert (found.timed_out, found.sequence) == (True, before)
            found = await _wait(rpc, run_id, 0.1, waiter_event=event("Prompt", text="?"), waiter_id="w")
            assert (found.timed_out, found.sequence) == (True, before)
        await publishing
        # The prompt outlived its wait, and is not written again.
        await _wait(rpc, run_id, 0.0, waiter_event=event("Prompt", text="?"), waiter_id="w")
        assert [entry.type for entry in await rpc.log(run_id)].count("Prompt") == 2


async def test_failed_commit_of_a_start_leaves_its_run_id_to_another_start(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        with failing(rpc.store, StoreUnavailableError("no space"), run_id="r", times=1, delay=0.2):
            first = asyncio.ensure_future(refused_reason(rpc.start("flow", {}, run_id="r")))
            await until(lambda: rpc.pool.in_memory(key_of("r")) is not None)
            second = asyncio.ensure_future(rpc.start("flow", {}, run_id="r"))
            assert await first == "STORE_UNAVAILABLE"
        assert (await second).run_id == "r"
        await asked(rpc, "r")
