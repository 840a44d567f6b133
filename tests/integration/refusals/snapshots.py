"""Snapshots, page tokens and cursors that are not what this server gave."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.integration.refusals.table import (
    World,
    attach,
    case,
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
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows

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
    return await refused(start_from_run(w, w.ended, 0, input=payload({"item": "tea"})))


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

    async def conversation(w: World) -> Refusal:
        return checked(await refused(attach(w, run_id=w.open, after_sequence=after)))

    async def snapshot(w: World) -> Refusal:
        request = snapshots.GetSnapshotRequest(run_id=w.open, sequence=after)
        return checked(await refused(w.rpc.snapshots.GetSnapshot(request)))

    async def wait(w: World) -> Refusal:
        request = runs.WaitForEventRequest(
            run_id=w.open, event_type="Note", after_sequence=after, waiter_event=event("Question", text="?")
        )
        return checked(await refused(w.rpc.runs.WaitForEvent(request)))

    async def fork(w: World) -> Refusal:
        return checked(await refused(start_from_run(w, w.open, after)))

    for attempt in (stream, conversation, snapshot, wait, fork):
        attempt.__name__ = f"{attempt.__name__}_{name}"
        case("SEQUENCE_OUT_OF_RANGE")(attempt)


_range(1_000_000, "beyond_the_log")
_range(-1, "before_the_log")
