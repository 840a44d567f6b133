"""Unary calls over the wire: what is sent, what is repeated, what is raised."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from pydantic import BaseModel
from tests.unit.client.fake import FakeServer, Fault, forever, outcome, unavailable

from stepwire import client as api
from stepwire.client import Client
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2
from stepwire.v1 import workflow_service_pb2 as workflows


class Start(BaseModel):
    topic: str
    when: datetime


STARTED = runs.StartRunResponse(run=types_pb2.Run(run_id="r1", workflow="flow"))


async def test_start_run_sends_fields_as_json(client: Client, server: FakeServer) -> None:
    server.answers("StartRun", STARTED)
    when = datetime(2025, 1, 2, tzinfo=UTC)
    run = await client.start_run("flow", run_id="r1", labels={"a": "b"}, timeout=1.5, when=when, raw=b"\xff", n=2**60)
    assert run.run_id == "r1"
    [request] = server.seen["StartRun"]
    assert request.input.json == b'{"when":"2025-01-02T00:00:00Z","raw":"_w==","n":1152921504606846976}'
    assert (request.workflow, request.run_id, dict(request.labels)) == ("flow", "r1", {"a": "b"})
    assert request.timeout.ToTimedelta().total_seconds() == 1.5
    assert request.run_id_conflict_policy == runs.RUN_ID_CONFLICT_POLICY_FAIL
    assert request.encoding == types_pb2.PAYLOAD_ENCODING_JSON
    assert len(request.request_id) == 32
    assert 0 < server.left["StartRun"][0] <= 60


async def test_start_run_takes_a_model_at_any_place(client: Client, server: FakeServer) -> None:
    server.answers("StartRun", STARTED)
    model = Start(topic="x", when=datetime(2025, 1, 2, tzinfo=UTC))
    await client.start_run("flow", model)
    await client.start_run("flow", start_event=model, on_conflict="use_existing")
    await client.start_run("flow", {"topic": "x"})
    first, second, third = server.seen["StartRun"]
    assert first.input == second.input
    assert first.input.json == b'{"topic":"x","when":"2025-01-02T00:00:00Z"}'
    assert second.run_id_conflict_policy == runs.RUN_ID_CONFLICT_POLICY_USE_EXISTING
    assert third.input.json == b'{"topic":"x"}'
    with pytest.raises(ValueError, match="not both"):
        await client.start_run("flow", model, topic="y")


async def test_start_run_from_snapshot_or_run(client: Client, server: FakeServer) -> None:
    server.answers("StartRun", STARTED)
    message = types_pb2.ContextSnapshot(run_id="old", sequence=7, signature=b"s")
    server.answers("GetSnapshot", snapshots.GetSnapshotResponse(snapshot=message))
    snapshot = await client.run("old").snapshot()
    await client.start_run("flow", snapshot=api.Snapshot.parse(bytes(snapshot)))
    await client.start_run("flow", from_run="old")
    await client.start_run("flow", from_run=("old", 3))
    first, second, third = server.seen["StartRun"]
    assert first.snapshot == message
    assert not first.HasField("input")
    assert getattr(second, "from") == types_pb2.SnapshotRef(run_id="old")
    assert getattr(third, "from") == types_pb2.SnapshotRef(run_id="old", sequence=3)
    with pytest.raises(ValueError, match="not both"):
        await client.start_run("flow", snapshot=snapshot, from_run="old")


async def test_a_repeat_has_the_same_request_id(client: Client, server: FakeServer) -> None:
    server.answers("StartRun", unavailable(), unavailable(), STARTED)
    await client.start_run("flow")
    requests = server.seen["StartRun"]
    assert len(requests) == 3
    assert requests[0] == requests[1] == requests[2]
    await client.start_run("flow")
    assert server.seen["StartRun"][3].request_id != requests[0].request_id


@pytest.mark.parametrize("method", ["SendEvent", "PublishEvent"])
async def test_sends_are_repeated(client: Client, server: FakeServer, method: str) -> None:
    server.answers("SendEvent", unavailable(), runs.SendEventResponse(sequence=4, delivered=2))
    server.answers("PublishEvent", unavailable(), runs.PublishEventResponse(sequence=5))
    context = client.run("r1").context
    if method == "SendEvent":
        assert await context.send_event(("Tick", {"n": 1}), step="a") == api.SendResult(4, 2)
        assert server.seen[method][0].step == "a"
    else:
        assert await context.write_event_to_stream(api.GenericEvent("Tick", n=1)) == 5
    first, second = server.seen[method]
    assert first == second
    assert first.event == types_pb2.Event(type="Tick", payload=types_pb2.Payload(json=b'{"n":1}'))


async def test_what_is_not_safe_is_not_repeated(client: Client, server: FakeServer) -> None:
    server.answers("DeleteRun", unavailable(), runs.DeleteRunResponse())
    with pytest.raises(api.UnavailableError):
        await client.run("r1").delete()
    assert len(server.seen["DeleteRun"]) == 1


async def test_a_cancel_is_repeated_because_a_second_one_changes_nothing(client: Client, server: FakeServer) -> None:
    server.answers("CancelRun", unavailable(), runs.CancelRunResponse())
    await client.run("r1").cancel("why")
    assert [request.reason for request in server.seen["CancelRun"]] == ["why", "why"]


async def test_other_errors_are_not_repeated(client: Client, server: FakeServer) -> None:
    server.answers("GetRun", Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY"))
    with pytest.raises(api.ResourceExhaustedError):
        await client.get_run("r1")
    assert len(server.seen["GetRun"]) == 1


async def test_a_call_that_a_stopping_server_cut_is_repeated(client: Client, server: FakeServer) -> None:
    server.answers("SendEvent", Fault(grpc.StatusCode.CANCELLED), runs.SendEventResponse(sequence=4, delivered=2))
    assert await client.run("r1").context.send_event(("Tick", {"n": 1})) == api.SendResult(4, 2)
    requests = server.seen["SendEvent"]
    assert len(requests) == 2
    assert requests[0] == requests[1]


async def test_retry_info_is_honoured(client: Client, server: FakeServer) -> None:
    server.answers("GetRun", unavailable(retry_after=0.5), runs.GetRunResponse())
    begin = time.monotonic()
    await client.get_run("r1")
    assert time.monotonic() - begin >= 0.5


async def test_repeats_end_with_the_timeout(server: FakeServer) -> None:
    server.answers("GetRun", unavailable(retry_after=60))
    async with Client(server.address, timeout=25) as client:
        begin = time.monotonic()
        with pytest.raises(api.UnavailableError) as caught:
            await client.get_run("r1")
        assert time.monotonic() - begin < 25
    assert caught.value.retry_after == 60
    assert len(server.seen["GetRun"]) == 1


async def test_an_answer_that_is_larger_than_a_given_channel_takes(server: FakeServer) -> None:
    server.answers("GetState", states.GetStateResponse(value=types_pb2.Payload(json=b'"' + b"x" * 1000 + b'"')))
    async with grpc.aio.insecure_channel(server.address, [("grpc.max_receive_message_length", 100)]) as channel:
        store = Client(server.address, channel=channel).run("r").context.store
        with pytest.raises(api.ResourceExhaustedError, match=r"grpc\.max_receive_message_length"):
            await store.get("")
    assert len(server.seen["GetState"]) == 1
    async with Client(server.address) as client:
        assert len(await client.run("r").context.store.get("")) == 1000


async def test_no_server_is_unavailable() -> None:
    async with Client("127.0.0.1:1", timeout=2.0) as client:
        with pytest.raises(api.UnavailableError):
            await client.get_run("r1")


async def test_the_deadline_is_a_timeout_error(server: FakeServer) -> None:
    server.on("GetRun", lambda _: forever())
    async with Client(server.address, timeout=0.2) as client:
        with pytest.raises(TimeoutError) as caught:
            await client.get_run("r1")
    assert isinstance(caught.value, api.DeadlineError)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def late(address: str, call: Any) -> api.DeadlineError:
    """Return the error of a call that a server takes and never answers."""
    async with Client(address, timeout=0.2) as client:
        with pytest.raises(api.DeadlineError) as caught:
            await call(client)
    return caught.value


async def test_a_read_that_got_no_answer_says_of_whom_and_for_how_long(server: FakeServer) -> None:
    server.on("GetRun", lambda _: forever())
    error = await late(server.address, lambda client: client.get_run("r1"))
    assert error.message == f"GetRun got no answer from {server.address} within 0.2 s"
    assert error.advice == ""
    assert str(error) == error.message


async def test_a_write_that_got_no_answer_says_how_to_repeat_it(server: FakeServer) -> None:
    for method in ("SendEvent", "CancelRun", "DeleteRun"):
        server.on(method, lambda _: forever())
    about = f" got no answer from {server.address} within 0.2 s; whether it took effect is unknown"
    error = await late(server.address, lambda client: client.run("r1").context.send_event(("Tick", {})))
    assert error.message == f"SendEvent{about}"
    [request] = server.seen["SendEvent"]
    assert error.advice == f"repeat it with request_id='{request.request_id}': it takes effect once"
    assert str(error) == f"{error.message}: {error.advice}"
    error = await late(server.address, lambda client: client.run("r1").cancel())
    assert str(error) == f"CancelRun{about}: repeat it: a second one changes nothing"
    error = await late(server.address, lambda client: client.run("r1").delete())
    assert str(error) == f"DeleteRun{about}: look at what is there before you repeat it"


async def test_a_write_whose_connection_was_cut_says_that_its_outcome_is_unknown(server: FakeServer) -> None:
    server.answers("DeleteRun", Fault(grpc.StatusCode.UNAVAILABLE))
    async with Client(server.address) as client:
        with pytest.raises(api.UnavailableError, match="whether it took effect is unknown"):
            await client.run("r1").delete()


async def test_what_was_not_sent_and_what_the_server_refused_are_told_as_they_are(server: FakeServer) -> None:
    server.answers("DeleteRun", Fault(grpc.StatusCode.UNAVAILABLE, "DRAINING"))
    async with Client(server.address) as client:
        with pytest.raises(api.UnavailableError) as caught:
            await client.run("r1").delete()
        assert "unknown" not in str(caught.value)
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(api.UnavailableError, match="cannot connect") as caught:
            await client.run("r1").delete()
        assert "unknown" not in str(caught.value)


async def test_a_caller_may_repeat_each_write_under_its_own_request_id(client: Client, server: FakeServer) -> None:
    server.answers("SendEvent", runs.SendEventResponse(sequence=4, delivered=2))
    server.answers("PublishEvent", runs.PublishEventResponse(sequence=5))
    for method in ("SetState", "UnsetState", "ReplaceState"):
        server.answers(method, getattr(states, f"{method}Response")(etag="v1"))
    context = client.run("r1").context
    await context.send_event(("Tick", {}), request_id="mine")
    await context.write_event_to_stream(("Tick", {}), request_id="mine")
    await context.store.set("a", 1, request_id="mine")
    await context.store.set_many({"a": 1}, request_id="mine")
    await context.store.unset("a", request_id="mine")
    await context.store.set_state({}, request_id="mine")
    seen = {method: [each.request_id for each in requests] for method, requests in server.seen.items()}
    assert seen == {
        "SendEvent": ["mine"],
        "PublishEvent": ["mine"],
        "SetState": ["mine", "mine"],
        "UnsetState": ["mine"],
        "ReplaceState": ["mine"],
    }


async def test_cancellation_goes_through(client: Client, server: FakeServer) -> None:
    reached = asyncio.Event()

    async def script(_: Any) -> None:
        reached.set()
        await forever()

    server.on("GetRun", script)
    task = asyncio.create_task(client.get_run("r1"))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_by_the_server_is_an_error_not_a_cancellation(client: Client, server: FakeServer) -> None:
    server.answers("GetRun", Fault(grpc.StatusCode.CANCELLED, "GONE"))
    with pytest.raises(api.StepwireError) as caught:
        await client.get_run("r1")
    assert caught.value.code is grpc.StatusCode.CANCELLED


async def test_errors_carry_their_details(client: Client, server: FakeServer) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="input.n", description="must be positive")
    server.answers(
        "StartRun",
        Fault(
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_INPUT",
            error_details_pb2.BadRequest(field_violations=[violation]),
            runs.DeleteRunRequest(run_id="of no known kind"),
            reference_id="ref",
        ),
    )
    with pytest.raises(api.InvalidArgumentError) as caught:
        await client.start_run("flow", n=-1)
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert error.message == "message of INVALID_INPUT"
    assert error.field_violations == (api.FieldViolation("input.n", "must be positive"),)
    assert error.reference_id == "ref"
    assert [type(detail).__name__ for detail in error.details] == ["ErrorInfo", "BadRequest", "Any"]
    assert "input.n: must be positive" in str(error)


async def test_the_token_goes_with_every_call(server: FakeServer) -> None:
    server.answers("GetRun", runs.GetRunResponse())
    tokens = iter(["one", "two"])
    async with Client(server.address, token=lambda: next(tokens)) as client:
        await client.get_run("r1")
        await client.get_run("r1")
    assert [sent["authorization"] for sent in server.metadata["GetRun"]] == ["Bearer one", "Bearer two"]


async def test_lists_go_over_all_pages(client: Client, server: FakeServer) -> None:
    server.answers(
        "ListRuns",
        runs.ListRunsResponse(runs=[types_pb2.Run(run_id="a"), types_pb2.Run(run_id="b")], next_page_token="t"),
        unavailable(),
        runs.ListRunsResponse(runs=[types_pb2.Run(run_id="c")]),
    )
    since = datetime(2025, 1, 1, tzinfo=UTC)
    listed = [
        run.run_id
        async for run in client.list_runs(
            workflow="flow", statuses=["failed", api.RunStatus.TIMED_OUT], labels={"k": "v"}, created_after=since
        )
    ]
    assert listed == ["a", "b", "c"]
    first, second, third = server.seen["ListRuns"]
    assert list(first.statuses) == [types_pb2.RUN_STATUS_FAILED, types_pb2.RUN_STATUS_TIMED_OUT]
    assert first.created_after.ToDatetime(UTC) == since
    assert (first.page_token, second.page_token) == ("", "t")
    assert second == third
    with pytest.raises(ValueError, match="time zone"):
        client.list_runs(created_before=datetime(2025, 1, 1))  # noqa: DTZ001 - the fault that is tested


async def test_run_info(client: Client, server: FakeServer) -> None:
    waiter = types_pb2.PendingWaiter(
        waiter_id="w",
        event_type="Answer",
        requirements=types_pb2.Payload(json=b'{"who":"me"}'),
        prompt=types_pb2.Event(type="Ask", payload=types_pb2.Payload(json=b'{"q":"?"}')),
    )
    run = types_pb2.Run(
        run_id="r1",
        status=types_pb2.RUN_STATUS_WAITING,
        pending_waiters=[waiter],
        forked_from=types_pb2.SnapshotRef(run_id="r0", sequence=4),
    )
    run.created_at.FromDatetime(datetime(2025, 1, 1, tzinfo=UTC))
    server.answers("GetRun", runs.GetRunResponse(run=run))
    info = await client.get_run("r1")
    assert info.status is api.RunStatus.WAITING
    assert info.created_at == datetime(2025, 1, 1, tzinfo=UTC)
    assert info.ended_at is None
    assert info.forked_from == ("r0", 4)
    assert not info.ended
    [pending] = info.pending_waiters
    assert (pending.requirements, pending.deadline) == ({"who": "me"}, None)
    assert pending.prompt == api.GenericEvent("Ask", q="?")


async def test_snapshots(client: Client, server: FakeServer) -> None:
    message = types_pb2.ContextSnapshot(run_id="r1", workflow="flow", sequence=7, status=types_pb2.RUN_STATUS_RUNNING)
    payload = types_pb2.Payload(json=b'{"is_running":true}')
    server.answers("GetSnapshot", snapshots.GetSnapshotResponse(snapshot=message, context_dict=payload))
    server.answers(
        "ListSnapshots", snapshots.ListSnapshotsResponse(snapshots=[snapshots.SnapshotInfo(sequence=7, size_bytes=9)])
    )
    run = client.run("r1")
    snapshot = await run.snapshot(7, context_dict=True)
    assert (snapshot.run_id, snapshot.sequence, snapshot.status) == ("r1", 7, api.RunStatus.RUNNING)
    assert snapshot.context_dict == await run.context.to_dict() == {"is_running": True}
    assert [item async for item in run.snapshots()] == [api.SnapshotInfo(7, None, 9)]
    first, second = server.seen["GetSnapshot"]
    assert (first.sequence, first.include_context_dict) == (7, True)
    assert (second.sequence, second.include_context_dict) == (0, True)


async def test_workflows(client: Client, server: FakeServer) -> None:
    server.answers(
        "ListWorkflows",
        workflows.ListWorkflowsResponse(workflows=[workflows.WorkflowSummary(name="flow", version="1")]),
    )
    answer = workflows.WorkflowType(
        name="Answer",
        sendable=True,
        is_event=True,
        role=types_pb2.EVENT_ROLE_HUMAN_RESPONSE,
        json_schema='{"type":"object"}',
    )
    flow = workflows.Workflow(
        name="flow",
        steps=[workflows.WorkflowStep(name="a", accepts=["StartEvent"], num_workers=4)],
        types=[answer],
        edges=[workflows.WorkflowEdge(source="a", event_type="StopEvent")],
    )
    server.answers("GetWorkflow", workflows.GetWorkflowResponse(workflow=flow))
    assert [item async for item in client.workflows()] == [api.WorkflowSummary("flow", "1", "")]
    info = await client.workflow("flow")
    assert info.steps == (api.WorkflowStep("a", ("StartEvent",), (), 4, ""),)
    assert info.types == (api.WorkflowType("Answer", api.EventRole.HUMAN_RESPONSE, True, True, {"type": "object"}),)
    assert info.edges == (api.WorkflowEdge("a", "StopEvent", ""),)
    assert info.timeout is None


async def test_cancel_answers_the_run(client: Client, server: FakeServer) -> None:
    run = types_pb2.Run(run_id="r1", status=types_pb2.RUN_STATUS_CANCELLED, outcome=outcome("CANCELLED", reason="why"))
    server.answers("CancelRun", runs.CancelRunResponse(run=run))
    info = await client.run("r1").cancel("why")
    assert info.ended
    assert info.outcome is not None
    assert (info.outcome.status, info.outcome.reason) == (api.RunStatus.CANCELLED, "why")


async def test_a_closed_client_says_so(server: FakeServer) -> None:
    client = Client(server.address)
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.get_run("r1")
