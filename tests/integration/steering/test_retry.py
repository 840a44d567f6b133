"""RetryRun: a run goes on from what failed."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_serving import JSON, Rpc, event, plain, refused, registry_of, serving
from tests.integration.steering_flows import Approve, Dependency, Pay

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import Event, StartEvent, StopEvent, Workflow, step


class Step(Event):
    """One more step."""

    left: int


class Count(Workflow):
    """Take as many steps as the input says."""

    @step
    async def go_on(self, ev: StartEvent | Step) -> Step | StopEvent:
        left = ev.left if isinstance(ev, Step) else ev.to
        return Step(left=left - 1) if left else StopEvent()


async def retry(rpc: Rpc, run_id: str, **fields: Any) -> types.Run:
    answer: runs.RetryRunResponse = await rpc.runs.RetryRun(
        runs.RetryRunRequest(run_id=run_id, encoding=JSON, **fields)
    )
    return answer.run


async def failed(rpc: Rpc, name: str = "a", **fields: Any) -> types.Run:
    run = await rpc.start("pay", {"name": name}, **fields)
    run = await rpc.ended(run.run_id)
    assert run.status == types.RUN_STATUS_FAILED
    return run


async def kept(rpc: Rpc, run_id: str, after: str = "") -> int:
    """Return the sequence of the first snapshot that is kept, or of the first that has an event of this type."""
    log = await rpc.log(run_id)
    first = next((entry.sequence for entry in log if entry.type == after), 1)
    answer: snapshots.ListSnapshotsResponse = await rpc.snapshots.ListSnapshots(
        snapshots.ListSnapshotsRequest(run_id=run_id)
    )
    return min(info.sequence for info in answer.snapshots if info.sequence >= first)


async def test_a_failed_run_goes_on_from_what_failed_with_its_whole_retry_budget() -> None:
    dependency = Dependency(up=False)
    async with serving(registry_of(pay=Pay(dependency, timeout=None))) as rpc:
        first = await failed(rpc, labels={"team": "blue"})
        assert first.outcome.failure.attempts == 4
        again = await rpc.ended((await retry(rpc, first.run_id)).run_id)
        assert again.status == types.RUN_STATUS_FAILED
        assert again.outcome.failure.attempts == 4
        assert [attempt for _, attempt in dependency.tried] == [1, 2, 3, 4, 5, 6, 7, 8]
        dependency.up = True
        last = await rpc.ended((await retry(rpc, again.run_id, labels={"try": "3"})).run_id)
        assert plain(last.outcome.result) == "a"
        assert dict(last.labels) == {"team": "blue", "try": "3"}
        assert last.started_by == "anonymous"
        # It was done once, under the key of the run in which it came up; what was through was not done again.
        assert sorted(dependency.done.values()) == [1, 1]
        assert {key.split("/")[0] for key in dependency.done} == {first.run_id}


async def test_a_retry_and_its_run_are_linked_both_ways_also_after_a_restart(tmp_path: Any) -> None:
    dependency = Dependency(up=False)
    registry = registry_of(pay=Pay(dependency, timeout=None))
    async with serving(registry, str(tmp_path)) as rpc:
        first = await failed(rpc)
        again = await retry(rpc, first.run_id)
        assert (again.retried_from.run_id, again.retried_from.sequence) == (first.run_id, first.last_sequence)
        assert not again.HasField("forked_from")
        assert list((await rpc.get(first.run_id)).retried_as) == [again.run_id]
        await rpc.ended(again.run_id)
    async with serving(registry, str(tmp_path)) as rpc:
        assert list((await rpc.get(first.run_id)).retried_as) == [again.run_id]
        found = await rpc.get(first.run_id)
        assert found.updated_at == first.updated_at
        assert found.outcome == first.outcome


async def test_a_repeated_call_does_not_retry_twice() -> None:
    dependency = Dependency(up=False)
    async with serving(registry_of(pay=Pay(dependency, timeout=None))) as rpc:
        first, other = await failed(rpc), await failed(rpc, "b")
        named = await retry(rpc, first.run_id, request_id="r")
        assert (await retry(rpc, first.run_id, request_id="r")).run_id == named.run_id
        assert (await retry(rpc, first.run_id)).run_id == named.run_id
        assert (await retry(rpc, first.run_id, request_id="s")).run_id == named.run_id
        assert (await retry(rpc, first.run_id, at_sequence=first.last_sequence)).run_id == named.run_id
        assert (await refused(retry(rpc, other.run_id, request_id="r"))).reason == "REQUEST_ID_REUSED"
        together = await asyncio.gather(*(retry(rpc, other.run_id) for _ in range(20)))
        assert len({run.run_id for run in together}) == 1
        assert len((await rpc.get(other.run_id)).retried_as) == 1
        listed = await rpc.runs.ListRuns(runs.ListRunsRequest())
        assert len(listed.runs) == 4


async def test_a_deleted_retry_can_be_made_anew() -> None:
    async with serving(registry_of(pay=Pay(Dependency(up=False), timeout=None))) as rpc:
        first = await failed(rpc)
        again = await rpc.ended((await retry(rpc, first.run_id)).run_id)
        await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=again.run_id))
        anew = await retry(rpc, first.run_id)
        assert anew.created_at.ToDatetime() > again.created_at.ToDatetime()


async def test_a_cancelled_run_goes_on_with_its_question() -> None:
    async with serving(registry_of(approve=Approve(timeout=None))) as rpc:
        run = await rpc.start("approve", {"name": "a"})
        await rpc.status(run.run_id, "WAITING")
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run.run_id))
        again = await retry(rpc, run.run_id)
        [waiter] = (await rpc.status(again.run_id, "WAITING")).pending_waiters
        assert waiter.waiter_id == "confirm"
        assert [entry.type for entry in await rpc.log(again.run_id)] == ["Confirm"]
        await rpc.send(again.run_id, event("Confirmed", yes=True))
        assert plain((await rpc.ended(again.run_id)).outcome.result) is True


async def test_a_cancelled_run_goes_on_with_steps_that_were_running() -> None:
    dependency = Dependency()
    dependency.hold = asyncio.Event()
    async with serving(registry_of(pay=Pay(dependency, timeout=None))) as rpc:
        run = await rpc.start("pay", {"name": "a"})
        await dependency.until(lambda: bool(dependency.tried))
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run.run_id))
        dependency.hold.set()
        again = await rpc.ended((await retry(rpc, run.run_id)).run_id)
        assert plain(again.outcome.result) == "a"
        assert set(dependency.done.values()) == {1}


async def test_a_timed_out_run_has_its_whole_timeout_again() -> None:
    dependency = Dependency()
    dependency.hold = asyncio.Event()
    async with serving(registry_of(pay=Pay(dependency, timeout=None))) as rpc:
        run = await rpc.start("pay", {"name": "a"}, timeout=Duration(nanos=200_000_000))
        assert (await rpc.ended(run.run_id)).status == types.RUN_STATUS_TIMED_OUT
        again = await retry(rpc, run.run_id)
        again = await rpc.ended(again.run_id)
        assert again.status == types.RUN_STATUS_TIMED_OUT
        took = again.ended_at.ToDatetime() - again.created_at.ToDatetime()
        assert took.total_seconds() >= 0.19
        dependency.hold.set()
        assert (await rpc.ended((await retry(rpc, again.run_id)).run_id)).status == types.RUN_STATUS_COMPLETED


async def test_a_wait_that_timed_out_and_failed_the_run_waits_again() -> None:
    async with serving(registry_of(approve=Approve(patience=0.2, timeout=None))) as rpc:
        run = await rpc.ended((await rpc.start("approve", {"name": "a"})).run_id)
        assert run.outcome.failure.error_type == "TimeoutError"
        again = await retry(rpc, run.run_id)
        await rpc.status(again.run_id, "WAITING")
        await rpc.send(again.run_id, event("Confirmed", yes=False))
        assert plain((await rpc.ended(again.run_id)).outcome.result) is False


async def test_a_retry_from_an_earlier_moment_does_what_came_after_again() -> None:
    dependency = Dependency(up=False)
    async with serving(registry_of(pay=Pay(dependency, timeout=None))) as rpc:
        first = await failed(rpc)
        dependency.up = True
        at = await kept(rpc, first.run_id)
        again = await retry(rpc, first.run_id, at_sequence=at)
        assert again.retried_from.sequence == at
        assert plain((await rpc.ended(again.run_id)).outcome.result) == "a"
        # The first delivery goes on under its key; the one that it makes is another one than that of the first run.
        assert dependency.done == {f"{first.run_id}/1": 2, f"{again.run_id}/2": 1}
        end = await retry(rpc, first.run_id)
        assert end.run_id != again.run_id
        assert sorted((await rpc.get(first.run_id)).retried_as) == sorted([again.run_id, end.run_id])


async def test_what_cannot_be_retried() -> None:
    dependency = Dependency()
    async with serving(registry_of(pay=Pay(dependency, timeout=None), approve=Approve(timeout=None))) as rpc:
        completed = await rpc.ended((await rpc.start("pay", {"name": "a"})).run_id)
        waiting = await rpc.start("approve", {"name": "a"})
        for run_id in (completed.run_id, waiting.run_id):
            found = await refused(retry(rpc, run_id))
            assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_RETRYABLE")
        assert (await refused(retry(rpc, "none"))).reason == "RUN_NOT_FOUND"
        dependency.up = False
        run = await failed(rpc)
        assert (await refused(retry(rpc, run.run_id, at_sequence=99))).reason == "SEQUENCE_OUT_OF_RANGE"
        assert (await refused(retry(rpc, run.run_id, at_sequence=-1))).reason == "SEQUENCE_OUT_OF_RANGE"


async def test_a_run_that_a_limit_ended_says_from_where_it_can_be_retried() -> None:
    async with serving(registry_of(count=Count(timeout=None)), max_log_entries=40) as rpc:
        run = await rpc.ended((await rpc.start("count", {"to": 100})).run_id)
        assert run.outcome.failure.error_type == "RunLimitError"
        found = await refused(retry(rpc, run.run_id))
        assert found.reason == "RUN_NOT_RETRYABLE"
        [at] = re.findall(r"at sequence (\d+)", found.message)
        again = await retry(rpc, run.run_id, at_sequence=int(at))
        assert again.retried_from.sequence == int(at) < run.last_sequence
        assert (await rpc.ended(again.run_id)).outcome.failure.error_type == "RunLimitError"  # the limit is the same


async def test_a_new_run_from_an_ended_one_takes_nothing_over_that_was_in_progress() -> None:
    async with serving(registry_of(approve=Approve(timeout=None))) as rpc:
        run = await rpc.start("approve", {"name": "a"})
        await rpc.status(run.run_id, "WAITING")
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run.run_id))
        taken = await rpc.snapshots.GetSnapshot(snapshots.GetSnapshotRequest(run_id=run.run_id))
        assert [each.step for each in taken.snapshot.in_progress] == ["ask"]
        source: dict[str, Any] = {"from": types.SnapshotRef(run_id=run.run_id)}
        forked = await rpc.start("approve", {"name": "b"}, **source)
        found = await rpc.status(forked.run_id, "WAITING")
        assert [plain(waiter.prompt.payload)["name"] for waiter in found.pending_waiters] == ["b"]


async def test_a_fork_with_fresh_budgets_has_all_its_attempts() -> None:
    dependency = Dependency(up=False)
    async with serving(registry_of(pay=Pay(dependency, timeout=None))) as rpc:
        first = await rpc.start("pay", {"name": "a"}, timeout=Duration(seconds=30))
        first = await rpc.ended(first.run_id)
        at = await kept(rpc, first.run_id, "Reserved")
        source: dict[str, Any] = {"from": types.SnapshotRef(run_id=first.run_id, sequence=at)}
        fork = await rpc.start("pay", fresh_budgets=True, timeout=Duration(seconds=20), **source)
        fork = await rpc.ended(fork.run_id)
        assert fork.forked_from.run_id == first.run_id
        assert fork.outcome.failure.attempts == 4


async def test_a_snapshot_is_what_was_true_when_its_sequence_was_written() -> None:
    """Retries that came later do not change it: a fork of it has its attempts before it."""
    dependency = Dependency(up=False)
    async with serving(registry_of(pay=Pay(dependency, timeout=None))) as rpc:
        first = await failed(rpc)
        at = await kept(rpc, first.run_id, "Reserved")
        taken = await rpc.snapshots.GetSnapshot(snapshots.GetSnapshotRequest(run_id=first.run_id, sequence=at))
        deliveries = [*taken.snapshot.queued, *taken.snapshot.in_progress]
        assert [each.step for each in deliveries] == ["charge"]
        assert b'"f":0' in deliveries[0].data_json
        assert taken.snapshot.created_at.ToDatetime() < first.ended_at.ToDatetime()
