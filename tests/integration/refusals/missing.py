"""Requests for what is not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration
from tests.integration.refusals.table import (
    World,
    attach,
    case,
    set_state,
    start_from_run,
)
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
