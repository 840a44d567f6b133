"""Reads: GetState tells what is durable of the live state; GetSnapshot gives the last committed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.durability.flows import Flow, ask, stay
from tests.integration.durability.support import asked, held, life, publish, set_state, settle, snapshot_of, state_of
from tests.integration.durability.test_answers import PROBES
from tests.integration.rpc_serving import Rpc, refused

from stepwire.server.principal import Principal
from stepwire.server.runs import ANONYMOUS
from stepwire.server.runs.errors import RunNotFoundError
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.scopes import Scopes
from stepwire.server.store import RunRecord, StoreUnavailableError
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1.types_pb2 import PAYLOAD_ENCODING_JSON as JSON
from stepwire.workflow import Context, DictState


async def test_reads_of_the_state_answer_once_its_commit_is_done(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        with held(rpc.store) as hold:
            setting = asyncio.ensure_future(set_state(rpc, run_id, "k", "new"))
            await hold.arrived(1)
            reading = asyncio.ensure_future(state_of(rpc, run_id, "k"))
            await settle(rpc)
            assert not reading.done()
            await hold.pass_all()
            assert await reading == "new"
            await setting


async def test_reads_of_the_state_see_what_a_step_has_set_so_far(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> None:
        await ctx.store.set("k", 1)
        await stay(flow, ctx)

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        assert await state_of(rpc, run_id, "k") == 1
        flow.gate.opened.set()


async def test_reads_of_a_snapshot_give_the_last_committed(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, run_id)).last_sequence
        with held(rpc.store) as hold:
            setting = asyncio.ensure_future(set_state(rpc, run_id, "k", "new"))
            publishing = asyncio.ensure_future(publish(rpc, run_id, "x"))
            await hold.arrived(1)
            snapshot = await snapshot_of(rpc, run_id)
            assert (snapshot.sequence, dict(snapshot.state_json)) == (before, {})
            while not (setting.done() and publishing.done()):
                await hold.pass_all()
                await asyncio.sleep(0)
        snapshot = await snapshot_of(rpc, run_id)
        assert (snapshot.sequence, dict(snapshot.state_json)) == (before + 1, {"k": b'"new"'})


async def test_reads_go_on_while_nothing_can_be_committed(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, run_id)).last_sequence
        with held(rpc.store) as hold:
            starting = asyncio.ensure_future(rpc.start("flow", {}))
            await hold.arrived(1)
            assert await state_of(rpc, run_id) == {}
            assert len(await rpc.log(run_id)) == before
            assert await _ids(rpc) == [run_id]
        await starting


async def _ids(rpc: Rpc) -> list[str]:
    return [run.run_id for run in (await rpc.runs.ListRuns(runs.ListRunsRequest())).runs]


async def test_reads_of_a_run_that_is_not_in_memory_need_no_write(tmp_path: Path, monkeypatch: Any) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        last = (await asked(rpc, run_id)).last_sequence
        etag = await set_state(rpc, run_id, "k", "v")
        assert [run.release() for run in rpc.pool] == [True]

        async def full(*_: Any) -> None:
            raise StoreUnavailableError("database or disk is full", full=True)

        for write in ("claim", "commit"):
            monkeypatch.setattr(rpc.store, write, full)
        answer = await rpc.states.GetState(states.GetStateRequest(run_id=run_id, path="k", encoding=JSON))
        assert (json.loads(answer.value.json), answer.etag) == ("v", etag)
        assert (await snapshot_of(rpc, run_id)).sequence == last
        for name in READS:
            await PROBES[name].call(rpc, run_id)
        assert len(await rpc.log(run_id)) == last
        assert len(rpc.pool) == 0


READS = [
    "GetRun", "ListRuns", "WaitRun", "WaitForEvent", "WaitForEvent from the start", "StreamEvents", "Converse",
    "GetState", "GetSnapshot", "ListSnapshots", "ApplyToRuns", "ListWorkflows", "GetWorkflow",
]  # fmt: skip
"""The calls that change nothing."""

Call = Callable[[Rpc, str], Awaitable[Any]]


async def _delete(rpc: Rpc, run_id: str) -> Any:
    return await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id))


async def _cancel(rpc: Rpc, run_id: str) -> Any:
    return await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id))


def _of_a_run() -> dict[str, Call]:
    """Return a call of each method that names a run, and of the starts that do."""
    methods = {
        method.name
        for file in (runs, states, snapshots)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if "run_id" in method.input_type.fields_by_name
    } - {"StartRun"}
    found: dict[str, Call] = {
        probe.method: probe.call for probe in reversed(PROBES.values()) if probe.method in methods
    }
    assert found.keys() == methods
    also = ("Converse", "StartRun from a run")
    return found | {name: PROBES[name].call for name in also} | {"GetSnapshot at 1": _first_snapshot}


async def _first_snapshot(rpc: Rpc, run_id: str) -> Any:
    return await snapshot_of(rpc, run_id, 1)


OF_A_RUN = _of_a_run()


@pytest.mark.parametrize("deleted", ["by DeleteRun", "by pruning", "beside the call"])
async def test_a_deleted_run_is_not_found_whatever_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: str
) -> None:
    async def instant(flow: Flow, ctx: Context[DictState]) -> str:
        return "done"

    async with life(tmp_path, Flow(instant)) as rpc:
        for name, call in OF_A_RUN.items():
            run_id = (await rpc.start("flow", {})).run_id
            await rpc.ended(run_id)
            follower = await rpc.pool.feeds.open(ANONYMOUS.key(run_id))
            if deleted == "by DeleteRun":
                await _delete(rpc, run_id)
            elif deleted == "by pruning":
                assert await rpc.store.prune(keep_last=0) == 1
            elif name in ("GetState", "GetSnapshot", "GetSnapshot at 1", "ListSnapshots"):
                # The run goes after its record was read.
                look_up = rpc.pool.records.look_up

                async def read_and_delete(key: Any, look_up: Any = look_up) -> Any:
                    record = await look_up(key)
                    await rpc.store.delete(key)
                    return record

                monkeypatch.setattr(rpc.pool.records, "look_up", read_and_delete)
            else:
                continue
            assert (await refused(call(rpc, run_id))).reason == "RUN_NOT_FOUND", name
            monkeypatch.undo()
            rpc.pool.feeds.close(ANONYMOUS.key(run_id), follower)


FLOW, OTHER = (Principal("p", "default", Scopes([f"write:{name}"])) for name in ("flow", "other"))


@pytest.mark.parametrize("caller", [ANONYMOUS, FLOW], ids=["unrestricted", "restricted"])
@pytest.mark.parametrize("ended", [False, True], ids=["waiting", "ended"])
async def test_reads_of_a_record_are_one_for_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caller: Principal, ended: bool
) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        if ended:
            await _cancel(rpc, run_id)
    async with life(tmp_path, Flow(ask)) as rpc:
        reads = 0
        get = rpc.store.get

        async def count(key: Any) -> Any:
            nonlocal reads
            reads += 1
            return await get(key)

        monkeypatch.setattr(rpc.store, "get", count)
        found = await rpc.pool.reach(caller, run_id)
        assert isinstance(found, RunRecord) is ended
        assert reads == 1


async def test_reads_of_callers_that_see_different_workflows_meet_in_one_load(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        for callers in ([OTHER, FLOW, OTHER, ANONYMOUS], [FLOW, OTHER, ANONYMOUS], [OTHER, ANONYMOUS, FLOW]):
            for run in rpc.pool:
                await run.commits.wait()
                assert run.release()
            found = await asyncio.gather(
                *(rpc.pool.reach(caller, run_id) for caller in callers), return_exceptions=True
            )
            for caller, answer in zip(callers, found, strict=True):
                assert isinstance(answer, RunNotFoundError if caller is OTHER else LiveRun), (caller, answer)


async def test_reads_of_a_run_whose_load_has_just_failed_begin_another_load(tmp_path: Path) -> None:
    """Between the failure of a load and the next turn of the loop the pool still knows the load."""
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        for run in rpc.pool:
            await run.commits.wait()
            assert run.release()
        failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        failed.set_exception(RunNotFoundError(run_id))
        failed.exception()
        rpc.pool.loads._loading[ANONYMOUS.key(run_id)] = failed
        assert isinstance(await rpc.pool.reach(ANONYMOUS, run_id), LiveRun)
