"""RunService: lists of runs, and runs that queue behind others."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.rpc_flows import Ask, Gate, Hold
from tests.integration.rpc_serving import (
    JSON,
    VALUE,
    Rpc,
    event,
    plain,
    registry_of,
    serving,
)

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

LONG = Duration(seconds=20)


async def test_runs_are_listed_newest_first_page_by_page(rpc: Rpc) -> None:
    started = [(await rpc.start("count", {"n": 1}, wait=LONG)).run_id for _ in range(7)]
    whole = await rpc.listed()
    assert [run.run_id for run in whole] == started[::-1]
    found: list[types.Run] = []
    token = ""
    sizes = []
    while True:
        page = await rpc.runs.ListRuns(runs.ListRunsRequest(page_size=3, page_token=token, encoding=JSON))
        found += page.runs
        sizes.append(len(page.runs))
        token = page.next_page_token
        if not token:
            break
        # What is started meanwhile belongs to no later page.
        await rpc.start("count", {"n": 1}, wait=LONG)
    assert sizes == [3, 3, 1]
    assert found == whole


async def test_all_filters_that_are_set_must_hold(rpc: Rpc) -> None:
    async def ids(**fields: Any) -> set[str]:
        return {names[run.run_id] for run in await rpc.listed(**fields)}

    names: dict[str, str] = {}
    times: dict[str, Timestamp] = {}
    for name, workflow, labels in (
        ("a", "count", {"who": "ann", "where": "x"}),
        ("b", "count", {"who": "bob", "where": "x"}),
        ("c", "echo", {"who": "ann", "where": "y"}),
    ):
        run = await rpc.start(workflow, {}, labels=labels, wait=LONG)
        names[run.run_id], times[name] = name, run.created_at
    waiting = await rpc.asking("tea", labels={"who": "ann"})
    names[waiting.run_id], times["d"] = "d", waiting.created_at

    assert await ids() == {"a", "b", "c", "d"}
    assert await ids(workflow="count") == {"a", "b"}
    assert await ids(workflow="nothing") == set()
    assert await ids(labels={"who": "ann"}) == {"a", "c", "d"}
    assert await ids(labels={"who": "ann", "where": "x"}) == {"a"}
    assert await ids(statuses=[types.RUN_STATUS_COMPLETED]) == {"a", "b", "c"}
    assert await ids(statuses=[types.RUN_STATUS_WAITING, types.RUN_STATUS_FAILED]) == {"d"}
    assert await ids(statuses=[types.RUN_STATUS_UNSPECIFIED]) == {"a", "b", "c", "d"}
    assert await ids(created_after=times["b"]) == {"b", "c", "d"}
    assert await ids(created_before=times["b"]) == {"a"}
    assert await ids(created_after=times["b"], created_before=times["d"]) == {"b", "c"}
    assert await ids(workflow="count", labels={"where": "x"}, created_after=times["b"]) == {"b"}


async def test_pages_keep_their_filter(rpc: Rpc) -> None:
    for n in range(4):
        await rpc.start("count", {"n": 1}, labels={"odd": str(n % 2)}, wait=LONG)
    first = await rpc.runs.ListRuns(runs.ListRunsRequest(page_size=1, labels={"odd": "1"}))
    second = await rpc.runs.ListRuns(
        runs.ListRunsRequest(page_size=1, labels={"odd": "1"}, page_token=first.next_page_token)
    )
    assert {run.labels["odd"] for run in (*first.runs, *second.runs)} == {"1"}
    assert first.runs != second.runs
    assert second.next_page_token == ""


async def test_a_list_shows_outcomes_in_the_encoding_asked_for(rpc: Rpc) -> None:
    await rpc.start("count", {"n": 1}, wait=LONG)
    full = runs.ListRunsRequest(encoding=VALUE, view=runs.RUN_VIEW_FULL)
    (run,) = (await rpc.runs.ListRuns(full)).runs
    assert run.outcome.result.value.number_value == 1
    assert not run.partial
    for view in (runs.RUN_VIEW_UNSPECIFIED, runs.RUN_VIEW_BASIC):
        (run,) = (await rpc.runs.ListRuns(runs.ListRunsRequest(encoding=VALUE, view=view))).runs
        assert run.outcome.event_type == "StopEvent"
        assert run.outcome.result.WhichOneof("encoding") is None
        assert run.partial
    (run,) = await rpc.listed(view=runs.RUN_VIEW_FULL)
    assert run.outcome.result.json == b"1"


async def test_runs_beyond_num_concurrent_runs_queue_in_order(gate: Gate) -> None:
    async with serving(registry_of(hold=Hold(gate, num_concurrent_runs=2, timeout=None))) as rpc:
        started = [await rpc.start("hold", {"name": str(n)}) for n in range(5)]
        await gate.arrived(2)
        statuses = [(await rpc.get(run.run_id)).status for run in started]
        assert statuses == [types.RUN_STATUS_RUNNING] * 2 + [types.RUN_STATUS_QUEUED] * 3
        assert [run.run_id for run in await rpc.listed(statuses=[types.RUN_STATUS_QUEUED])] == [
            run.run_id for run in started[:1:-1]
        ]
        assert gate.entered == ["0", "1"]

        # One that is cancelled while it is queued ends at once, and never runs.
        request = runs.CancelRunRequest(run_id=started[2].run_id, reason="too slow", encoding=JSON)
        found = (await rpc.runs.CancelRun(request)).run
        assert (found.status, found.outcome.reason) == (types.RUN_STATUS_CANCELLED, "too slow")
        # One that ends lets the next one go.
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=started[0].run_id))
        await gate.arrived(3)
        assert gate.entered == ["0", "1", "3"]
        gate.opened.set()
        ended = [await rpc.ended(run.run_id) for run in started]
        assert [run.status for run in ended] == [
            types.RUN_STATUS_CANCELLED,
            types.RUN_STATUS_COMPLETED,
            types.RUN_STATUS_CANCELLED,
            types.RUN_STATUS_COMPLETED,
            types.RUN_STATUS_COMPLETED,
        ]
        assert gate.entered == ["0", "1", "3", "4"]


async def test_the_queue_survives_a_restart(tmp_path: Any) -> None:
    first, second = Gate(), Gate()
    async with serving(
        registry_of(hold=Hold(first, num_concurrent_runs=1, timeout=None)), str(tmp_path), grace=0.0
    ) as rpc:
        started = [(await rpc.start("hold", {"name": str(n)})).run_id for n in range(3)]
        await first.arrived(1)
    async with serving(registry_of(hold=Hold(second, num_concurrent_runs=1, timeout=None)), str(tmp_path)) as rpc:
        await second.arrived(1)
        found = [(await rpc.get(run_id)).status for run_id in started]
        assert found == [types.RUN_STATUS_RUNNING] + [types.RUN_STATUS_QUEUED] * 2
        second.opened.set()
        for run_id in started:
            assert (await rpc.ended(run_id)).status == types.RUN_STATUS_COMPLETED
        assert second.entered == ["0", "1", "2"]


async def test_a_run_that_waits_holds_its_place(gate: Gate) -> None:
    """A run that waits is at work: its place is free when it has ended."""
    async with serving(registry_of(ask=Ask(num_concurrent_runs=1))) as rpc:
        first = await rpc.asking("tea")
        second = await rpc.start("ask", {"item": "coffee"})
        assert second.status == types.RUN_STATUS_QUEUED
        sent = await rpc.send(second.run_id, event("Note", n=4))
        assert sent.delivered == 1
        await rpc.answer(first.run_id)
        await rpc.asked(second.run_id)
        found = await rpc.answer(second.run_id)
        assert plain(found.outcome.result) == {"yes": True, "note": 4}
