"""Requests for what is not there, and requests that are wrong in themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from tests.integration.refusals.table import (
    World,
    attach,
    case,
    number_value,
    set_state,
    start_from_run,
)
from tests.integration.rpc_flows import SECRET
from tests.integration.rpc_serving import (
    JSON,
    Refusal,
    event,
    payload,
    plain,
    raw,
    refused,
)

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows

# -- what is not there --------------------------------------------------------------------------------------------


@case("WORKFLOW_NOT_FOUND")
async def start_of_an_unknown_workflow(w: World) -> Refusal:
    return await refused(w.rpc.start("nothing", {}))


@case("WORKFLOW_NOT_FOUND")
async def pause_of_an_unknown_workflow(w: World) -> Refusal:
    return await refused(w.rpc.workflows.PauseWorkflow(workflows.PauseWorkflowRequest(name="nothing")))


@case("WORKFLOW_NOT_FOUND")
async def resume_of_an_unknown_workflow(w: World) -> Refusal:
    return await refused(w.rpc.workflows.ResumeWorkflow(workflows.ResumeWorkflowRequest(name="nothing")))


@case("INVALID_REQUEST", "reason")
async def pause_with_too_long_a_reason(w: World) -> Refusal:
    return await refused(w.rpc.runs.PauseRun(runs.PauseRunRequest(run_id=w.open, reason="x" * 1001)))


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
_by_run_id(lambda w, id: w.rpc.runs.ReloadRun(runs.ReloadRunRequest(run_id=id)), "reload")
_by_run_id(lambda w, id: w.rpc.runs.RetryRun(runs.RetryRunRequest(run_id=id)), "retry")
_by_run_id(lambda w, id: w.rpc.runs.PauseRun(runs.PauseRunRequest(run_id=id)), "pause")
_by_run_id(lambda w, id: w.rpc.runs.ResumeRun(runs.ResumeRunRequest(run_id=id)), "resume")
_by_run_id(lambda w, id: w.rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=id)), "delete")
_by_run_id(lambda w, id: w.rpc.send(id, event("Note", n=1)), "send")
_by_run_id(
    lambda w, id: w.rpc.runs.PublishEvent(runs.PublishEventRequest(run_id=id, event=event("Note", n=1))), "publish"
)
_by_run_id(lambda w, id: w.rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=id, event_type="Note")), "wait_for")
_by_run_id(lambda w, id: w.rpc.stream(id).read(), "stream")
_by_run_id(lambda w, id: attach(w, run_id=id), "attach")
_by_run_id(lambda w, id: w.rpc.states.GetState(states.GetStateRequest(run_id=id)), "get_state")
_by_run_id(lambda w, id: set_state(w, id, "a", 1), "set_state")
_by_run_id(lambda w, id: w.rpc.states.UnsetState(states.UnsetStateRequest(run_id=id, paths=["a"])), "unset_state")
_by_run_id(lambda w, id: w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=id, value=payload({}))), "replace")
_by_run_id(lambda w, id: w.rpc.snapshots.GetSnapshot(snapshots.GetSnapshotRequest(run_id=id)), "snapshot")
_by_run_id(lambda w, id: w.rpc.snapshots.ListSnapshots(snapshots.ListSnapshotsRequest(run_id=id)), "list_snapshots")
_by_run_id(lambda w, id: start_from_run(w, id, 0), "fork")


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
    return await refused(set_state(w, w.open, "a", 1, request_id="x" * 129))


@case("INVALID_REQUEST", "max_unacked")
async def negative_window(w: World) -> Refusal:
    return await refused(attach(w, run_id=w.open, max_unacked=-1))


@case("INVALID_REQUEST", "values")
async def set_of_nothing(w: World) -> Refusal:
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open)))


@case("INVALID_REQUEST", "paths")
async def unset_of_too_much(w: World) -> Refusal:
    request = states.UnsetStateRequest(run_id=w.open, paths=["a"] * 1001)
    return await refused(w.rpc.states.UnsetState(request))


@case("INVALID_REQUEST", "input")
async def going_on_from_a_living_run_with_an_input(w: World) -> Refusal:
    return await refused(start_from_run(w, w.open, 0, input=payload({"item": "tea"})))


@case("INVALID_REQUEST", "input")
async def starting_anew_without_an_input(w: World) -> Refusal:
    done = await w.rpc.asking("old")
    await w.rpc.answer(done.run_id)
    return await refused(start_from_run(w, done.run_id, 0))


@case("INVALID_REQUEST")
async def requirements_that_are_no_object(w: World) -> Refusal:
    request = runs.WaitForEventRequest(run_id=w.open, event_type="Note", requirements=payload([SECRET]))
    return await refused(w.rpc.runs.WaitForEvent(request))


def _input(data: types.Payload, *fields: str, name: str, reason: str = "INVALID_INPUT") -> None:
    async def attempt(w: World) -> Refusal:
        return await refused(w.rpc.runs.StartRun(runs.StartRunRequest(workflow="ask", input=data)))

    attempt.__name__ = f"input_{name}"
    case(reason, *fields)(attempt)


def _unset_value() -> types.Payload:
    message = types.Payload()
    message.value.struct_value.fields["item"].SetInParent()
    return message


_input(payload({"item": 5, "count": SECRET}), "item", "count", name="of_wrong_types")
_input(payload({}), "item", name="with_a_field_missing")
_input(payload([SECRET]), name="that_is_a_list")
_input(raw(b'{"item": "' + SECRET.encode()), name="that_is_cut_off")
_input(raw(b'{"item": "\xff\xfe"}'), name="that_is_not_utf8")
_input(raw(b""), "item", name="of_no_bytes")
_input(raw(b'{"item": "tea", "count": NaN}'), name="with_nan_as_json")
_input(raw(b'{"item": "tea", "count": -Infinity}'), name="with_an_infinity_as_json")
_input(raw(b'{"item": "tea", "n": 1e999}'), "n", name="with_a_number_beyond_floats")
_input(number_value(float("nan")), name="with_nan_as_value")
_input(number_value(float("inf")), name="with_an_infinity_as_value")
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
    sent = types.Event(type="Note", payload=types.Payload(value=number_value(float("nan")).value))
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


@case("INTERNAL_EVENT")
async def event_that_only_steps_send(w: World) -> Refusal:
    refusal = await refused(w.rpc.send(w.open, event("Ledger", x=SECRET)))
    assert refusal.facts == {"workflow": "ask", "type": "Ledger"}
    return refusal


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
        return await refused(set_state(w, w.open, path, SECRET))

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
    return await refused(set_state(w, w.open, "", {}))


@case("INVALID_PATH", "path")
async def write_below_a_text(w: World) -> Refusal:
    return await refused(set_state(w, w.open, "item.deeper", 1))


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
    values = [states.PathValue(path="a", value=number_value(float("nan")))]
    return await refused(w.rpc.states.SetState(states.SetStateRequest(run_id=w.open, values=values)))


@case("INVALID_STATE", "limit")
async def set_that_the_state_does_not_take(w: World) -> Refusal:
    shop = await w.rpc.start("shop", {})
    await w.rpc.status(shop.run_id, "WAITING")
    refusal = await refused(set_state(w, shop.run_id, "limit", -1))
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
