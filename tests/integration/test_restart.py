"""What is the same after a restart, and what new code does to old runs."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_flows import Ask, AskAgain, Count, Gate, Hold
from tests.integration.rpc_serving import JSON, Rpc, event, payload, plain, refused, registry_of, serving

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types


async def test_a_waiting_run_is_the_same_after_a_restart(tmp_path: Any) -> None:
    async with serving(data=str(tmp_path)) as rpc:
        run = await rpc.asking("tea", labels={"a": "b"})
        log = await rpc.log(run.run_id)
    async with serving(data=str(tmp_path)) as rpc:
        assert await rpc.get(run.run_id) == run
        assert await rpc.log(run.run_id) == log
        assert len(rpc.pool) == 0
        found = await rpc.answer(run.run_id)
        assert plain(found.outcome.result) == {"yes": True, "note": None}
    async with serving(data=str(tmp_path)) as rpc:
        assert await rpc.get(run.run_id) == found


async def test_a_run_at_work_goes_on_after_a_restart(tmp_path: Any) -> None:
    first, second = Gate(), Gate()
    async with serving(registry_of(hold=Hold(first, timeout=None)), str(tmp_path), grace=0.0) as rpc:
        run = await rpc.start("hold", {"name": "a"})
        await first.arrived(1)
    second.opened.set()
    async with serving(registry_of(hold=Hold(second, timeout=None)), str(tmp_path)) as rpc:
        assert plain((await rpc.ended(run.run_id)).outcome.result) == "a"
        assert second.entered == ["a"]


async def test_a_stop_lets_running_steps_finish_within_the_grace(tmp_path: Any) -> None:
    gate = Gate()
    async with serving(registry_of(hold=Hold(gate, timeout=None)), str(tmp_path), grace=20.0) as rpc:
        run = await rpc.start("hold", {"name": "a"})
        await gate.arrived(1)
        stopping = asyncio.create_task(rpc.server.stop())
        assert (await refused(rpc.start("hold", {}))).reason == "DRAINING"
        gate.opened.set()
        await stopping
    async with serving(registry_of(hold=Hold(Gate(), timeout=None)), str(tmp_path)) as rpc:
        assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_COMPLETED


async def test_a_deadline_that_passed_while_the_server_was_down_is_kept(tmp_path: Any) -> None:
    async with serving(registry_of(hold=Hold(Gate())), str(tmp_path), grace=0.0) as rpc:
        run = await rpc.start("hold", {"name": "a"}, timeout=Duration(nanos=150_000_000))
    async with serving(registry_of(hold=Hold(Gate())), str(tmp_path)) as rpc:
        assert (await rpc.ended(run.run_id)).status == types.RUN_STATUS_TIMED_OUT


async def test_code_that_does_not_fit_blocks_a_run_until_code_that_does_comes(tmp_path: Any) -> None:
    async with serving(registry_of(ask=Ask), str(tmp_path)) as rpc:
        run = await rpc.asking("tea", labels={"a": "b"})
        await rpc.send(run.run_id, event("Note", n=5))
        await rpc.status(run.run_id, "WAITING")
        before = await rpc.log(run.run_id)
    async with serving(registry_of(ask=AskAgain), str(tmp_path)) as rpc:
        answer = event("Answer", order="7", yes=True)
        refusal = await refused(rpc.send(run.run_id, answer))
        assert refusal.reason == "RUN_BLOCKED"
        assert "ask" in refusal.message
        found = await rpc.get(run.run_id)
        assert found.status == types.RUN_STATUS_BLOCKED
        assert "ask" in found.blocked_reason
        assert found.labels == {"a": "b"}
        assert [waiter.waiter_id for waiter in found.pending_waiters] == ["ship"]
        assert not found.HasField("ended_at")
        listed = await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_BLOCKED]))
        assert [found.run_id for found in listed.runs] == [run.run_id]
        # Its log can be read and followed, and waiting for it is waiting.
        assert await rpc.log(run.run_id) == before
        waited = await rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run.run_id, timeout=Duration()))
        assert waited.timed_out
    async with serving(registry_of(ask=Ask), str(tmp_path)) as rpc:
        found = await rpc.status(run.run_id, "WAITING")
        assert found.status == types.RUN_STATUS_WAITING
        assert found.blocked_reason == ""
        ended = await rpc.answer(run.run_id)
        assert plain(ended.outcome.result) == {"yes": True, "note": 5}


async def test_a_blocked_run_can_be_cancelled(tmp_path: Any) -> None:
    async with serving(registry_of(ask=Ask), str(tmp_path)) as rpc:
        run = await rpc.asking("tea")
    async with serving(registry_of(ask=AskAgain), str(tmp_path)) as rpc:
        reader = asyncio.create_task(_rest(rpc, run.run_id, run.last_sequence))
        request = runs.CancelRunRequest(run_id=run.run_id, reason="old", encoding=JSON)
        found = (await rpc.runs.CancelRun(request)).run
        assert (found.status, found.outcome.reason) == (types.RUN_STATUS_CANCELLED, "old")
        entries = await reader
        assert [(entry.kind, entry.type) for entry in entries] == [
            (types.ENTRY_KIND_TERMINAL, "WorkflowCancelledEvent")
        ]
        assert found.last_sequence == run.last_sequence + 1
        await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run.run_id))


async def _rest(rpc: Rpc, run_id: str, after: int) -> list[types.LogEntry]:
    entries: list[types.LogEntry] = []
    finished = False
    async for frame in rpc.stream(run_id, after):
        entries += frame.events.entries
        finished = frame.WhichOneof("frame") == "finished"
    assert finished
    return entries


async def test_runs_of_an_unserved_workflow_sleep(tmp_path: Any) -> None:
    async with serving(registry_of(ask=Ask, hold=Hold(Gate())), str(tmp_path), grace=0.0) as rpc:
        run = await rpc.asking("tea")
        busy = await rpc.start("hold", {"name": "a"})
    async with serving(registry_of(count=Count), str(tmp_path)) as rpc:
        run.blocked_reason = "no server serves the workflow ask: serve it, or cancel the run"
        assert await rpc.get(run.run_id) == run
        assert (await rpc.get(busy.run_id)).status == types.RUN_STATUS_RUNNING
        assert len(rpc.pool) == 0
        assert (await refused(rpc.send(run.run_id, event("Note", n=1)))).reason == "RUN_BLOCKED"
        assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_WAITING
        assert len(await rpc.log(run.run_id)) == run.last_sequence
        assert (await refused(rpc.start("ask", {}))).reason == "WORKFLOW_NOT_FOUND"
    async with serving(registry_of(ask=Ask), str(tmp_path)) as rpc:
        assert (await rpc.answer(run.run_id)).status == types.RUN_STATUS_COMPLETED


async def test_a_released_run_comes_back_when_someone_talks_to_it() -> None:
    async with serving(idle_after=0.05) as rpc:
        run = await rpc.asking("tea")
        call = rpc.converse()
        attach = runs.ConverseAttach(run_id=run.run_id, after_sequence=run.last_sequence)
        await call.write(runs.ConverseRequest(attach=attach))
        await call.read()
        await _until_released(rpc)
        send = runs.ConverseSend(request_id="1", event=event("Answer", order="7", yes=True))
        await call.write(runs.ConverseRequest(send=send))
        kinds = []
        while (frame := await call.read()) is not grpc.aio.EOF:
            kinds.append(frame.WhichOneof("frame"))
        assert kinds == ["send_result", "events", "finished"]


async def _until_released(rpc: Rpc) -> None:
    released = asyncio.Event()
    forget = rpc.pool._gone

    def note(run: Any, error: BaseException | None) -> None:
        forget(run, error)
        released.set()

    rpc.pool._around.on_gone = note
    if len(rpc.pool):
        await released.wait()
    assert len(rpc.pool) == 0


async def test_callers_that_go_leave_nothing_behind(rpc: Rpc, gate: Gate) -> None:
    run = await rpc.asking("tea")
    calls = [
        rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run.run_id)),
        rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=run.run_id, event_type="Pong")),
        rpc.runs.StartRun(
            runs.StartRunRequest(workflow="hold", input=payload({"name": "a"}), wait=Duration(seconds=30))
        ),
        rpc.stream(run.run_id, run.last_sequence),
    ]
    await gate.arrived(1)
    left = asyncio.Event()
    leave = rpc.server.calls.leave

    def note(call: Any) -> None:
        leave(call)
        if not rpc.server.calls.streams and not rpc.server.calls.waiters:
            left.set()

    rpc.server.calls.leave = note  # type: ignore[method-assign]
    await rpc.get(run.run_id)
    for call in calls:
        call.cancel()
    await left.wait()
    assert not rpc.pool.feeds._feeds
    assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_WAITING
    listed = await rpc.runs.ListRuns(runs.ListRunsRequest(workflow="hold"))
    assert [found.status for found in listed.runs] == [types.RUN_STATUS_RUNNING]
    gate.opened.set()
    assert (await rpc.ended(listed.runs[0].run_id)).status == types.RUN_STATUS_COMPLETED


async def test_a_start_whose_caller_goes_is_whole_or_not_at_all(rpc: Rpc) -> None:
    calls = [rpc.runs.StartRun(runs.StartRunRequest(workflow="ask", input=payload({"item": "a"}))) for _ in range(20)]
    for call in calls:
        call.cancel()
    for call in calls:
        with pytest.raises(asyncio.CancelledError):
            await call
    listed = await rpc.runs.ListRuns(runs.ListRunsRequest())
    for found in listed.runs:
        await rpc.asked(found.run_id)
        assert (await rpc.answer(found.run_id)).status == types.RUN_STATUS_COMPLETED
