"""Frames and messages that are wrong or too big."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.integration.refusals.table import (
    World,
    case,
    nested,
    read_out,
)
from tests.integration.rpc_flows import SECRET
from tests.integration.rpc_serving import (
    Refusal,
    event,
    payload,
    raw,
    refusal_of_status,
    refused,
)

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types

# -- frames and messages ------------------------------------------------------------------------------------------


def _frame(request: runs.ConverseRequest, name: str) -> None:
    async def attempt(w: World) -> Refusal:
        call = w.rpc.converse()
        await call.write(request)
        return await refused(call.read())

    attempt.__name__ = f"first_frame_{name}"
    case("INVALID_FRAME", "frame")(attempt)


_frame(runs.ConverseRequest(send=runs.ConverseSend(event=event("Note", n=1))), "that_sends")
_frame(runs.ConverseRequest(ack=runs.ConverseAck(sequence=1)), "that_acknowledges")
_frame(runs.ConverseRequest(cancel=runs.ConverseCancel()), "that_cancels")
_frame(runs.ConverseRequest(), "that_is_empty")


def _started(reason: str, name: str, *fields: str, **request: Any) -> None:
    async def attempt(w: World) -> Refusal:
        call = w.rpc.converse()
        start = runs.ConverseStart(request=runs.StartRunRequest(**request))
        await call.write(runs.ConverseRequest(start=start))
        return await refused(call.read())

    attempt.__name__ = f"conversation_{name}"
    case(reason, *fields)(attempt)


_started("WORKFLOW_NOT_FOUND", "with_an_unknown_workflow", workflow="nothing")
_started("INVALID_REQUEST", "with_no_workflow", "workflow")
_started("INVALID_INPUT", "with_a_bad_input", "item", workflow="ask", input=payload({"item": [SECRET]}))
_started("INVALID_SNAPSHOT", "from_no_snapshot", workflow="ask", snapshot=types.ContextSnapshot())
_started("LIMIT_EXCEEDED", "with_too_deep_an_input", workflow="ask", input=raw(nested(101)))


@case("INVALID_FRAME", "frame")
async def no_frame_at_all(w: World) -> Refusal:
    call = w.rpc.converse()
    await call.done_writing()
    return await refused(call.read())


@case("INVALID_FRAME", "frame")
async def second_start(w: World) -> Refusal:
    call = w.rpc.converse()
    attach = runs.ConverseRequest(attach=runs.ConverseAttach(run_id=w.open))
    await call.write(attach)
    assert (await call.read()).WhichOneof("frame") == "opened"
    await call.write(attach)
    return await refused(read_out(call))


@case("INVALID_REQUEST", "reason")
async def cancel_frame_with_too_long_a_reason(w: World) -> Refusal:
    call = w.rpc.converse()
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=w.open)))
    assert (await call.read()).WhichOneof("frame") == "opened"
    await call.write(runs.ConverseRequest(cancel=runs.ConverseCancel(reason="x" * 1001)))
    return await refused(read_out(call))


@case("INVALID_REQUEST", "max_unacked")
async def start_frame_with_a_negative_window(w: World) -> Refusal:
    call = w.rpc.converse()
    request = runs.StartRunRequest(workflow="ask", run_id="never-started", input=payload({"item": "tea"}))
    await call.write(runs.ConverseRequest(start=runs.ConverseStart(request=request, max_unacked=-1)))
    found = await refused(call.read())
    absent = await refused(w.rpc.runs.GetRun(runs.GetRunRequest(run_id="never-started")))
    assert absent.reason == "RUN_NOT_FOUND"
    return found


GARBAGE = b"\xff\xff\xff\xff" + SECRET.encode()


def _unary(service: str, method: str) -> None:
    async def attempt(w: World) -> Refusal:
        call = w.rpc.channel.unary_unary(f"/stepwire.v1.{service}/{method}")
        return await refused(call(GARBAGE))

    attempt.__name__ = f"garbage_to_{method}"
    case("MALFORMED_MESSAGE")(attempt)


for _service, _methods in {
    "WorkflowService": ("ListWorkflows", "GetWorkflow", "PauseWorkflow", "ResumeWorkflow"),
    "RunService": (
        "StartRun", "GetRun", "ListRuns", "WaitRun", "CancelRun", "ReloadRun", "RetryRun", "PauseRun", "ResumeRun",
        "DeleteRun", "SendEvent", "PublishEvent", "WaitForEvent",
    ),
    "ScheduleService": (
        "CreateSchedule", "GetSchedule", "ListSchedules", "UpdateSchedule", "PauseSchedule", "ResumeSchedule",
        "TriggerSchedule", "DeleteSchedule", "BackfillSchedule",
    ),
    "ServerService": ("GetServer", "WhoAmI"),
    "StateService": ("GetState", "SetState", "UnsetState", "ReplaceState"),
    "SnapshotService": ("GetSnapshot", "ListSnapshots"),
}.items():  # fmt: skip
    for _method in _methods:
        _unary(_service, _method)


@case("MALFORMED_MESSAGE")
async def garbage_to_a_stream(w: World) -> Refusal:
    call = w.rpc.channel.unary_stream("/stepwire.v1.RunService/StreamEvents")(GARBAGE)
    return await refused(call.read())


@case("MALFORMED_MESSAGE")
async def garbage_as_the_first_frame(w: World) -> Refusal:
    call = w.rpc.channel.stream_stream("/stepwire.v1.RunService/Converse")()
    await call.write(GARBAGE)
    return await refused(call.read())


@case("MALFORMED_MESSAGE")
async def garbage_as_a_later_frame(w: World) -> Refusal:
    call = w.rpc.channel.stream_stream("/stepwire.v1.RunService/Converse")()
    attach = runs.ConverseRequest(attach=runs.ConverseAttach(run_id=w.open))
    await call.write(attach.SerializeToString())
    await call.read()
    await call.write(GARBAGE)
    return await refused(read_out(call))


# -- limits -------------------------------------------------------------------------------------------------------


def _too_deep(name: str, call: Callable[[World, types.Payload], Awaitable[Any]]) -> None:
    async def attempt(w: World) -> Refusal:
        refusal = await refused(call(w, raw(nested(101))))
        assert refusal.facts["limit"] == "depth"
        return refusal

    attempt.__name__ = f"too_deep_{name}"
    case("LIMIT_EXCEEDED")(attempt)


def _too_big(name: str, call: Callable[[World, types.Payload], Awaitable[Any]], limit: str, size: int) -> None:
    async def attempt(w: World) -> Refusal:
        refusal = await refused(call(w, payload({"item": "x" * size})))
        assert refusal.facts["limit"] == limit
        return refusal

    attempt.__name__ = f"too_big_{name}"
    case("LIMIT_EXCEEDED")(attempt)


def _send_note(w: World, data: types.Payload) -> Awaitable[Any]:
    return w.rpc.send(w.open, types.Event(type="Note", payload=data))


def _publish_note(w: World, data: types.Payload) -> Awaitable[Any]:
    request = runs.PublishEventRequest(run_id=w.open, event=types.Event(type="Note", payload=data))
    answer: Awaitable[Any] = w.rpc.runs.PublishEvent(request)
    return answer


def _set_to(w: World, data: types.Payload) -> Awaitable[Any]:
    values = [states.PathValue(path="a", value=data)]
    answer: Awaitable[Any] = w.rpc.states.SetState(states.SetStateRequest(run_id=w.open, values=values))
    return answer


def _replace_by(w: World, data: types.Payload) -> Awaitable[Any]:
    answer: Awaitable[Any] = w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=w.open, value=data))
    return answer


def _start_with(w: World, data: types.Payload) -> Awaitable[Any]:
    answer: Awaitable[Any] = w.rpc.runs.StartRun(runs.StartRunRequest(workflow="ask", input=data))
    return answer


MIB = 1 << 20
for _name, _call in {"start": _start_with, "send": _send_note, "publish": _publish_note}.items():
    _too_deep(_name, _call)
    _too_big(_name, _call, "event_bytes", MIB)
for _name, _call in {"set": _set_to, "replace": _replace_by}.items():
    _too_deep(_name, _call)
    _too_big(_name, _call, "state_bytes", 8 * MIB)


@case("LIMIT_EXCEEDED")
async def event_too_big_as_a_value(w: World) -> Refusal:
    message = types.Payload()
    message.value.struct_value.fields["item"].string_value = "x" * MIB
    return await refused(_start_with(w, message))


@case("LIMIT_EXCEEDED")
async def message_beyond_the_limit(w: World) -> Refusal:
    refusal = await refused(_start_with(w, types.Payload(json=b" " * (16 * MIB))))
    assert refusal.facts["limit"] == "message_bytes"
    return refusal


@case("LIMIT_EXCEEDED")
async def frame_too_big(w: World) -> Refusal:
    call = w.rpc.converse()
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=w.open)))
    data = types.Event(type="Note", payload=payload({"text": "x" * MIB}))
    await call.write(runs.ConverseRequest(send=runs.ConverseSend(request_id="big", event=data)))
    async for frame in call:
        if frame.WhichOneof("frame") == "send_result":
            call.cancel()
            assert frame.send_result.request_id == "big"
            return refusal_of_status(frame.send_result.error)
    raise AssertionError("no result came")
