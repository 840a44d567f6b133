"""ApplyToRuns: cancel, retry, delete, pause and resume many runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.rpc_serving import Rpc, refusal_of_status, refused, registry_of, serving
from tests.integration.steering_flows import Approve, Dependency, Pay
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.client import Client, PermissionDeniedError, RunStatus
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows


def world(dependency: Dependency | None = None) -> Any:
    return registry_of(pay=Pay(dependency or Dependency(up=False), timeout=None), approve=Approve(timeout=None))


async def apply(rpc: Rpc, **fields: Any) -> list[runs.ApplyToRunsResponse]:
    """Return all answers."""
    call = rpc.runs.ApplyToRuns(runs.ApplyToRunsRequest(**fields), timeout=60)
    return [answer async for answer in call]


def counts(answer: runs.ApplyToRunsResponse) -> tuple[int, int, int, int]:
    return answer.matched, answer.done, answer.unchanged, answer.refused


async def many(rpc: Rpc, workflow: str, count: int, **fields: Any) -> list[str]:
    started = [await rpc.start(workflow, {"name": str(n)}, **fields) for n in range(count)]
    return [run.run_id for run in started]


ONE: Any = {"filter": runs.RunFilter(workflow="approve")}
PAY: Any = {"filter": runs.RunFilter(workflow="pay")}


async def test_runs_are_cancelled_and_deleted_by_their_filters() -> None:
    async with serving(world()) as rpc:
        kept = await many(rpc, "approve", 3, labels={"team": "red"})
        await many(rpc, "approve", 70, labels={"team": "blue"})
        blue: Any = {"filter": runs.RunFilter(workflow="approve", labels={"team": "blue"})}
        *_, counted = await apply(rpc, cancel=runs.CancelRuns(), dry_run=True, **blue)
        assert counts(counted) == (70, 70, 0, 0)
        assert not (await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_CANCELLED]))).runs
        answers = await apply(rpc, cancel=runs.CancelRuns(reason="too many"), **blue)
        assert len(answers) > 2  # it says how far it is
        assert [answer.finished for answer in answers] == [False] * (len(answers) - 1) + [True]
        assert counts(answers[-1]) == (70, 70, 0, 0)
        assert not answers[-1].more
        found = await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_CANCELLED], page_size=1000))
        assert len(found.runs) == 70
        assert {run.outcome.reason for run in found.runs} == {"too many"}
        *_, again = await apply(rpc, cancel=runs.CancelRuns(), **blue)
        assert counts(again) == (0, 0, 0, 0)
        *_, deleted = await apply(rpc, delete=runs.DeleteRuns(), **ONE)
        assert counts(deleted) == (70, 70, 0, 0)
        left = await rpc.runs.ListRuns(runs.ListRunsRequest())
        assert {run.run_id for run in left.runs} == set(kept)


async def test_the_failed_ones_are_retried_once() -> None:
    dependency = Dependency(up=False)
    async with serving(world(dependency)) as rpc:
        ids = await many(rpc, "pay", 40)
        for run_id in ids:
            assert (await rpc.ended(run_id)).status == types.RUN_STATUS_FAILED
        dependency.up = True
        *_, first = await apply(rpc, retry=runs.RetryRuns(), **PAY)
        assert counts(first) == (40, 40, 0, 0)
        *_, second = await apply(rpc, retry=runs.RetryRuns(), **PAY)
        assert counts(second) == (40, 0, 40, 0)
        *_, counted = await apply(rpc, retry=runs.RetryRuns(), dry_run=True, **PAY)
        assert counts(counted) == (40, 0, 40, 0)
        for run_id in ids:
            [retry] = (await rpc.get(run_id)).retried_as
            assert (await rpc.ended(retry)).status == types.RUN_STATUS_COMPLETED
        assert set(dependency.done.values()) == {1}


async def test_repeats_with_a_bound_come_to_all_runs() -> None:
    """Runs that an earlier call has retried do not count, so each call takes the next ones."""
    dependency = Dependency(up=False)
    async with serving(world(dependency)) as rpc:
        for run_id in await many(rpc, "pay", 5):
            await rpc.ended(run_id)
        dependency.up = True
        told = []
        for _ in range(4):
            *_, last = await apply(rpc, retry=runs.RetryRuns(), max_runs=2, **PAY)
            told.append((*counts(last), last.more))
        assert told == [(2, 2, 0, 0, True), (4, 2, 2, 0, True), (5, 1, 4, 0, False), (5, 0, 5, 0, False)]


async def test_runs_are_paused_and_resumed() -> None:
    async with serving(world(Dependency())) as rpc:
        await many(rpc, "approve", 5)
        *_, paused = await apply(rpc, pause=runs.PauseRuns(reason="wait"), **ONE)
        assert counts(paused) == (5, 5, 0, 0)
        found = await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_PAUSED]))
        assert {run.pause.reason for run in found.runs} == {"wait"}
        *_, again = await apply(rpc, pause=runs.PauseRuns(), **ONE)
        assert counts(again) == (0, 0, 0, 0)
        *_, resumed = await apply(rpc, resume=runs.ResumeRuns(), **ONE)
        assert counts(resumed) == (5, 5, 0, 0)
        assert not (await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_PAUSED]))).runs


async def test_a_bound_holds_and_a_call_is_resumed_where_it_was() -> None:
    async with serving(world()) as rpc:
        await many(rpc, "approve", 50)
        *_, first = await apply(rpc, cancel=runs.CancelRuns(), max_runs=20, **ONE)
        assert counts(first) == (20, 20, 0, 0)
        assert first.more
        late = await many(rpc, "approve", 2)  # not there when the call began
        *_, rest = await apply(rpc, cancel=runs.CancelRuns(), resume_token=first.resume_token, **ONE)
        assert counts(rest) == (50, 50, 0, 0)
        assert not rest.more
        for run_id in late:
            assert not (await rpc.get(run_id)).HasField("outcome")
        *_, exact = await apply(rpc, cancel=runs.CancelRuns(), max_runs=2, **ONE)
        assert (counts(exact), exact.more) == ((2, 2, 0, 0), False)


async def test_a_call_that_is_cut_goes_on(tmp_path: Any) -> None:
    async with serving(world(), str(tmp_path)) as rpc:
        await many(rpc, "approve", 100)
        call = rpc.runs.ApplyToRuns(runs.ApplyToRunsRequest(cancel=runs.CancelRuns(), **ONE))
        first = await call.read()
        call.cancel()
    async with serving(world(), str(tmp_path)) as rpc:
        *_, last = await apply(rpc, cancel=runs.CancelRuns(), resume_token=first.resume_token, **ONE)
        assert last.refused == 0
        assert last.finished
        found = await rpc.runs.ListRuns(runs.ListRunsRequest(statuses=[types.RUN_STATUS_CANCELLED], page_size=1000))
        assert len(found.runs) == 100


async def test_what_is_refused() -> None:
    async with serving(world()) as rpc:

        async def refusal(**fields: Any) -> Any:
            return await refused(apply(rpc, **fields))

        assert (await refusal(**ONE)).fields.keys() == {"action"}
        assert (await refusal(cancel=runs.CancelRuns())).fields.keys() == {"filter"}
        assert (await refusal(cancel=runs.CancelRuns(), max_runs=-1, **ONE)).fields.keys() == {"max_runs"}
        assert (await refusal(pause=runs.PauseRuns(reason="x" * 1001), **ONE)).fields.keys() == {"pause.reason"}
        assert (await refusal(cancel=runs.CancelRuns(), resume_token="x", **ONE)).reason == "INVALID_PAGE_TOKEN"
        *_, answer = await apply(rpc, cancel=runs.CancelRuns(), **ONE)
        other = await refusal(delete=runs.DeleteRuns(), resume_token=answer.resume_token, **ONE)
        assert other.reason == "INVALID_PAGE_TOKEN"


async def test_each_run_is_refused_by_itself() -> None:
    async with serving(world()) as rpc:
        [limited] = await many(rpc, "pay", 1)
        run = rpc.pool.in_memory(next(iter(rpc.pool)).key)
        assert run is not None
        run.broker.exceed("too much")  # a limit leaves nothing to go on with
        run.act()
        await rpc.ended(limited)
        *_, answer = await apply(rpc, retry=runs.RetryRuns(), **PAY)
        assert counts(answer) == (1, 0, 0, 1)
        [refusal] = [each for answer in await apply(rpc, retry=runs.RetryRuns(), **PAY) for each in answer.refusals]
        assert refusal.run_id == limited
        assert refusal_of_status(refusal.error).reason == "RUN_NOT_RETRYABLE"


async def test_the_client_tells_of_refusals_and_goes_on() -> None:
    dependency = Dependency(up=False)
    async with serving(world(dependency)) as rpc, Client(rpc.server.address) as client:
        ids = await many(rpc, "pay", 3)
        for run_id in ids:
            await rpc.ended(run_id)
        found = [each async for each in client.apply_to_runs("retry", workflow="pay", error_type="ConnectionError")]
        assert (found[-1].matched, found[-1].done, found[-1].finished) == (3, 3, True)
        found = [each async for each in client.apply_to_runs("delete", statuses=[RunStatus.FAILED], dry_run=True)]
        assert found[-1].done >= 3


async def test_each_run_is_authorized_as_by_the_call_for_one(tmp_path: Any) -> None:
    access = tmp_path / "access.toml"
    keys = {}
    for name, scopes in (("boss", ["admin"]), ("clerk", ["write:approve", "read:pay"])):
        given = [each for scope in scopes for each in ("--scope", scope)]
        made = CliRunner().invoke(app, ["keys", "new", name, *given, "--file", str(access)])
        assert made.exit_code == 0, made.output
        keys[name] = made.stdout.split()[0]
    dependency = Dependency()
    dependency.hold = asyncio.Event()
    async with (
        serving(world(dependency), api_keys=str(access)) as rpc,
        Client(rpc.server.address, token=keys["boss"]) as boss,
        Client(rpc.server.address, token=keys["clerk"]) as clerk,
    ):
        for n in range(3):
            await boss.start_run("approve", name=str(n))
            await boss.start_run("pay", name=str(n))
        every = [each async for each in clerk.apply_to_runs("cancel", started_by="boss")]
        assert (every[-1].matched, every[-1].done, every[-1].refused) == (3, 3, 0)
        cancelled = [run.workflow async for run in boss.list_runs(statuses=[RunStatus.CANCELLED])]
        assert cancelled == ["approve"] * 3
        with pytest.raises(PermissionDeniedError):
            [each async for each in clerk.apply_to_runs("delete", workflow="approve")]
        with pytest.raises(PermissionDeniedError):
            await clerk.pause_workflow("approve")
        dependency.hold.set()


async def test_runs_of_a_paused_workflow_are_paused_by_themselves_too() -> None:
    async with serving(world(Dependency())) as rpc:
        await rpc.workflows.PauseWorkflow(workflows.PauseWorkflowRequest(name="pay"))
        started = [(await rpc.start("pay", {"name": str(n)})).run_id for n in range(3)]
        *_, resumed = await apply(rpc, resume=runs.ResumeRuns(), **PAY)
        assert counts(resumed) == (0, 0, 0, 0)
        *_, paused = await apply(rpc, pause=runs.PauseRuns(reason="wait"), **PAY)
        assert counts(paused) == (3, 3, 0, 0)
        await rpc.workflows.ResumeWorkflow(workflows.ResumeWorkflowRequest(name="pay"))
        for run_id in started:
            assert (await rpc.get(run_id)).pause.reason == "wait"
        *_, resumed = await apply(rpc, resume=runs.ResumeRuns(), **PAY)
        assert counts(resumed) == (3, 3, 0, 0)
        for run_id in started:
            assert (await rpc.ended(run_id)).status == types.RUN_STATUS_COMPLETED
