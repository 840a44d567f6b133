"""The log records attempts at steps: a timeline and a causal tree can be drawn from it alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.rpc_flows import Count, Gate, Hold
from tests.integration.rpc_serving import JSON, Rpc, event, registry_of, serving
from tests.integration.seeing.flows import Busy, Failing, Late, Shop
from tests.serving import ServerProcess

from stepwire.client import EntryKind, ExecutionStatus, SyncClient
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

STARTED, FINISHED, FAILED, TIMED_OUT, CANCELLED, LOST = range(1, 7)


def told(entries: list[types.LogEntry]) -> list[tuple[str, int, int]]:
    return [(each.step, each.execution.status, each.execution.attempt) for each in entries]


async def test_a_run_tells_each_start_and_end_and_what_caused_it() -> None:
    async with serving(registry_of(count=Count)) as rpc:
        run = await rpc.start("count", {"n": 2})
        await rpc.ended(run.run_id)
        log = await rpc.log(run.run_id)
        assert [entry.sequence for entry in log] == list(range(1, len(log) + 1)), "one numbering, without gaps"
        found = [entry for entry in log if entry.kind == types.ENTRY_KIND_EXECUTION]
        assert told(found) == [
            ("start", STARTED, 1),
            ("start", FINISHED, 1),
            ("go_on", STARTED, 1),
            ("go_on", FINISHED, 1),
            ("go_on", STARTED, 1),
            ("go_on", FINISHED, 1),
        ]
        by_sequence = {entry.sequence: entry for entry in log}
        causes = [by_sequence[entry.execution.caused_by] for entry in found]
        assert [cause.type for cause in causes] == ["StartEvent", "StartEvent"] + ["Ping"] * 4
        # From each event to the attempt that made it: the tree has one root.
        parents = {entry.execution.delivery_id: entry.execution.caused_by for entry in found}
        for entry in log:
            if entry.kind != types.ENTRY_KIND_EXECUTION and entry.sequence > 1:
                assert parents[entry.delivery_id] < entry.sequence
        assert by_sequence[1].delivery_id == 0, "from outside"
        assert all(entry.execution.HasField("duration") == (entry.execution.status == FINISHED) for entry in found)
        assert log[-1].kind == types.ENTRY_KIND_TERMINAL
        assert not any(entry.type or entry.HasField("payload") for entry in found)


async def test_failures_tell_error_reference_and_next_attempt() -> None:
    async with serving(registry_of(failing=Failing)) as rpc:
        run = await rpc.start("failing", {})
        ended = await rpc.ended(run.run_id)
        found = await rpc.executions(run.run_id)
        assert told(found) == [("charge", status, attempt) for attempt in (1, 2, 3) for status in (STARTED, FAILED)]
        failed = [entry.execution for entry in found if entry.execution.status == FAILED]
        assert [each.HasField("next_attempt_at") for each in failed] == [True, True, False]
        assert {each.error.error_type for each in failed} == {"Down"}
        assert len({each.error.reference_id for each in failed}) == 3
        assert failed[-1].error.reference_id == ended.outcome.failure.reference_id
        assert len({each.delivery_id for each in failed}) == 1


async def test_timed_out_and_cancelled_attempts() -> None:
    busy = Busy(timeout=None)
    busy.entered = asyncio.Event()
    async with serving(registry_of(late=Late, busy=busy)) as rpc:
        late = await rpc.start("late", {})
        await rpc.ended(late.run_id)
        assert told(await rpc.executions(late.run_id)) == [("sleep", STARTED, 1), ("sleep", TIMED_OUT, 1)]
        run = await rpc.start("busy", {})
        await asyncio.wait_for(busy.entered.wait(), 60)
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run.run_id))
        log = await rpc.log(run.run_id)
        assert told([log[-2]]) == [("work", CANCELLED, 1)]
        assert log[-2].execution.duration.ToNanoseconds() > 0
        assert log[-1].kind == types.ENTRY_KIND_TERMINAL


async def test_a_stop_of_the_server_cancels_and_the_next_attempt_follows(tmp_path: Path) -> None:
    first, second = Gate(), Gate()
    async with serving(registry_of(hold=Hold(first, timeout=None)), str(tmp_path), grace=0.0) as rpc:
        run = await rpc.start("hold", {"name": "a"})
        await first.arrived(1)
    second.opened.set()
    async with serving(registry_of(hold=Hold(second, timeout=None)), str(tmp_path)) as rpc:
        await rpc.ended(run.run_id)
        found = told(await rpc.executions(run.run_id))
        assert [each[1:] for each in found] == [(STARTED, 1), (CANCELLED, 1), (STARTED, 2), (FINISHED, 2)]


def test_an_attempt_that_a_crash_took_is_lost(tmp_path: Path) -> None:
    specs = ["tests/integration/seeing/crash_flows.py:Slow=slow"]
    with ServerProcess(tmp_path, specs) as server:
        with SyncClient(server.address) as client:
            run = client.start_run("slow")
            entered = next(iter(run.events(types=["Entered"])))
            assert entered.type == "Entered"
            server.kill()
        server.start()
        with SyncClient(server.address) as client:
            again = client.run(run.run_id)
            assert again.result(60) == "done"
            metas = [each.meta for each in again.events(internal=True)]
            found = [meta for meta in metas if meta.kind is EntryKind.EXECUTION and meta.step == "work"]
            assert [(meta.execution.status, meta.execution.attempt) for meta in found] == [
                (ExecutionStatus.STARTED, 1),
                (ExecutionStatus.LOST, 1),
                (ExecutionStatus.STARTED, 2),
                (ExecutionStatus.FINISHED, 2),
            ]
            # "Started" was durable before the body began, so before anything that the body wrote.
            sequences = {meta.type: meta.sequence for meta in metas if meta.type}
            assert found[0].sequence < sequences["Entered"] < found[1].sequence


@pytest.mark.parametrize(
    ("level", "expected"), [("off", []), ("failures", [FAILED] * 3), ("all", [STARTED, FAILED] * 3)]
)
async def test_the_setting_decides_what_is_recorded(level: str, expected: list[int]) -> None:
    async with serving(registry_of(failing=Failing), execution_log=level) as rpc:
        run = await rpc.start("failing", {})
        await rpc.ended(run.run_id)
        assert [each.execution.status for each in await rpc.executions(run.run_id)] == expected


async def test_readers_of_public_entries_see_none_and_lose_no_range() -> None:
    async with serving(registry_of(count=Count)) as rpc:
        run = await rpc.start("count", {"n": 3})
        await rpc.ended(run.run_id)
        position, seen = 0, []
        async for frame in rpc.stream(run.run_id):
            if frame.WhichOneof("frame") == "events":
                assert frame.events.from_sequence == position + 1
                position = frame.events.to_sequence
                seen += frame.events.entries
        assert position == (await rpc.get(run.run_id)).last_sequence
        assert [entry.kind for entry in seen] == [types.ENTRY_KIND_STREAM] * 3 + [types.ENTRY_KIND_TERMINAL]


async def test_a_filter_of_types_leaves_them_out() -> None:
    async with serving(registry_of(count=Count)) as rpc:
        run = await rpc.start("count", {"n": 3})
        await rpc.ended(run.run_id)
        kinds: list[Any] = []
        async for frame in rpc.stream(run.run_id, include_internal=True, event_types=["Ping"]):
            kinds += [(entry.kind, entry.type) for entry in frame.events.entries]
        assert kinds == [(types.ENTRY_KIND_SENT, "Ping")] * 3 + [(types.ENTRY_KIND_TERMINAL, "StopEvent")]


async def test_both_encodings_tell_the_same() -> None:
    async with serving(registry_of(failing=Failing)) as rpc:
        run = await rpc.start("failing", {})
        await rpc.ended(run.run_id)
        found = []
        for encoding in (JSON, types.PAYLOAD_ENCODING_VALUE):
            entries: list[types.LogEntry] = []
            async for frame in rpc.stream(run.run_id, include_internal=True, encoding=encoding):
                entries += [each for each in frame.events.entries if each.kind == types.ENTRY_KIND_EXECUTION]
            found.append(entries)
        assert found[0] == found[1]
        assert len(found[0]) == 6


async def test_a_fork_begins_its_own_log_and_keeps_the_last_error() -> None:
    async with serving(registry_of(shop=Shop(timeout=None))) as rpc:
        run = await backing_off(rpc)
        request = runs.StartRunRequest(workflow="shop", encoding=JSON)
        getattr(request, "from").run_id = run.run_id
        forked = (await rpc.runs.StartRun(request)).run
        found = await rpc.get(forked.run_id)
        charge = next(each for each in found.active_deliveries if each.step == "charge")
        assert charge.status == types.DELIVERY_STATUS_BACKING_OFF
        assert charge.last_error.error_type == "Down"
        log = await rpc.log(forked.run_id)
        assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))


async def test_a_log_at_its_bound_takes_no_more_of_them() -> None:
    async with serving(registry_of(count=Count), max_log_entries=12) as rpc:
        run = await rpc.start("count", {"n": 50})
        ended = await rpc.ended(run.run_id)
        assert ended.outcome.failure.error_type == "RunLimitError"
        log = await rpc.log(run.run_id)
        assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))
        assert len(log) <= 13


async def backing_off(rpc: Rpc) -> types.Run:
    run = await rpc.start("shop", {})
    while True:
        found = await rpc.get(run.run_id)
        statuses = {each.step: each.status for each in found.active_deliveries}
        if statuses.get("charge") == types.DELIVERY_STATUS_BACKING_OFF and found.pending_waiters:
            return found
        await asyncio.sleep(0.01)


async def test_an_answer_says_which_delivery_it_went_to() -> None:
    async with serving(registry_of(shop=Shop(timeout=None))) as rpc:
        run = await backing_off(rpc)
        await rpc.send(run.run_id, event("Answer", yes=True))
        await rpc.ended(run.run_id)
        found = told(await rpc.executions(run.run_id))
        assert found.count(("ship", STARTED, 1)) == 1, "a body that only waited goes on: the same attempt"
        assert found[-1] == ("ship", FINISHED, 1)
