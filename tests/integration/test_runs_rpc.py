"""RunService: start, get, wait, cancel, delete, send, publish."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_flows import SECRET, Fail, Gate
from tests.integration.rpc_serving import (
    JSON,
    Rpc,
    event,
    payload,
    plain,
    refused,
    registry_of,
    serving,
)

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.timing.clock import CLOCK

SECOND = Duration(seconds=1)


LONG = Duration(seconds=20)


USE_EXISTING = runs.RUN_ID_CONFLICT_POLICY_USE_EXISTING


async def test_a_started_run_tells_of_itself(rpc: Rpc) -> None:
    run = await rpc.start("ask", {"item": "tea"}, labels={"who": "ann"})
    assert run.workflow == "ask"
    assert run.workflow_version
    assert run.labels == {"who": "ann"}
    assert run.status == types.RUN_STATUS_RUNNING
    assert run.last_sequence >= 1
    assert run.first_available == 1
    assert not run.HasField("ended_at")
    assert not run.HasField("outcome")
    assert not run.HasField("forked_from")
    found = await rpc.asked(run.run_id)
    assert found.run_id == run.run_id
    assert found.created_at == run.created_at
    assert found.updated_at.ToNanoseconds() >= run.updated_at.ToNanoseconds()
    assert found.status == types.RUN_STATUS_WAITING
    assert [waiter.waiter_id for waiter in found.pending_waiters] == ["ship"]
    ended = await rpc.answer(run.run_id)
    assert ended.status == types.RUN_STATUS_COMPLETED
    assert ended.ended_at == ended.updated_at
    assert not ended.pending_waiters
    assert not ended.HasField("timeout_at")
    assert ended.outcome.event_type == "StopEvent"
    assert plain(ended.outcome.result) == {"yes": True, "note": None}


async def test_the_input_may_come_in_either_encoding(rpc: Rpc) -> None:
    as_value = types.Payload()
    json_format.ParseDict({"value": {"n": 1, "x": 1.5, "none": None, "list": [True, "ä"]}}, as_value.value)
    expected = {"n": 1, "x": 1.5, "none": None, "list": [True, "ä"]}
    for given in (as_value, payload({"value": expected})):
        request = runs.StartRunRequest(workflow="echo", input=given, encoding=JSON, wait=LONG)
        run = (await rpc.runs.StartRun(request)).run
        assert plain(run.outcome.result) == expected
        assert b'"n":1,' in run.outcome.result.json.replace(b"}", b",")  # and not 1.0


async def test_no_input_is_the_empty_object(rpc: Rpc) -> None:
    run = (await rpc.runs.StartRun(runs.StartRunRequest(workflow="count", encoding=JSON, wait=LONG))).run
    assert plain(run.outcome.result) == 3


async def test_a_start_waits_at_most_as_long_as_it_was_told(rpc: Rpc) -> None:
    run = await rpc.start("count", {"n": 2}, wait=LONG)
    assert run.status == types.RUN_STATUS_COMPLETED
    run = await rpc.start("ask", {"item": "tea"}, wait=Duration(nanos=1))
    assert run.status in (types.RUN_STATUS_RUNNING, types.RUN_STATUS_WAITING)


async def test_a_client_may_choose_the_id(rpc: Rpc) -> None:
    run = await rpc.start("ask", {"item": "tea"}, run_id="order:7._-")
    assert run.run_id == "order:7._-"
    assert (await refused(rpc.start("ask", {"item": "tea"}, run_id="order:7._-"))).reason == "RUN_EXISTS"
    for policy in (runs.RUN_ID_CONFLICT_POLICY_FAIL, runs.RUN_ID_CONFLICT_POLICY_UNSPECIFIED):
        refusal = await refused(rpc.start("ask", {"item": "tea"}, run_id="order:7._-", run_id_conflict_policy=policy))
        assert refusal.reason == "RUN_EXISTS"


async def test_use_existing_answers_the_run_that_is_there(rpc: Rpc) -> None:
    for _ in range(2):
        run = await rpc.start("ask", {"item": "tea"}, run_id="mine", run_id_conflict_policy=USE_EXISTING)
        assert run.run_id == "mine"
    await rpc.asked("mine")
    await rpc.answer("mine")
    run = await rpc.start("ask", {"item": "other"}, run_id="mine", run_id_conflict_policy=USE_EXISTING)
    assert run.status == types.RUN_STATUS_COMPLETED
    assert len(await rpc.listed()) == 1


async def test_one_of_many_starts_at_once_wins(rpc: Rpc) -> None:
    starts = [rpc.start("ask", {"item": str(n)}, run_id="mine") for n in range(10)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    won = [result for result in results if isinstance(result, types.Run)]
    assert len(won) == 1
    codes = {result.code() for result in results if isinstance(result, grpc.aio.AioRpcError)}
    assert codes == {grpc.StatusCode.ALREADY_EXISTS}
    starts = [rpc.start("ask", {"item": str(n)}, run_id="ours", run_id_conflict_policy=USE_EXISTING) for n in range(10)]
    assert {run.run_id for run in await asyncio.gather(*starts)} == {"ours"}


async def test_a_timeout_of_the_run_ends_it(rpc: Rpc, gate: Gate) -> None:
    before = CLOCK.now()
    run = await rpc.start("hold", {"name": "a"}, timeout=Duration(nanos=50_000_000))
    after = CLOCK.now()
    assert run.HasField("timeout_at")
    assert before - 1e-6 <= run.timeout_at.ToNanoseconds() / 1e9 - 0.05 <= after + 1e-6  # floats round
    run = await rpc.ended(run.run_id)
    assert run.status == types.RUN_STATUS_TIMED_OUT
    assert run.outcome.status == types.RUN_STATUS_TIMED_OUT
    assert run.outcome.event_type == "WorkflowTimedOutEvent"
    assert "0.05" in run.outcome.reason
    assert not run.outcome.HasField("result")


async def test_the_clock_of_a_run_that_waits_for_someone_stands(rpc: Rpc) -> None:
    run = await rpc.start("ask", {"item": "tea"}, timeout=Duration(seconds=5))
    assert run.HasField("timeout_at")
    assert not (await rpc.asked(run.run_id)).HasField("timeout_at")
    run = await rpc.start("hold", {"name": "a"})
    assert not run.HasField("timeout_at")


async def _failed(detail: str, input: Any = None) -> types.Failure:
    async with serving(registry_of(fail=Fail), failure_detail=detail) as rpc:
        run = await rpc.start("fail", input, wait=LONG)
        assert run.status == types.RUN_STATUS_FAILED
        assert run.outcome.event_type == "WorkflowFailedEvent"
        assert not run.outcome.HasField("result")
        failure = run.outcome.failure
        assert failure.step == "boom"
        assert failure.attempts == 1
        assert len(failure.reference_id) == 16
        (entry,) = [entry for entry in await rpc.log(run.run_id) if entry.kind == types.ENTRY_KIND_TERMINAL]
        shown = plain(entry.payload)
        assert shown["message"] == failure.message
        assert (SECRET in str(entry)) == (SECRET in failure.message)
        return failure


async def test_failure_detail_type_tells_the_type() -> None:
    failure = await _failed("type")
    assert (failure.error_type, failure.message, failure.traceback) == ("ValueError", "", "")


async def test_failure_detail_message_tells_the_message() -> None:
    failure = await _failed("message")
    assert (failure.error_type, failure.message, failure.traceback) == ("ValueError", SECRET, "")


async def test_failure_detail_traceback_tells_all() -> None:
    failure = await _failed("traceback")
    assert failure.message == SECRET
    assert f"ValueError: {SECRET}" in failure.traceback
    assert "in boom" in failure.traceback


async def test_what_the_author_made_public_is_told_whatever_the_detail() -> None:
    failure = await _failed("type", {"public": "out of stock"})
    assert (failure.error_type, failure.message) == ("WorkflowError", "out of stock")


async def test_wait_run_answers_at_the_end_or_at_its_timeout(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    for timeout in (Duration(), Duration(nanos=20_000_000)):
        request = runs.WaitRunRequest(run_id=run.run_id, timeout=timeout, encoding=JSON)
        found = await rpc.runs.WaitRun(request)
        assert found.timed_out
        assert found.run.status == types.RUN_STATUS_WAITING
    waiting = [asyncio.create_task(rpc.ended(run.run_id)) for _ in range(5)]
    await rpc.answer(run.run_id)
    assert {found.status for found in await asyncio.gather(*waiting)} == {types.RUN_STATUS_COMPLETED}
    found = await rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run.run_id, timeout=Duration(), encoding=JSON))
    assert not found.timed_out
    assert plain(found.run.outcome.result)["yes"] is True


async def test_a_caller_that_goes_leaves_its_wait_and_not_the_run(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run.run_id), timeout=0.05)
    assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    call = rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run.run_id))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_WAITING
    assert (await rpc.answer(run.run_id)).status == types.RUN_STATUS_COMPLETED


async def test_cancel_ends_a_run_with_its_reason(rpc: Rpc, gate: Gate) -> None:
    for run in (await rpc.asking("tea"), await rpc.start("hold", {"name": "a"})):
        request = runs.CancelRunRequest(run_id=run.run_id, reason="no more tea", encoding=JSON)
        found = (await rpc.runs.CancelRun(request)).run
        assert found.status == types.RUN_STATUS_CANCELLED
        assert found.outcome.status == types.RUN_STATUS_CANCELLED
        assert found.outcome.reason == "no more tea"
        assert found.outcome.event_type == "WorkflowCancelledEvent"
        assert not found.pending_waiters
        request.reason = "again"
        again = (await rpc.runs.CancelRun(request)).run
        assert again == found
        assert (await refused(rpc.send(run.run_id, event("Note", n=1)))).reason == "RUN_ENDED"


class WithDefault(StartEvent):
    size: int = -1

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        if self.size != 0:
            self["extra"] = object() if self.size < 0 else "x" * self.size


class Defaults(Workflow):
    @step
    async def only(self, ev: WithDefault) -> StopEvent:
        return StopEvent(result="ok")


async def test_a_start_event_that_cannot_be_kept_is_refused_and_leaves_no_run() -> None:
    async with serving(registry_of(defaults=Defaults)) as rpc:
        unsaved = await refused(rpc.start("defaults", {}, run_id="mine"))
        assert unsaved.reason == "INVALID_INPUT"
        assert (await refused(rpc.get("mine"))).reason == "RUN_NOT_FOUND"
        large = await refused(rpc.start("defaults", {"size": 4 << 20}, run_id="mine"))
        assert large.reason == "LIMIT_EXCEEDED"
        assert (await refused(rpc.get("mine"))).reason == "RUN_NOT_FOUND"
        assert await rpc.listed() == []
        run = await rpc.start("defaults", {"size": 0}, run_id="mine", wait=LONG)
        assert json.loads(run.outcome.result.json) == "ok"


async def test_cancel_of_a_completed_run_leaves_it(rpc: Rpc) -> None:
    run = await rpc.start("count", {"n": 1}, wait=LONG)
    found = (await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run.run_id, encoding=JSON))).run
    assert found == run


async def test_a_deleted_run_is_gone(rpc: Rpc) -> None:
    run = await rpc.start("count", {"n": 1}, run_id="mine", wait=LONG)
    await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id="mine"))
    assert (await refused(rpc.get("mine"))).reason == "RUN_NOT_FOUND"
    assert (await refused(rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id="mine")))).reason == "RUN_NOT_FOUND"
    assert await rpc.listed() == []
    again = await rpc.start("count", {"n": 1}, run_id="mine", wait=LONG)
    assert again.created_at != run.created_at


async def test_an_event_goes_to_every_step_that_accepts_it_or_to_one(rpc: Rpc) -> None:
    run = await rpc.start("picky", {})
    both = await rpc.send(run.run_id, event("Poke", n=1))
    one = await rpc.send(run.run_id, event("Poke", n=2), step="on_poke")
    other = await rpc.send(run.run_id, event("Note", n=3))
    none = await rpc.send(run.run_id, event("Ping", n=4))
    assert [sent.delivered for sent in (both, one, other, none)] == [2, 1, 1, 0]
    end = await rpc.send(run.run_id, event("Answer", yes=True))
    assert end.delivered == 1
    found = await rpc.ended(run.run_id)
    seen = plain(found.outcome.result)
    assert sorted(seen) == ["either 1", "either 3", "poke 1", "poke 2"]
    log = {entry.sequence: entry for entry in await rpc.log(run.run_id)}
    for sent, name in ((both, "Poke"), (one, "Poke"), (other, "Note"), (none, "Ping"), (end, "Answer")):
        entry = log[sent.sequence]
        assert (entry.type, entry.kind, entry.delivered) == (name, types.ENTRY_KIND_RECEIVED, sent.delivered)


async def test_a_published_event_goes_to_the_stream_and_to_nobody_else(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    request = runs.PublishEventRequest(run_id=run.run_id, event=event("Answer", order="7", yes=True, extra=[1]))
    sequence = (await rpc.runs.PublishEvent(request)).sequence
    assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_WAITING
    entry = (await rpc.log(run.run_id))[sequence - 1]
    assert (entry.kind, entry.type, entry.step) == (types.ENTRY_KIND_STREAM, "Answer", "")
    assert plain(entry.payload) == {"order": "7", "yes": True, "extra": [1]}


async def test_an_answer_that_does_not_fit_leaves_the_question_open(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    sent = await rpc.send(run.run_id, event("Answer", order="8", yes=True))
    assert sent.delivered == 0
    assert [waiter.waiter_id for waiter in (await rpc.get(run.run_id)).pending_waiters] == ["ship"]
    assert (await rpc.send(run.run_id, event("Answer", order="7", yes=True))).delivered == 1


async def test_a_custom_stop_event_is_the_result(rpc: Rpc) -> None:
    run = await rpc.start("shop", {})
    await rpc.status(run.run_id, "WAITING")
    await rpc.send(run.run_id, event("HumanResponseEvent", response="no"))
    run = await rpc.ended(run.run_id)
    assert run.outcome.event_type == "Receipt"
    assert plain(run.outcome.result) == {"total": 0, "lines": []}


class Ends(Workflow):
    """End with the result that the input has, and with the further fields that it has."""

    @step
    async def end(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("value"), **ev.get("more", {}))


@pytest.mark.parametrize("more", [{}, {"more": 1}, {"first": {"result": 0}}])
@pytest.mark.parametrize("value", [None, 0, 0.1, 10**30, "}", 'é"}', [], {"result": [1, {"result": None}]}])
async def test_the_result_of_a_run_is_that_of_its_stop_event_alone(value: object, more: dict[str, Any]) -> None:
    async with serving(registry_of(ends=Ends())) as rpc:
        run_id = (await rpc.start("ends", {"value": value, "more": more})).run_id
        assert json.loads((await rpc.ended(run_id)).outcome.result.json) == value
