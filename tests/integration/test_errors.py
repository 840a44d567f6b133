"""Every row of the error table: what a client is told, that the server goes on, and that no run is harmed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_flows import SECRET, AskAgain
from tests.integration.rpc_serving import (
    JSON,
    Refusal,
    Rpc,
    event,
    payload,
    plain,
    raw,
    refusal_of_status,
    refused,
    registry_of,
    serving,
)

from stepwire.server.rpc.errors import CODES
from stepwire.server.store import Commit, StoreCorruptError, StoreUnavailableError
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows


class World(NamedTuple):
    """A server, a run of `ask` on it whose question is open, and one that has ended."""

    rpc: Rpc
    open: str
    ended: str


Try = Callable[[World], Awaitable[Refusal]]


class Case(NamedTuple):
    """A way to be refused: the reason, and the fields that the refusal must name."""

    reason: str
    fields: tuple[str, ...]
    attempt: Try


CASES: dict[str, Case] = {}


def case(reason: str, *fields: str) -> Callable[[Try], Try]:
    """Add a case to the table of this module."""

    def add(attempt: Try) -> Try:
        name = attempt.__name__
        assert name not in CASES
        CASES[name] = Case(reason, fields, attempt)
        return attempt

    return add


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rpc]:
    """The one server of all cases: it must be up after each."""
    async with serving(data=str(tmp_path_factory.mktemp("data"))) as rpc:
        yield rpc


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared: Rpc) -> AsyncIterator[World]:
    """What the cases try their luck on; afterwards the open run goes on as if nothing had been."""
    rpc = shared
    opened = await rpc.asking("tea")
    done = await rpc.start("echo", {"value": 1}, wait=Duration(seconds=10))
    assert done.status == types.RUN_STATUS_COMPLETED
    before = await rpc.log(opened.run_id)
    yield World(rpc, opened.run_id, done.run_id)
    assert await rpc.log(opened.run_id) == before
    run = await rpc.answer(opened.run_id)
    assert run.status == types.RUN_STATUS_COMPLETED
    assert plain(run.outcome.result) == {"yes": True, "note": None}
    assert (await rpc.get(done.run_id)).status == types.RUN_STATUS_COMPLETED


# -- what is not there --------------------------------------------------------------------------------------------


@case("WORKFLOW_NOT_FOUND")
async def start_of_an_unknown_workflow(w: World) -> Refusal:
    return await refused(w.rpc.start("nothing", {}))


@case("WORKFLOW_NOT_FOUND")
async def description_of_an_unknown_workflow(w: World) -> Refusal:
    return await refused(w.rpc.workflows.GetWorkflow(workflows.GetWorkflowRequest(name="nothing")))


def _by_run_id(call: Callable[[World, str], Awaitable[Any]], name: str) -> None:
    async def attempt(w: World) -> Refusal:
        refusal = await refused(call(w, "no-such-run"))
        assert refusal.facts["run_id"] == "no-such-run"
        return refusal

    attempt.__name__ = f"unknown_run_{name}"
    case("RUN_NOT_FOUND")(attempt)


_by_run_id(lambda w, id: w.rpc.runs.GetRun(runs.GetRunRequest(run_id=id)), "get")
_by_run_id(lambda w, id: w.rpc.runs.WaitRun(runs.WaitRunRequest(run_id=id)), "wait")
_by_run_id(lambda w, id: w.rpc.runs.CancelRun(runs.CancelRunRequest(run_id=id)), "cancel")
_by_run_id(lambda w, id: w.rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=id)), "delete")
_by_run_id(lambda w, id: w.rpc.send(id, event("Note", n=1)), "send")
_by_run_id(
    lambda w, id: w.rpc.runs.PublishEvent(runs.PublishEventRequest(run_id=id, event=event("Note", n=1))), "publish"
)
_by_run_id(lambda w, id: w.rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=id, event_type="Note")), "wait_for")
_by_run_id(lambda w, id: w.rpc.stream(id).read(), "stream")
_by_run_id(lambda w, id: _attach(w, run_id=id), "attach")
_by_run_id(lambda w, id: w.rpc.states.GetState(states.GetStateRequest(run_id=id)), "get_state")
_by_run_id(lambda w, id: _set(w, id, "a", 1), "set_state")
_by_run_id(lambda w, id: w.rpc.states.UnsetState(states.UnsetStateRequest(run_id=id, paths=["a"])), "unset_state")
_by_run_id(lambda w, id: w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=id, value=payload({}))), "replace")
_by_run_id(lambda w, id: w.rpc.snapshots.GetSnapshot(snapshots.GetSnapshotRequest(run_id=id)), "snapshot")
_by_run_id(lambda w, id: w.rpc.snapshots.ListSnapshots(snapshots.ListSnapshotsRequest(run_id=id)), "list_snapshots")
_by_run_id(lambda w, id: _from(w, id, 0), "fork")


async def _set(w: World, run_id: str, path: str, value: Any, **fields: Any) -> states.SetStateResponse:
    values = [states.PathValue(path=path, value=payload(value))]
    answer: states.SetStateResponse = await w.rpc.states.SetState(
        states.SetStateRequest(run_id=run_id, values=values, **fields)
    )
    return answer


async def _from(w: World, run_id: str, sequence: int, **fields: Any) -> types.Run:
    request = runs.StartRunRequest(workflow="ask", **fields)
    getattr(request, "from").CopyFrom(types.SnapshotRef(run_id=run_id, sequence=sequence))
    answer: runs.StartRunResponse = await w.rpc.runs.StartRun(request)
    return answer.run


async def _attach(w: World, **fields: Any) -> runs.ConverseResponse:
    call = w.rpc.converse()
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(**fields)))
    frame: runs.ConverseResponse = await call.read()
    call.cancel()
    return frame


@case("STEP_NOT_FOUND")
async def send_to_an_unknown_step(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, event("Note", n=1), step="nowhere"))


@case("PATH_NOT_FOUND")
async def read_of_a_path_where_nothing_is(w: World) -> Refusal:
    refusal = await refused(w.rpc.states.GetState(states.GetStateRequest(run_id=w.open, path="no.where")))
    assert refusal.facts["path"] == "no.where"
    return refusal


@case("PATH_NOT_FOUND")
async def unset_of_a_path_where_nothing_is(w: World) -> Refusal:
    return await refused(w.rpc.states.UnsetState(states.UnsetStateRequest(run_id=w.open, paths=["item", "no.where"])))


@case("SNAPSHOT_NOT_FOUND")
async def snapshot_between_two_commits(w: World) -> Refusal:
    """Entries 2 … of `count` share commits; where no commit ended there is no snapshot."""
    run = await w.rpc.start("count", {"n": 4}, wait=Duration(seconds=10))
    listed = await w.rpc.snapshots.ListSnapshots(snapshots.ListSnapshotsRequest(run_id=run.run_id))
    kept = {info.sequence for info in listed.snapshots}
    missing = next(sequence for sequence in range(1, run.last_sequence) if sequence not in kept)
    return await refused(w.rpc.snapshots.GetSnapshot(snapshots.GetSnapshotRequest(run_id=run.run_id, sequence=missing)))


# -- what is wrong in itself --------------------------------------------------------------------------------------


@case("INVALID_REQUEST", "workflow")
async def start_without_a_workflow(w: World) -> Refusal:
    return await refused(w.rpc.start("", {}))


@case("INVALID_REQUEST", "run_id", "request_id", "labels", "timeout")
async def start_with_everything_out_of_bounds(w: World) -> Refusal:
    return await refused(
        w.rpc.start(
            "ask",
            {"item": "tea"},
            run_id="no spaces",
            request_id="x" * 129,
            labels={"k" * 64: ""},
            timeout=Duration(seconds=-1),
        )
    )


@case("INVALID_REQUEST", "labels")
async def too_many_labels(w: World) -> Refusal:
    return await refused(w.rpc.start("ask", {"item": "tea"}, labels={f"k{n}": "v" for n in range(33)}))


@case("INVALID_REQUEST", "labels")
async def too_long_a_label(w: World) -> Refusal:
    return await refused(w.rpc.start("ask", {"item": "tea"}, labels={"k": "v" * 256}))


@case("INVALID_REQUEST", "run_id_conflict_policy")
async def unknown_policy(w: World) -> Refusal:
    return await refused(w.rpc.start("ask", {"item": "tea"}, run_id="a", run_id_conflict_policy=7))


@case("INVALID_REQUEST", "wait")
async def negative_wait_of_a_start(w: World) -> Refusal:
    return await refused(w.rpc.start("ask", {"item": "tea"}, wait=Duration(seconds=-1)))


@case("INVALID_REQUEST", "timeout")
async def negative_timeout_of_wait_run(w: World) -> Refusal:
    return await refused(w.rpc.runs.WaitRun(runs.WaitRunRequest(run_id=w.open, timeout=Duration(seconds=-1))))


@case("INVALID_REQUEST", "timeout")
async def negative_timeout_of_wait_for_event(w: World) -> Refusal:
    request = runs.WaitForEventRequest(run_id=w.open, event_type="Note", timeout=Duration(nanos=-1))
    return await refused(w.rpc.runs.WaitForEvent(request))


@case("INVALID_REQUEST", "page_size")
async def negative_page_size_of_runs(w: World) -> Refusal:
    return await refused(w.rpc.runs.ListRuns(runs.ListRunsRequest(page_size=-1)))


@case("INVALID_REQUEST", "page_size")
async def negative_page_size_of_workflows(w: World) -> Refusal:
    return await refused(w.rpc.workflows.ListWorkflows(workflows.ListWorkflowsRequest(page_size=-1)))


@case("INVALID_REQUEST", "page_size")
async def negative_page_size_of_snapshots(w: World) -> Refusal:
    request = snapshots.ListSnapshotsRequest(run_id=w.open, page_size=-1)
    return await refused(w.rpc.snapshots.ListSnapshots(request))


@case("INVALID_REQUEST", "statuses")
async def unknown_status_in_a_filter(w: World) -> Refusal:
    return await refused(w.rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[99])))  # type: ignore[list-item]


@case("INVALID_REQUEST", "reason")
async def too_long_a_reason(w: World) -> Refusal:
    return await refused(w.rpc.runs.CancelRun(runs.CancelRunRequest(run_id=w.open, reason="x" * 1001)))


@case("INVALID_REQUEST", "request_id")
async def too_long_a_request_id_of_a_send(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, event("Note", n=1), request_id="x" * 129))


@case("INVALID_REQUEST", "request_id")
async def too_long_a_request_id_of_a_set(w: World) -> Refusal:
    return await refused(_set(w, w.open, "a", 1, request_id="x" * 129))


@case("INVALID_REQUEST", "max_unacked")
async def negative_window(w: World) -> Refusal:
    return await refused(_attach(w, run_id=w.open, max_unacked=-1))


@case("INVALID_REQUEST", "values")
async def set_of_nothing(w: World) -> Refusal:
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open)))


@case("INVALID_REQUEST", "paths")
async def unset_of_too_much(w: World) -> Refusal:
    request = states.UnsetStateRequest(run_id=w.open, paths=["a"] * 1001)
    return await refused(w.rpc.states.UnsetState(request))


@case("INVALID_REQUEST", "input")
async def going_on_from_a_living_run_with_an_input(w: World) -> Refusal:
    return await refused(_from(w, w.open, 0, input=payload({"item": "tea"})))


@case("INVALID_REQUEST", "input")
async def starting_anew_without_an_input(w: World) -> Refusal:
    done = await w.rpc.asking("old")
    await w.rpc.answer(done.run_id)
    return await refused(_from(w, done.run_id, 0))


@case("INVALID_REQUEST")
async def requirements_that_are_no_object(w: World) -> Refusal:
    request = runs.WaitForEventRequest(run_id=w.open, event_type="Note", requirements=payload([SECRET]))
    return await refused(w.rpc.runs.WaitForEvent(request))


def _input(data: types.Payload, *fields: str, name: str, reason: str = "INVALID_INPUT") -> None:
    async def attempt(w: World) -> Refusal:
        return await refused(w.rpc.runs.StartRun(runs.StartRunRequest(workflow="ask", input=data)))

    attempt.__name__ = f"input_{name}"
    case(reason, *fields)(attempt)


def _number(found: float) -> types.Payload:
    message = types.Payload()
    message.value.struct_value.fields["item"].string_value = SECRET
    message.value.struct_value.fields["count"].number_value = found
    return message


def _unset_value() -> types.Payload:
    message = types.Payload()
    message.value.struct_value.fields["item"].SetInParent()
    return message


def _nested(depth: int) -> bytes:
    return b'{"item":' + b"[" * depth + b"1" + b"]" * depth + b"}"


_input(payload({"item": 5, "count": SECRET}), "item", "count", name="of_wrong_types")
_input(payload({}), "item", name="with_a_field_missing")
_input(payload([SECRET]), name="that_is_a_list")
_input(raw(b'{"item": "' + SECRET.encode()), name="that_is_cut_off")
_input(raw(b'{"item": "\xff\xfe"}'), name="that_is_not_utf8")
_input(raw(b""), "item", name="of_no_bytes")
_input(raw(b'{"item": "tea", "count": NaN}'), name="with_nan_as_json")
_input(raw(b'{"item": "tea", "count": -Infinity}'), name="with_an_infinity_as_json")
_input(raw(b'{"item": "tea", "n": 1e999}'), "n", name="with_a_number_beyond_floats")
_input(_number(float("nan")), name="with_nan_as_value")
_input(_number(float("inf")), name="with_an_infinity_as_value")
_input(_unset_value(), name="with_an_unset_value")
_input(types.Payload(value=struct_pb2.Value()), name="that_is_an_unset_value")


@case("INVALID_EVENT", "n")
async def event_that_does_not_validate(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, event("Note", n=SECRET)))


@case("INVALID_EVENT", "event.type")
async def event_without_a_type(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, types.Event(payload=payload({"n": 1}))))


@case("INVALID_EVENT", "event.type")
async def no_event_at_all(w: World) -> Refusal:
    return await refused(w.rpc.runs.SendEvent(runs.SendEventRequest(run_id=w.open)))


@case("INVALID_EVENT", "n")
async def event_without_a_payload(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, types.Event(type="Note")))


@case("INVALID_EVENT")
async def event_of_nan(w: World) -> Refusal:
    sent = types.Event(type="Note", payload=types.Payload(value=_number(float("nan")).value))
    return await refused(w.rpc.send(w.open, sent))


@case("INVALID_EVENT", "n")
async def published_event_that_does_not_validate(w: World) -> Refusal:
    request = runs.PublishEventRequest(run_id=w.open, event=event("Note", n=SECRET))
    return await refused(w.rpc.runs.PublishEvent(request))


@case("INVALID_EVENT", "text")
async def prompt_that_does_not_validate(w: World) -> Refusal:
    request = runs.WaitForEventRequest(run_id=w.open, event_type="Note", waiter_event=event("Question"))
    return await refused(w.rpc.runs.WaitForEvent(request))


@case("UNKNOWN_EVENT_TYPE")
async def event_of_an_unknown_type(w: World) -> Refusal:
    refusal = await refused(w.rpc.send(w.open, event("Nothing", x=SECRET)))
    assert refusal.facts == {"workflow": "ask", "type": "Nothing"}
    return refusal


@case("UNKNOWN_EVENT_TYPE")
async def event_that_no_client_may_send(w: World) -> Refusal:
    return await refused(w.rpc.send(w.open, event("StopEvent", result=SECRET)))


@case("UNKNOWN_EVENT_TYPE")
async def wait_for_an_unknown_type(w: World) -> Refusal:
    return await refused(w.rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=w.open, event_type="Nothing")))


@case("STEP_DOES_NOT_ACCEPT")
async def event_to_a_step_that_does_not_accept_it(w: World) -> Refusal:
    refusal = await refused(w.rpc.send(w.open, event("Answer", yes=True), step="note"))
    assert refusal.facts == {"workflow": "ask", "step": "note", "type": "Answer"}
    return refusal


def _path(path: str, name: str) -> None:
    async def read(w: World) -> Refusal:
        return await refused(w.rpc.states.GetState(states.GetStateRequest(run_id=w.open, path=path)))

    async def write(w: World) -> Refusal:
        return await refused(_set(w, w.open, path, SECRET))

    read.__name__ = f"read_of_{name}"
    write.__name__ = f"write_to_{name}"
    case("INVALID_PATH", "path")(read)
    case("INVALID_PATH", "path")(write)


_path("_private", "a_private_name")
_path("__class__.__mro__", "a_dunder")
_path("a..b", "an_empty_segment")
_path(".".join("a" * 65), "a_path_that_is_too_long")


@case("INVALID_PATH", "path")
async def write_to_the_empty_path(w: World) -> Refusal:
    return await refused(_set(w, w.open, "", {}))


@case("INVALID_PATH", "path")
async def write_below_a_text(w: World) -> Refusal:
    return await refused(_set(w, w.open, "item.deeper", 1))


@case("INVALID_STATE", "values.1.value")
async def set_without_a_value(w: World) -> Refusal:
    values = [states.PathValue(path="a", value=payload(1)), states.PathValue(path="b")]
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open, values=values)))


@case("INVALID_STATE")
async def set_of_malformed_json(w: World) -> Refusal:
    values = [states.PathValue(path="a", value=payload(1)), states.PathValue(path="b", value=raw(b"{"))]
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open, values=values)))


@case("INVALID_STATE")
async def set_of_nan(w: World) -> Refusal:
    values = [states.PathValue(path="a", value=_number(float("nan")))]
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open, values=values)))


@case("INVALID_STATE", "limit")
async def set_that_the_state_does_not_take(w: World) -> Refusal:
    shop = await w.rpc.start("shop", {})
    await w.rpc.status(shop.run_id, "WAITING")
    refusal = await refused(_set(w, shop.run_id, "limit", -1))
    found = await w.rpc.states.GetState(states.GetStateRequest(run_id=shop.run_id, path="limit", encoding=JSON))
    assert plain(found.value) == 10
    return refusal


@case("INVALID_STATE", "limit")
async def whole_state_that_does_not_fit(w: World) -> Refusal:
    shop = await w.rpc.start("shop", {})
    value = payload({"owner": "ann", "limit": SECRET})
    return await refused(w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=shop.run_id, value=value)))


@case("INVALID_STATE")
async def whole_state_that_is_no_object(w: World) -> Refusal:
    return await refused(w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=w.open, value=payload([SECRET]))))


@case("INVALID_STATE", "value")
async def replace_without_a_value(w: World) -> Refusal:
    return await refused(w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=w.open)))


# -- snapshots ----------------------------------------------------------------------------------------------------


async def _snapshot(w: World) -> types.ContextSnapshot:
    answer: snapshots.GetSnapshotResponse = await w.rpc.snapshots.GetSnapshot(
        snapshots.GetSnapshotRequest(run_id=w.open)
    )
    return answer.snapshot


async def _start_from(w: World, snapshot: types.ContextSnapshot, workflow: str = "ask") -> types.Run:
    answer: runs.StartRunResponse = await w.rpc.runs.StartRun(
        runs.StartRunRequest(workflow=workflow, snapshot=snapshot)
    )
    return answer.run


@case("INVALID_SNAPSHOT")
async def altered_snapshot(w: World) -> Refusal:
    snapshot = await _snapshot(w)
    snapshot.state_json["item"] = b'"' + SECRET.encode() + b'"'
    return await refused(_start_from(w, snapshot))


@case("INVALID_SNAPSHOT")
async def snapshot_of_another_key(w: World) -> Refusal:
    snapshot = await _snapshot(w)
    snapshot.key_id = "0" * 16
    return await refused(_start_from(w, snapshot))


@case("INVALID_SNAPSHOT")
async def empty_snapshot(w: World) -> Refusal:
    return await refused(_start_from(w, types.ContextSnapshot()))


def _signed(name: str, alter: Callable[[types.ContextSnapshot], object]) -> None:
    """Sign what no server would give: a holder of the key is believed, and yet checked."""

    async def attempt(w: World) -> Refusal:
        snapshot = await _snapshot(w)
        alter(snapshot)
        return await refused(_start_from(w, w.rpc.signer.sign(snapshot)))

    attempt.__name__ = f"snapshot_{name}"
    case("INVALID_SNAPSHOT")(attempt)


def _assign(name: str, value: Any) -> Callable[[types.ContextSnapshot], object]:
    return lambda snapshot: setattr(snapshot, name, value)


_signed("of_another_format", _assign("format_version", 99))
_signed("without_a_head", _assign("head_json", b""))
_signed("with_a_malformed_head", _assign("head_json", b'{"v": 1, "seq": "' + SECRET.encode() + b'"}'))
_signed("with_a_head_that_is_a_list", _assign("head_json", b"[]"))
_signed("nested_too_deeply", _assign("head_json", b"[" * 100_000 + b"]" * 100_000))
_signed("with_an_unknown_step", lambda s: setattr(s.in_progress[0], "step", "nowhere"))
_signed("with_malformed_data", lambda s: setattr(s.in_progress[0], "data_json", b'"x"'))
_signed(
    "with_an_unknown_type",
    lambda s: setattr(s.in_progress[0], "data_json", s.in_progress[0].data_json.replace(b"Order", b"Nowhere")),
)
_signed("with_torn_effects", lambda s: setattr(s.in_progress[0], "effects", b"123"))
_signed("with_a_waiter_of_nobody", lambda s: s.ClearField("in_progress"))


@case("SNAPSHOT_WORKFLOW_MISMATCH")
async def snapshot_of_another_workflow(w: World) -> Refusal:
    return await refused(_start_from(w, await _snapshot(w), "picky"))


@case("SNAPSHOT_WORKFLOW_MISMATCH")
async def fork_of_a_run_of_another_workflow(w: World) -> Refusal:
    return await refused(_from(w, w.ended, 0, input=payload({"item": "tea"})))


# -- paging and cursors -------------------------------------------------------------------------------------------


async def _token(w: World) -> str:
    for _ in range(2):
        await w.rpc.start("echo", {"value": 1})
    page = await w.rpc.runs.ListRuns(runs.ListRunsRequest(page_size=1, workflow="echo"))
    assert page.next_page_token
    return str(page.next_page_token)


@case("INVALID_PAGE_TOKEN")
async def page_token_of_another_filter(w: World) -> Refusal:
    return await refused(w.rpc.runs.ListRuns(runs.ListRunsRequest(page_token=await _token(w), workflow="ask")))


@case("INVALID_PAGE_TOKEN")
async def page_token_of_another_listing(w: World) -> Refusal:
    request = workflows.ListWorkflowsRequest(page_token=await _token(w))
    return await refused(w.rpc.workflows.ListWorkflows(request))


@case("INVALID_PAGE_TOKEN")
async def page_token_of_another_run(w: World) -> Refusal:
    page = await w.rpc.snapshots.ListSnapshots(snapshots.ListSnapshotsRequest(run_id=w.open, page_size=1))
    assert page.next_page_token
    request = snapshots.ListSnapshotsRequest(run_id=w.ended, page_token=page.next_page_token)
    return await refused(w.rpc.snapshots.ListSnapshots(request))


def _garbage(token: str, name: str) -> None:
    async def listing(w: World) -> Refusal:
        return await refused(w.rpc.runs.ListRuns(runs.ListRunsRequest(page_token=token)))

    async def of_workflows(w: World) -> Refusal:
        return await refused(w.rpc.workflows.ListWorkflows(workflows.ListWorkflowsRequest(page_token=token)))

    listing.__name__ = f"page_token_{name}"
    of_workflows.__name__ = f"page_token_of_workflows_{name}"
    case("INVALID_PAGE_TOKEN")(listing)
    case("INVALID_PAGE_TOKEN")(of_workflows)


def _made(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


_garbage("garbage", "of_garbage")
_garbage("ü", "beyond_ascii")
_garbage(base64.urlsafe_b64encode(b"\xff\xff").decode(), "of_bytes")
_garbage(_made(1), "that_is_a_number")
_garbage(_made(["workflows", []]), "without_a_place")
_garbage(_made(["workflows", [{"a": 1}]]), "with_a_place_that_is_none")
_garbage(base64.urlsafe_b64encode(b"[" * 100_000).decode(), "that_is_nested")


def _range(after: int, name: str) -> None:
    def checked(refusal: Refusal) -> Refusal:
        assert refusal.facts["first_available"] == "1"
        assert int(refusal.facts["last_available"]) >= 2
        return refusal

    async def stream(w: World) -> Refusal:
        return checked(await refused(w.rpc.stream(w.open, after).read()))

    async def attach(w: World) -> Refusal:
        return checked(await refused(_attach(w, run_id=w.open, after_sequence=after)))

    async def snapshot(w: World) -> Refusal:
        request = snapshots.GetSnapshotRequest(run_id=w.open, sequence=after)
        return checked(await refused(w.rpc.snapshots.GetSnapshot(request)))

    async def wait(w: World) -> Refusal:
        request = runs.WaitForEventRequest(
            run_id=w.open, event_type="Note", after_sequence=after, waiter_event=event("Question", text="?")
        )
        return checked(await refused(w.rpc.runs.WaitForEvent(request)))

    async def fork(w: World) -> Refusal:
        return checked(await refused(_from(w, w.open, after)))

    for attempt in (stream, attach, snapshot, wait, fork):
        attempt.__name__ = f"{attempt.__name__}_{name}"
        case("SEQUENCE_OUT_OF_RANGE")(attempt)


_range(1_000_000, "beyond_the_log")
_range(-1, "before_the_log")


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
_started("LIMIT_EXCEEDED", "with_too_deep_an_input", workflow="ask", input=raw(_nested(101)))


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
    return await refused(_last(call))


async def _last(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


GARBAGE = b"\xff\xff\xff\xff" + SECRET.encode()


def _unary(service: str, method: str) -> None:
    async def attempt(w: World) -> Refusal:
        call = w.rpc.channel.unary_unary(f"/stepwire.v1.{service}/{method}")
        return await refused(call(GARBAGE))

    attempt.__name__ = f"garbage_to_{method}"
    case("MALFORMED_MESSAGE")(attempt)


for _service, _methods in {
    "WorkflowService": ("ListWorkflows", "GetWorkflow"),
    "RunService": (
        "StartRun", "GetRun", "ListRuns", "WaitRun", "CancelRun", "DeleteRun", "SendEvent", "PublishEvent",
        "WaitForEvent",
    ),
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
    return await refused(_last(call))


# -- what the run does not allow ----------------------------------------------------------------------------------


def _on_ended(name: str, call: Callable[[World], Awaitable[Any]]) -> None:
    async def attempt(w: World) -> Refusal:
        refusal = await refused(call(w))
        assert refusal.facts["run_id"] == w.ended
        return refusal

    attempt.__name__ = f"ended_run_{name}"
    case("RUN_ENDED")(attempt)


_on_ended("send", lambda w: w.rpc.send(w.ended, event("Note", n=1)))
_on_ended(
    "publish", lambda w: w.rpc.runs.PublishEvent(runs.PublishEventRequest(run_id=w.ended, event=event("Note", n=1)))
)
_on_ended("set", lambda w: _set(w, w.ended, "a", 1))
_on_ended("unset", lambda w: w.rpc.states.UnsetState(states.UnsetStateRequest(run_id=w.ended, paths=["value"])))
_on_ended("replace", lambda w: w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=w.ended, value=payload({}))))


@case("RUN_NOT_ENDED")
async def delete_of_a_living_run(w: World) -> Refusal:
    return await refused(w.rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=w.open)))


@case("RUN_EXISTS")
async def run_id_that_is_taken(w: World) -> Refusal:
    return await refused(w.rpc.start("ask", {"item": "tea"}, run_id=w.open))


@case("RUN_EXISTS")
async def run_id_of_an_ended_run(w: World) -> Refusal:
    return await refused(w.rpc.start("ask", {"item": "tea"}, run_id=w.ended))


@case("ETAG_MISMATCH")
async def write_with_a_stale_etag(w: World) -> Refusal:
    run = await w.rpc.asking("other")
    etag = (await w.rpc.states.GetState(states.GetStateRequest(run_id=run.run_id))).etag
    fresh = (await _set(w, run.run_id, "a", 1, etag=etag)).etag
    replace = states.ReplaceStateRequest(run_id=run.run_id, value=payload({}), etag=etag)
    unset = states.UnsetStateRequest(run_id=run.run_id, paths=["a"], etag=etag)
    for call in (w.rpc.states.ReplaceState(replace), w.rpc.states.UnsetState(unset)):
        assert (await refused(call)).facts["etag"] == fresh
    refusal = await refused(_set(w, run.run_id, "a", 2, etag=etag))
    found = await w.rpc.states.GetState(states.GetStateRequest(run_id=run.run_id, path="a", encoding=JSON))
    assert (plain(found.value), found.etag) == (1, fresh)
    return refusal


# -- request_id ---------------------------------------------------------------------------------------------------


def _reused(
    name: str, first: Callable[[World, str], Awaitable[Any]], other: Callable[[World, str], Awaitable[Any]]
) -> None:
    async def attempt(w: World) -> Refusal:
        run = await w.rpc.asking("other")
        await first(w, run.run_id)
        return await refused(other(w, run.run_id))

    attempt.__name__ = f"reused_request_id_{name}"
    case("REQUEST_ID_REUSED")(attempt)


def _publish(w: World, run_id: str, n: int) -> Awaitable[Any]:
    sent = event("Note", n=n)
    published: Awaitable[Any] = w.rpc.runs.PublishEvent(
        runs.PublishEventRequest(run_id=run_id, event=sent, request_id="r")
    )
    return published


def _unset(w: World, run_id: str, path: str) -> Awaitable[Any]:
    answer: Awaitable[Any] = w.rpc.states.UnsetState(
        states.UnsetStateRequest(run_id=run_id, paths=[path], request_id="r")
    )
    return answer


def _replace(w: World, run_id: str, value: Any) -> Awaitable[Any]:
    answer: Awaitable[Any] = w.rpc.states.ReplaceState(
        states.ReplaceStateRequest(run_id=run_id, value=payload(value), request_id="r")
    )
    return answer


def _start(w: World, **fields: Any) -> Awaitable[types.Run]:
    return w.rpc.start("ask", fields.pop("input", {"item": "tea"}), request_id=w.open, **fields)


def _note(w: World, run_id: str, n: int, **fields: Any) -> Awaitable[Any]:
    return w.rpc.send(run_id, event("Note", n=n), request_id="r", **fields)


_reused("start", lambda w, _: _start(w), lambda w, _: _start(w, input={"item": "coffee"}))
_reused("start_with_labels", lambda w, _: _start(w), lambda w, _: _start(w, labels={"a": "b"}))
_reused("start_with_a_timeout", lambda w, _: _start(w), lambda w, _: _start(w, timeout=Duration(seconds=9)))
_reused(
    "start_of_another", lambda w, _: _start(w), lambda w, _: w.rpc.start("echo", {"item": "tea"}, request_id=w.open)
)
_reused("send", lambda w, id: _note(w, id, 1), lambda w, id: _note(w, id, 2))
_reused("send_to_a_step", lambda w, id: _note(w, id, 1), lambda w, id: _note(w, id, 1, step="note"))
_reused("publish", lambda w, id: _publish(w, id, 1), lambda w, id: _publish(w, id, 2))
_reused("publish_of_what_was_sent", lambda w, id: _note(w, id, 1), lambda w, id: _publish(w, id, 1))
_reused("set", lambda w, id: _set(w, id, "a", 1, request_id="r"), lambda w, id: _set(w, id, "a", 2, request_id="r"))
_reused("unset", lambda w, id: _unset(w, id, "item"), lambda w, id: _unset(w, id, "count"))
_reused("replace", lambda w, id: _replace(w, id, {"a": 1}), lambda w, id: _replace(w, id, {"a": 2}))
_reused("set_of_what_was_sent", lambda w, id: _note(w, id, 1), lambda w, id: _set(w, id, "a", 1, request_id="r"))


@case("REQUEST_ID_REUSED")
async def reused_request_id_in_a_conversation(w: World) -> Refusal:
    run = await w.rpc.asking("other")
    call = w.rpc.converse()
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run.run_id)))
    results: list[runs.ConverseSendResult] = []
    for n in (1, 2):
        send = runs.ConverseSend(request_id="r", event=event("Note", n=n))
        await call.write(runs.ConverseRequest(send=send))
    async for frame in call:
        if frame.WhichOneof("frame") == "send_result":
            results.append(frame.send_result)
            if len(results) == 2:
                break
    call.cancel()
    good, bad = sorted(results, key=lambda result: result.WhichOneof("result"), reverse=True)
    assert good.sequence > 0
    return refusal_of_status(bad.error)


# -- limits -------------------------------------------------------------------------------------------------------


def _too_deep(name: str, call: Callable[[World, types.Payload], Awaitable[Any]]) -> None:
    async def attempt(w: World) -> Refusal:
        refusal = await refused(call(w, raw(_nested(101))))
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


# -- the server ---------------------------------------------------------------------------------------------------


@case("INTERNAL")
async def unexpected_error(w: World) -> Refusal:
    manager = w.rpc.manager
    find = manager.find

    async def broken(key: object) -> None:
        raise RuntimeError(SECRET)

    manager.find = broken  # type: ignore[method-assign]
    try:
        refusal = await refused(w.rpc.get(w.open))
    finally:
        manager.find = find  # type: ignore[method-assign]
    assert refusal.message == "Internal error"
    assert len(refusal.facts["reference_id"]) == 16
    return refusal


def _failing(w: World, error: Exception) -> Callable[[], None]:
    """Have every commit fail; return what heals the store."""
    store: Any = w.rpc.store
    commit = store.commit

    def fail(found: Commit) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        return future

    def heal() -> None:
        store.commit = commit

    store.commit = fail
    return heal


@case("STORE_UNAVAILABLE")
async def commit_that_fails(w: World) -> Refusal:
    heal = _failing(w, StoreUnavailableError(SECRET))
    started = await refused(w.rpc.start("ask", {"item": "tea"}, request_id="again"))
    assert started.reason == "STORE_UNAVAILABLE"
    refusal = await refused(w.rpc.send(w.open, event("Note", n=1)))
    heal()
    assert (await w.rpc.start("ask", {"item": "tea"}, request_id="again")).run_id
    return refusal


@case("LIMIT_EXCEEDED")
async def disk_that_is_full(w: World) -> Refusal:
    heal = _failing(w, StoreUnavailableError(SECRET, full=True))
    refusal = await refused(w.rpc.send(w.open, event("Note", n=1)))
    heal()
    assert refusal.retry_after is not None
    assert refusal.retry_after > 0
    return refusal


@case("DATA_DAMAGED")
async def log_that_cannot_be_read(w: World) -> Refusal:
    store: Any = w.rpc.store
    entries = store.entries

    async def damaged(*_: object) -> None:
        raise StoreCorruptError("a chunk of a log cannot be read")

    store.entries = damaged
    try:
        return await refused(w.rpc.stream(w.ended).read())
    finally:
        store.entries = entries


ELSEWHERE = {
    "RUN_BLOCKED": "test_a_blocked_run_takes_nothing_and_says_so",
    "DRAINING": "test_a_draining_server_starts_nothing",
    "UNAUTHENTICATED": "security/test_access.py",
    "PERMISSION_DENIED": "security/test_access.py",
}
"""Reasons that need another server than the cases share."""


async def _attempt(name: str, world: World) -> None:
    found = CASES[name]
    refusal = await found.attempt(world)
    assert refusal.reason == found.reason
    assert refusal.code == CODES[found.reason]
    assert refusal.message
    assert set(refusal.fields) == set(found.fields)
    assert all(refusal.fields.values())


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CASES)
async def test_refusal_of(name: str, world: World) -> None:
    await _attempt(name, world)


def test_every_reason_of_the_table_has_a_case() -> None:
    produced = {found.reason for found in CASES.values()}
    assert not produced & set(ELSEWHERE)
    assert produced | set(ELSEWHERE) == set(CODES)


async def test_a_draining_server_starts_nothing() -> None:
    async with serving() as rpc:
        run = await rpc.asking()
        await rpc.manager.drain(0.0)
        refusal = await refused(rpc.start("ask", {"item": "tea"}))
        assert (refusal.reason, refusal.code) == ("DRAINING", grpc.StatusCode.UNAVAILABLE)
        assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_WAITING


async def test_a_blocked_run_takes_nothing_and_says_so(tmp_path: Any) -> None:
    async with serving(data=str(tmp_path)) as rpc:
        run_id = (await rpc.asking()).run_id
    async with serving(registry_of(ask=AskAgain), str(tmp_path)) as rpc:
        w = World(rpc, run_id, "")
        for call in (
            rpc.send(run_id, event("Answer", order="7", yes=True)),
            _publish(w, run_id, 1),
            _set(w, run_id, "a", SECRET),
            rpc.states.GetState(states.GetStateRequest(run_id=run_id)),
            rpc.runs.WaitForEvent(
                runs.WaitForEventRequest(
                    run_id=run_id, event_type="Note", waiter_event=event("Question", text="anyone?")
                )
            ),
        ):
            assert (await refused(call)).reason == "RUN_BLOCKED"
    async with serving(data=str(tmp_path)) as rpc:
        assert (await rpc.answer(run_id)).status == types.RUN_STATUS_COMPLETED


async def test_a_message_far_beyond_the_limit_is_refused_by_grpc_itself(rpc: Rpc) -> None:
    """It never reaches this code, so it has no details; the code is the same."""
    request = runs.StartRunRequest(workflow="ask", input=types.Payload(json=b" " * (20 * MIB)))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await rpc.runs.StartRun(request)
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await rpc.start("count", {"n": 1}, wait=Duration(seconds=20))).status == types.RUN_STATUS_COMPLETED


async def test_a_method_that_is_not_there_is_unimplemented(rpc: Rpc) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await rpc.channel.unary_unary("/stepwire.v1.RunService/Nothing")(b"")
    assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_long_list_of_violations_stays_below_8_kilobytes(rpc: Rpc) -> None:
    shop = await rpc.start("shop", {})
    lines = [{"name": n, "price": "x" * 50} for n in range(500)]
    request = states.ReplaceStateRequest(run_id=shop.run_id, value=payload({"lines": lines}))
    refusal = await refused(rpc.states.ReplaceState(request))
    assert refusal.reason == "INVALID_STATE"
    assert "lines.0.name" in refusal.fields
