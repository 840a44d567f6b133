"""Requests that are wrong in themselves."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from tests.integration.refusals.table import (
    World,
    attach,
    case,
    set_state,
    start_from_run,
)
from tests.integration.rpc_flows import SECRET
from tests.integration.rpc_serving import (
    Refusal,
    event,
    payload,
    refused,
)

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import workflow_service_pb2 as workflows


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
