"""Pause and resume of runs and workflows: nothing new starts, what runs finishes, input is kept."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_serving import JSON, Rpc, event, plain, refused, registry_of, serving
from tests.integration.steering_flows import Approve, Dependency, Pay, Sleeper

from stepwire.server.runs import ANONYMOUS
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows


async def pause(rpc: Rpc, run_id: str, reason: str = "") -> types.Run:
    request = runs.PauseRunRequest(run_id=run_id, reason=reason, encoding=JSON)
    answer: runs.PauseRunResponse = await rpc.runs.PauseRun(request)
    return answer.run


async def resume(rpc: Rpc, run_id: str) -> types.Run:
    answer: runs.ResumeRunResponse = await rpc.runs.ResumeRun(runs.ResumeRunRequest(run_id=run_id, encoding=JSON))
    return answer.run


async def pause_workflow(rpc: Rpc, name: str, reason: str = "") -> types.Pause:
    answer = await rpc.workflows.PauseWorkflow(workflows.PauseWorkflowRequest(name=name, reason=reason))
    found: types.Pause = answer.pause
    return found


async def resume_workflow(rpc: Rpc, name: str) -> None:
    await rpc.workflows.ResumeWorkflow(workflows.ResumeWorkflowRequest(name=name))


async def released(rpc: Rpc) -> None:
    """Release what only waits, as after `idle_after`."""
    rpc.pool.release(list(rpc.pool), 1.0, 0.0)
    rpc.pool.release(list(rpc.pool), 2.0, 0.0)


async def charging(rpc: Rpc, dependency: Dependency, **fields: Any) -> types.Run:
    """Start a run, and return it once its step `charge` holds on."""
    dependency.hold = asyncio.Event()
    before = len(dependency.tried)
    run = await rpc.start("pay", {"name": "a"}, **fields)
    await dependency.until(lambda: len(dependency.tried) > before)
    return run


def world(dependency: Dependency) -> Any:
    return registry_of(pay=Pay(dependency, timeout=None), approve=Approve(timeout=None))


async def test_what_runs_finishes_and_nothing_new_starts() -> None:
    dependency = Dependency()
    async with serving(world(dependency)) as rpc:
        run = await charging(rpc, dependency)
        found = await pause(rpc, run.run_id, "the bank is down")
        assert found.status == types.RUN_STATUS_PAUSED
        assert (found.pause.by, found.pause.reason, found.pause.workflow) == ("anonymous", "the bank is down", False)
        assert dependency.hold is not None
        dependency.hold.set()
        while not any(entry.type == "Charged" for entry in await rpc.log(run.run_id)):
            pass
        assert sum(dependency.done.values()) == 2  # the step that ran has finished; the next one has not started
        assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_PAUSED
        again = await pause(rpc, run.run_id, "another reason")
        assert again.pause.reason == "the bank is down"
        assert not (await resume(rpc, run.run_id)).HasField("pause")
        assert plain((await rpc.ended(run.run_id)).outcome.result) == "a"


async def test_input_is_taken_and_kept_over_release_and_restart(tmp_path: Any) -> None:
    registry = world(Dependency())
    async with serving(registry, str(tmp_path)) as rpc:
        run = await rpc.start("approve", {"name": "a"})
        await rpc.status(run.run_id, "WAITING")
        await pause(rpc, run.run_id)
        sent = await rpc.send(run.run_id, event("Confirmed", yes=True))
        assert sent.delivered == 1
        found = await rpc.get(run.run_id)
        assert found.status == types.RUN_STATUS_PAUSED
        assert not found.pending_waiters
        await released(rpc)
        assert len(rpc.pool) == 0
        assert (await rpc.get(run.run_id)) == found
    async with serving(registry, str(tmp_path)) as rpc:
        assert len(rpc.pool) == 0  # a paused run needs no memory
        assert (await rpc.get(run.run_id)) == found
        listed = await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_PAUSED]))
        assert [each.run_id for each in listed.runs] == [run.run_id]
        await resume(rpc, run.run_id)
        assert plain((await rpc.ended(run.run_id)).outcome.result) is True


async def test_the_timeout_of_a_paused_run_stands_still(tmp_path: Any) -> None:
    dependency = Dependency()
    async with serving(world(dependency), str(tmp_path), grace=0.0) as rpc:
        run = await charging(rpc, dependency, timeout=Duration(seconds=30))
        assert (await rpc.get(run.run_id)).HasField("timeout_at")
        assert not (await pause(rpc, run.run_id)).HasField("timeout_at")
        before = rpc.pool.in_memory(next(iter(rpc.pool)).key)
        assert before is not None
        assert before.broker.limit.due is None
        left = before.broker.limit.remaining
        assert left is not None
        assert 0 < left <= 30
    async with serving(world(dependency), str(tmp_path)) as rpc:
        assert dependency.hold is not None
        dependency.hold.set()
        loaded = await rpc.pool.loads.load(ANONYMOUS.key(run.run_id))
        assert isinstance(loaded, LiveRun)
        assert loaded.broker.limit.remaining == left
        found = await resume(rpc, run.run_id)
        assert found.timeout_at.ToDatetime() > found.updated_at.ToDatetime()


async def test_a_paused_run_can_be_cancelled_and_an_ended_one_not_paused() -> None:
    async with serving(world(Dependency())) as rpc:
        run = await rpc.start("approve", {"name": "a"})
        await pause(rpc, run.run_id)
        found = (await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run.run_id, encoding=JSON))).run
        assert found.status == types.RUN_STATUS_CANCELLED
        assert not found.HasField("pause")
        assert (await refused(pause(rpc, run.run_id))).reason == "RUN_ENDED"
        assert (await refused(resume(rpc, run.run_id))).reason == "RUN_ENDED"
        assert (await refused(pause(rpc, "none"))).reason == "RUN_NOT_FOUND"


async def test_a_paused_workflow_starts_nothing_and_says_so(tmp_path: Any) -> None:
    dependency = Dependency()
    registry = world(dependency)
    async with serving(registry, str(tmp_path)) as rpc:
        waiting = await rpc.start("approve", {"name": "a"})
        await rpc.status(waiting.run_id, "WAITING")
        given = await pause_workflow(rpc, "pay", "the bank is down")
        assert given.workflow
        new = await rpc.start("pay", {"name": "b"})
        assert (new.pause.workflow, new.pause.reason) == (True, "the bank is down")
        assert new.status == types.RUN_STATUS_PAUSED
        listed_runs = await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_PAUSED]))
        assert [run.run_id for run in listed_runs.runs] == [new.run_id]
        assert not (await rpc.get(waiting.run_id)).HasField("pause")
        told = await rpc.workflows.GetWorkflow(workflows.GetWorkflowRequest(name="pay"))
        assert told.workflow.pause == given
        listed = await rpc.workflows.ListWorkflows(workflows.ListWorkflowsRequest())
        assert {each.name: each.HasField("pause") for each in listed.workflows} == {"pay": True, "approve": False}
        await rpc.runs.GetRun(runs.GetRunRequest(run_id=new.run_id))
        assert not dependency.done
        await released(rpc)
        assert rpc.pool.in_memory(ANONYMOUS.key(new.run_id)) is None
    async with serving(registry, str(tmp_path)) as rpc:
        assert (await rpc.get(new.run_id)).pause == given
        late = await rpc.start("pay", {"name": "c"})
        assert not dependency.done
        await resume_workflow(rpc, "pay")
        for run in (new, late):
            found = await rpc.ended(run.run_id)
            assert found.status == types.RUN_STATUS_COMPLETED
        assert not (await rpc.get(late.run_id)).HasField("pause")


async def test_runs_go_on_though_the_process_ends_right_after_the_resume(tmp_path: Any) -> None:
    dependency = Dependency()
    registry = world(dependency)
    async with serving(registry, str(tmp_path)) as rpc:
        await pause_workflow(rpc, "pay")
        started = [await rpc.start("pay", {"name": str(n)}) for n in range(3)]
        await released(rpc)
        assert len(rpc.pool) == 0
        # As a process that ends between the resume and the loading of the runs.
        await rpc.pool.pauses.end("default", "pay")
    async with serving(registry, str(tmp_path)) as rpc:
        for run in started:
            assert (await rpc.ended(run.run_id)).status == types.RUN_STATUS_COMPLETED
        assert not rpc.pool.pauses.waking()


async def test_a_run_of_a_paused_workflow_that_is_paused_itself_stays_so() -> None:
    async with serving(world(Dependency())) as rpc:
        await pause_workflow(rpc, "pay")
        run = await rpc.start("pay", {"name": "a"})
        assert (await pause(rpc, run.run_id)).pause.workflow is False
        await resume_workflow(rpc, "pay")
        assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_PAUSED
        await pause_workflow(rpc, "pay")
        assert (await resume(rpc, run.run_id)).pause.workflow is True
        await resume_workflow(rpc, "pay")
        assert (await rpc.ended(run.run_id)).status == types.RUN_STATUS_COMPLETED


async def test_the_timeout_stands_still_for_runs_that_are_not_in_memory(tmp_path: Any) -> None:
    """The clock of a sleeping run runs; its workflow is paused while the run is not in memory."""
    registry = registry_of(sleeper=Sleeper(timeout=None))
    async with serving(registry, str(tmp_path)) as rpc:
        run = await rpc.start("sleeper", {"name": "a"}, timeout=Duration(seconds=600))
        await rpc.status(run.run_id, "WAITING")
        await released(rpc)
        assert len(rpc.pool) == 0
        before = (await rpc.get(run.run_id)).timeout_at.ToDatetime()
        await pause_workflow(rpc, "sleeper")
        paused = rpc.pool.pauses.get("default", "sleeper")
        assert paused is not None
        assert paused.since is not None
        # As if it had been paused for 100 seconds.
        await rpc.pool.pauses._keep(paused._replace(since=paused.since - 100))
        await resume_workflow(rpc, "sleeper")
        await rpc.send(run.run_id, event("Confirmed", yes=True))  # loads it
        after = (await rpc.get(run.run_id)).timeout_at.ToDatetime()
        assert 100 <= (after - before).total_seconds() < 200  # those, and what the calls took


async def test_paused_runs_keep_their_slots_and_their_places(tmp_path: Any) -> None:
    dependency = Dependency()
    flow = Pay(dependency, timeout=None, num_concurrent_runs=1)
    async with serving(registry_of(pay=flow), str(tmp_path), grace=0.0) as rpc:
        first = await charging(rpc, dependency)
        second = await rpc.start("pay", {"name": "b"})
        assert second.status == types.RUN_STATUS_QUEUED
        assert (await pause(rpc, second.run_id)).status == types.RUN_STATUS_PAUSED
        await pause(rpc, first.run_id)
    async with serving(registry_of(pay=flow), str(tmp_path)) as rpc:
        assert dependency.hold is not None
        dependency.hold.set()
        await resume(rpc, second.run_id)
        assert (await rpc.get(second.run_id)).status == types.RUN_STATUS_QUEUED
        await resume(rpc, first.run_id)
        for run in (first, second):
            assert (await rpc.ended(run.run_id)).status == types.RUN_STATUS_COMPLETED
