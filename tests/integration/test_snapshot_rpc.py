"""SnapshotService, and starting runs from what it gives."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_flows import Ask, AskAgain
from tests.integration.rpc_serving import JSON, Rpc, event, payload, plain, refused, registry_of, serving

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import Context
from stepwire.workflow.state.serializers import RegistrySerializer

LONG = Duration(seconds=20)


async def get(rpc: Rpc, run_id: str, sequence: int = 0, **fields: Any) -> snapshots.GetSnapshotResponse:
    """Return a snapshot."""
    request = snapshots.GetSnapshotRequest(run_id=run_id, sequence=sequence, **fields)
    answer: snapshots.GetSnapshotResponse = await rpc.snapshots.GetSnapshot(request)
    return answer


async def fork(rpc: Rpc, source: types.ContextSnapshot | types.SnapshotRef, **fields: Any) -> types.Run:
    """Start a run of `ask` from a snapshot."""
    request = runs.StartRunRequest(workflow="ask", encoding=JSON, **fields)
    if isinstance(source, types.SnapshotRef):
        getattr(request, "from").CopyFrom(source)
    else:
        request.snapshot.CopyFrom(source)
    answer: runs.StartRunResponse = await rpc.runs.StartRun(request)
    return answer.run


async def listed(rpc: Rpc, run_id: str) -> list[int]:
    """Return the sequences of the kept snapshots."""
    found = await rpc.snapshots.ListSnapshots(snapshots.ListSnapshotsRequest(run_id=run_id))
    return [info.sequence for info in found.snapshots]


async def test_a_snapshot_is_a_message_with_everything(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    snapshot = (await get(rpc, run.run_id)).snapshot
    assert snapshot.format_version == 1
    assert (snapshot.workflow, snapshot.workflow_version) == ("ask", run.workflow_version)
    assert (snapshot.run_id, snapshot.sequence) == (run.run_id, run.last_sequence)
    assert snapshot.status == types.RUN_STATUS_WAITING
    assert snapshot.state_type == "DictState"
    assert dict(snapshot.state_json) == {"item": b'"tea"', "count": b"1"}
    (delivery,) = snapshot.in_progress
    assert (delivery.step, delivery.event_type, delivery.attempt) == ("ask", "Order", 1)
    assert len(snapshot.waiters) == 1
    assert not snapshot.queued
    assert not snapshot.buffers
    assert len(snapshot.signature) == 32
    assert snapshot.key_id
    assert snapshot.created_at == run.updated_at


async def test_it_comes_as_the_dict_of_the_model_too(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    found = await get(rpc, run.run_id, include_context_dict=True, encoding=JSON)
    view = plain(found.context_dict)
    assert {
        "state", "streaming_queue", "queues", "stepwise", "event_buffers", "in_progress",
        "accepted_events", "broker_log", "is_running",
    } <= set(view)  # fmt: skip
    assert view["is_running"] is True
    assert list(view["state"]["state_data"]["_data"]) == ["item", "count"]
    assert len(view["in_progress"]["ask"]) == 1
    shown = await get(rpc, run.run_id, include_context_dict=True)
    assert json_format.MessageToDict(shown.context_dict.value) == view
    assert not (await get(rpc, run.run_id)).HasField("context_dict")
    served = rpc.server.registry.get("ask")
    assert served is not None
    context: Context[Any] = Context.from_dict(Ask(), view, RegistrySerializer(served.names))
    assert await context.store.get("item") == "tea"


async def test_kept_snapshots_are_listed_newest_first_page_by_page(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    for n in range(3):
        await rpc.send(run.run_id, event("Note", n=n))
    whole = await rpc.snapshots.ListSnapshots(snapshots.ListSnapshotsRequest(run_id=run.run_id))
    sequences = [info.sequence for info in whole.snapshots]
    assert sequences == sorted(set(sequences), reverse=True)
    assert sequences[0] == (await rpc.get(run.run_id)).last_sequence
    assert all(info.size_bytes > 0 for info in whole.snapshots)
    times = [info.created_at.ToNanoseconds() for info in whole.snapshots]
    assert times == sorted(times, reverse=True)
    paged: list[int] = []
    token = ""
    while True:
        page = await rpc.snapshots.ListSnapshots(
            snapshots.ListSnapshotsRequest(run_id=run.run_id, page_size=2, page_token=token)
        )
        paged += [info.sequence for info in page.snapshots]
        token = page.next_page_token
        if not token:
            break
    assert paged == sequences


async def test_every_listed_snapshot_can_be_fetched_as_it_was(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    for n in range(3):
        await rpc.send(run.run_id, event("Note", n=n))
    await rpc.answer(run.run_id)
    sequences = await listed(rpc, run.run_id)
    found = {sequence: (await get(rpc, run.run_id, sequence)).snapshot for sequence in sequences}
    assert [snapshot.sequence for snapshot in found.values()] == sequences
    statuses = [found[sequence].status for sequence in sequences]
    assert statuses[0] == types.RUN_STATUS_COMPLETED
    assert set(statuses[1:]) <= {types.RUN_STATUS_RUNNING, types.RUN_STATUS_WAITING}
    waiting = [snapshot for snapshot in found.values() if snapshot.status == types.RUN_STATUS_WAITING]
    assert waiting
    assert all(snapshot.waiters for snapshot in waiting)
    notes = [snapshot.state_json.get("note") for snapshot in found.values()][::-1]
    kept = [note for note in notes if note is not None]
    assert kept == sorted(kept)
    assert kept[-1] == b"2"


async def test_a_fork_asks_the_same_question_and_shares_nothing(rpc: Rpc) -> None:
    run = await rpc.asking("tea", labels={"a": "b"})
    await rpc.send(run.run_id, event("Note", n=3), request_id="r")
    await rpc.status(run.run_id, "WAITING")
    before = await rpc.get(run.run_id)
    for source in (
        (await get(rpc, run.run_id)).snapshot,
        types.SnapshotRef(run_id=run.run_id),
        types.SnapshotRef(run_id=run.run_id, sequence=before.last_sequence),
    ):
        forked = await fork(rpc, source)
        assert forked.run_id != run.run_id
        assert (forked.forked_from.run_id, forked.forked_from.sequence) == (run.run_id, before.last_sequence)
        assert not forked.labels
        assert [waiter.waiter_id for waiter in forked.pending_waiters] == ["ship"]
        assert forked.status == types.RUN_STATUS_WAITING
        # Its log is its own, from 1, and begins with the open question; idempotency keys are not copied.
        assert forked.last_sequence == 1
        sent = await rpc.send(forked.run_id, event("Note", n=4), request_id="r")
        assert sent.sequence == 2
        assert sent.delivered == 1
        found = await rpc.answer(forked.run_id)
        assert plain(found.outcome.result) == {"yes": True, "note": 4}
        log = await rpc.logged(forked.run_id)
        assert [entry.type for entry in log] == ["Question", "Note", "Pong", "Answer", "StopEvent"]
        whole = await rpc.log(forked.run_id)
        assert [entry.sequence for entry in whole] == list(range(1, len(whole) + 1))
    assert await rpc.get(run.run_id) == before
    found = await rpc.answer(run.run_id)
    assert plain(found.outcome.result) == {"yes": True, "note": 3}


async def test_a_fork_from_the_past_goes_on_from_there(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    past = run.last_sequence
    await rpc.send(run.run_id, event("Note", n=3))
    await rpc.answer(run.run_id)
    forked = await fork(rpc, types.SnapshotRef(run_id=run.run_id, sequence=past))
    assert forked.forked_from.sequence == past
    found = await rpc.answer(forked.run_id, yes=False)
    assert plain(found.outcome.result) == {"yes": False, "note": None}


async def test_a_fork_of_a_run_at_work_takes_its_work_up(rpc: Rpc, gate: Any) -> None:
    run = await rpc.start("hold", {"name": "a"})
    await gate.arrived(1)
    request = runs.StartRunRequest(workflow="hold", encoding=JSON)
    getattr(request, "from").run_id = run.run_id
    forked = (await rpc.runs.StartRun(request)).run
    await gate.arrived(2)
    gate.opened.set()
    for run_id in (run.run_id, forked.run_id):
        assert plain((await rpc.ended(run_id)).outcome.result) == "a"


async def test_an_ended_run_starts_anew_with_its_state(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    await rpc.send(run.run_id, event("Note", n=3))
    await rpc.answer(run.run_id)
    for source in (types.SnapshotRef(run_id=run.run_id), (await get(rpc, run.run_id)).snapshot):
        forked = await fork(rpc, source, input=payload({"item": "coffee"}))
        assert forked.forked_from.run_id == run.run_id
        await rpc.asked(forked.run_id)
        log = await rpc.logged(forked.run_id)
        assert [entry.type for entry in log] == ["Order", "Question"]
        assert log[0].sequence == 1
        found = await rpc.answer(forked.run_id)
        assert plain(found.outcome.result) == {"yes": True, "note": 3}


async def test_a_fork_keeps_what_was_collected_and_typed(rpc: Rpc) -> None:
    run = await rpc.start("shop", {})
    await rpc.status(run.run_id, "WAITING")
    values = [states.PathValue(path="lines", value=payload([{"name": "tea", "price": 3}]))]
    await rpc.states.SetState(states.SetStateRequest(run_id=run.run_id, values=values))
    request = runs.StartRunRequest(workflow="shop", encoding=JSON)
    getattr(request, "from").run_id = run.run_id
    forked = (await rpc.runs.StartRun(request)).run
    await rpc.send(forked.run_id, event("HumanResponseEvent"))
    assert plain((await rpc.ended(forked.run_id)).outcome.result) == {"total": 3, "lines": ["tea"]}


async def test_a_snapshot_goes_to_another_server_with_the_same_key(tmp_path: Any) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with serving(data=str(first)) as rpc:
        run = await rpc.asking("tea")
        snapshot = (await get(rpc, run.run_id)).snapshot
    second.mkdir()
    (second / "snapshot.key").write_bytes((first / "snapshot.key").read_bytes())
    async with serving(data=str(second)) as rpc:
        forked = await fork(rpc, snapshot, run_id=run.run_id)
        assert forked.run_id == run.run_id
        assert (await rpc.answer(forked.run_id)).status == types.RUN_STATUS_COMPLETED
    async with serving() as rpc:
        assert (await refused(fork(rpc, snapshot))).reason == "INVALID_SNAPSHOT"


async def test_a_fork_survives_a_restart(tmp_path: Any) -> None:
    async with serving(data=str(tmp_path)) as rpc:
        run = await rpc.asking("tea")
        forked = await fork(rpc, types.SnapshotRef(run_id=run.run_id), request_id="once")
    async with serving(data=str(tmp_path)) as rpc:
        again = await fork(rpc, types.SnapshotRef(run_id=run.run_id), request_id="once")
        assert again.run_id == forked.run_id
        assert again.forked_from.run_id == run.run_id
        assert (await rpc.answer(forked.run_id)).status == types.RUN_STATUS_COMPLETED


@pytest.mark.parametrize("context_dict", [False, True])
async def test_snapshots_under_code_that_does_not_fit(tmp_path: Any, context_dict: bool) -> None:
    async with serving(data=str(tmp_path)) as rpc:
        run = await rpc.asking("tea")
    for registry, reason in ((registry_of(ask=AskAgain), "RUN_BLOCKED"), (registry_of(), "WORKFLOW_NOT_FOUND")):
        async with serving(registry, str(tmp_path)) as rpc:
            if context_dict:
                assert (await refused(get(rpc, run.run_id, include_context_dict=True))).reason == reason
            else:
                assert (await get(rpc, run.run_id)).snapshot.state_json["item"] == b'"tea"'
    async with serving(registry_of(ask=AskAgain), str(tmp_path)) as rpc:
        assert (await refused(fork(rpc, types.SnapshotRef(run_id=run.run_id)))).reason == "INVALID_SNAPSHOT"
