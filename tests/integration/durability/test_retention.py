"""Retention: ended runs go by age and count, snapshots are thinned, runs are deleted; no writer waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.durability.flows import Flow, Note, ask
from tests.integration.durability.support import (
    advance,
    apply_retention,
    asked,
    crash,
    fork,
    kept_snapshots,
    key_of,
    life,
    publish,
    refused_reason,
    result,
    set_state,
    snapshot_of,
    state_of,
    until,
)
from tests.integration.rpc_serving import JSON, Rpc, event, payload, refused, registry_of

from stepwire.server.config import RetentionRule
from stepwire.server.runs.errors import RunNotFoundError
from stepwire.server.store import SqliteStore
from stepwire.v1 import run_service_pb2 as runs
from stepwire.workflow import Context, DictState


async def instant(flow: Flow, ctx: Context[DictState]) -> str:
    return "done"


async def end_some(rpc: Rpc, workflow: str, count: int) -> list[str]:
    """Run runs to their ends, one after the other."""
    ids = []
    for _ in range(count):
        ids.append((await rpc.start(workflow, {})).run_id)
        await rpc.ended(ids[-1])
    return ids


async def left(rpc: Rpc) -> set[str]:
    return {run.run_id for run in (await rpc.runs.ListRuns(runs.ListRunsRequest(page_size=1000))).runs}


async def test_retention_by_age_and_count_of_each_workflow(tmp_path: Path) -> None:
    registry = registry_of(a=Flow(instant), b=Flow(instant), c=Flow(instant), waits=Flow(ask))
    rules = {"a": RetentionRule(age=3600.0), "b": RetentionRule(runs=2)}
    async with life(tmp_path, registry, retention_workflows=rules) as rpc:
        waiting = (await rpc.start("waits", {})).run_id
        await asked(rpc, waiting)
        old = await end_some(rpc, "a", 3)
        advance(3000)
        young = await end_some(rpc, "a", 1)
        counted = await end_some(rpc, "b", 5)
        kept = await end_some(rpc, "c", 3)
        advance(1000)
        assert await apply_retention(rpc) == 3 + 3
        assert await left(rpc) == {waiting, *young, *counted[3:], *kept}
        for run_id in (*old, *counted[:3]):
            assert await refused_reason(rpc.get(run_id)) == "RUN_NOT_FOUND"
            assert await refused_reason(rpc.log(run_id)) == "RUN_NOT_FOUND"
        assert await apply_retention(rpc) == 0


async def test_retention_goes_on_in_the_background(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(instant)) as rpc:
        ids = await end_some(rpc, "flow", 3)
    advance(10)
    async with life(tmp_path, Flow(instant), retention_age=5.0) as rpc:

        async def gone() -> bool:
            return not await left(rpc)

        await until(gone)
        for run_id in ids:
            assert await refused_reason(rpc.get(run_id)) == "RUN_NOT_FOUND"

        # The rows go too, a little at a time.
        async def empty() -> bool:
            assert isinstance(rpc.store, SqliteStore)
            tables = ("runs", "commits", "log", "requests", "doomed")
            counts = [
                await rpc.store._writer.run(lambda c, t=table: c.execute(f"SELECT count(*) FROM {t}").fetchone()[0])  # type: ignore[misc]
                for table in tables
            ]
            return not any(counts)

        await until(empty)


async def test_retention_blocks_no_writer(tmp_path: Path) -> None:
    async with life(tmp_path, registry_of(flow=Flow(instant), waits=Flow(ask)), retention_runs=1) as rpc:
        await asyncio.gather(*(rpc.start("flow", {}) for _ in range(300)))
        live = (await rpc.start("waits", {})).run_id
        await asked(rpc, live)

        async def ended() -> bool:
            query = runs.ListRunsRequest(workflow="flow", statuses=["RUN_STATUS_COMPLETED"], page_size=1000)
            return len((await rpc.runs.ListRuns(query)).runs) == 300

        await until(ended)
        applying = asyncio.ensure_future(apply_retention(rpc))
        written = 0
        while not applying.done():
            await publish(rpc, live, str(written))
            written += 1
        assert await applying == 299
        # Commits came between its batches.
        assert written >= 2
        assert len(await left(rpc)) == 2


async def many_commits(flow: Flow, ctx: Context[DictState]) -> int:
    answer = await ask(flow, ctx)
    await ctx.store.set("answer", answer)
    return answer


@pytest.mark.parametrize("over_a_restart", [False, True], ids=["", "over a restart"])
async def test_retention_snapshots_of_ended_runs_are_thinned(tmp_path: Path, over_a_restart: bool) -> None:
    async with life(tmp_path, Flow(many_commits)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        for n in range(30):
            await publish(rpc, run_id, str(n))
            await set_state(rpc, run_id, "k", [n] * 5000)  # so that all parts are written again now and then
        alive = await kept_snapshots(rpc, run_id)
        assert len(alive) >= 30  # one of each commit while it lives
        await rpc.send(run_id, event("Answer", n=5))
        await rpc.ended(run_id)
        last = (await rpc.get(run_id)).last_sequence
        log = await rpc.log(run_id)
        assert len(await kept_snapshots(rpc, run_id)) > len(alive)
        if over_a_restart:
            await crash(rpc)
    if over_a_restart:
        advance(3601)
    async with life(tmp_path, Flow(many_commits)) as rpc:
        if not over_a_restart:  # a start catches up with what is due later, too
            await apply_retention(rpc)
            assert len(await kept_snapshots(rpc, run_id)) > len(alive)
            advance(3601)
            await apply_retention(rpc)

        async def thinned() -> bool:
            return len(await kept_snapshots(rpc, run_id)) < 20

        await until(thinned)
        await apply_retention(rpc)  # what goes on in the background is through after that
        kept = await kept_snapshots(rpc, run_id)
        assert kept[0] == last
        for sequence in kept:
            assert (await snapshot_of(rpc, run_id, sequence)).sequence == sequence
        dropped = next(sequence for sequence in alive if sequence not in kept)
        assert await refused_reason(snapshot_of(rpc, run_id, dropped)) == "SNAPSHOT_NOT_FOUND"
        assert await refused_reason(fork(rpc, run_id, dropped)) == "SNAPSHOT_NOT_FOUND"
        assert await rpc.log(run_id) == log
        assert await state_of(rpc, run_id) == {"k": [29] * 5000, "answer": 5}
        anew = (await fork(rpc, run_id, input=payload({}))).run_id
        await asked(rpc, anew)
        await rpc.send(anew, event("Answer", n=6))
        assert result(await rpc.ended(anew)) == 6


async def test_retention_delete_run_removes_it_with_its_log_and_snapshots(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {}, request_id="s")).run_id
        await asked(rpc, run_id)
        refusal = await refused(rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id)))
        assert refusal.reason == "RUN_NOT_ENDED"
        await rpc.send(run_id, event("Answer", n=1))
        await rpc.ended(run_id)
        await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id))
        for call in (
            rpc.get(run_id),
            rpc.log(run_id),
            snapshot_of(rpc, run_id),
            state_of(rpc, run_id),
            rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id)),
        ):
            assert await refused_reason(call) == "RUN_NOT_FOUND"
        assert await left(rpc) == set()
        # Its request_id went with it.
        assert (await rpc.start("flow", {}, request_id="s")).run_id != run_id


async def write_notes(flow: Flow, ctx: Context[DictState]) -> None:
    for n in range(50):
        ctx.write_event_to_stream(Note(text=str(n)))


async def test_retention_a_stream_of_a_run_that_is_deleted_ends_with_run_not_found(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_notes)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await rpc.ended(run_id)
        session = rpc.converse()
        # A reader that acknowledges nothing gets so many entries and no more.
        attach = runs.ConverseAttach(run_id=run_id, max_unacked=1, options=runs.StreamOptions(encoding=JSON))
        await session.write(runs.ConverseRequest(attach=attach))
        while (await session.read()).WhichOneof("frame") != "events":
            continue
        await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id))

        async def drain() -> None:
            while True:
                frame = await session.read()
                assert hasattr(frame, "WhichOneof"), "the stream ended without an error"
                assert frame.WhichOneof("frame") != "finished"

        assert await refused_reason(drain()) == "RUN_NOT_FOUND"


@pytest.mark.parametrize("by", ["DeleteRun", "retention"])
async def test_retention_a_new_run_under_the_id_of_a_deleted_one_has_its_own_log(tmp_path: Path, by: str) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> Any:
        if flow.attempts > 1:
            return await ask(flow, ctx)
        await flow.gate.pass_through("first")
        return await write_notes(flow, ctx)

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        await rpc.start("flow", {}, run_id="r")
        # A reader of the first one, whose client takes nothing: it does not hear of what happens to the run.
        feed = await rpc.pool.feeds.open(key_of("r"))
        flow.gate.opened.set()
        await rpc.ended("r")
        if by == "DeleteRun":
            await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id="r"))
        else:
            assert await rpc.store.prune(keep_last=0) == 1
        await rpc.start("flow", {}, run_id="r")
        run = await asked(rpc, "r")
        log = await rpc.log("r")
        assert [entry.sequence for entry in log] == list(range(1, run.last_sequence + 1))
        assert [entry.type for entry in log if entry.type] == ["StartEvent", "Prompt"]
        await rpc.send("r", event("Answer", n=5))
        assert result(await rpc.ended("r")) == 5
        log = await rpc.logged("r", after_sequence=run.last_sequence)
        assert [entry.type for entry in log] == ["Answer", "StopEvent"]
        with pytest.raises(RunNotFoundError):
            rpc.pool.feeds.record(key_of("r"), feed)
        rpc.pool.feeds.close(key_of("r"), feed)


async def test_retention_a_repeat_of_a_start_whose_run_was_deleted_starts_nothing(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(instant), retention_runs=1) as rpc:
        ids = [(await rpc.start("flow", {}, request_id=f"start {n}")).run_id for n in range(3)]
        for run_id in ids:
            await rpc.ended(run_id)
        assert await apply_retention(rpc) == 2
        assert await left(rpc) == {ids[2]}
        for n in (0, 1):
            assert await refused_reason(rpc.start("flow", {}, request_id=f"start {n}")) == "RUN_NOT_FOUND"
            assert await refused_reason(rpc.get(ids[n])) == "RUN_NOT_FOUND"
            other = rpc.start("flow", {"other": 1}, request_id=f"start {n}")
            assert await refused_reason(other) == "REQUEST_ID_REUSED"
        assert (await rpc.start("flow", {}, request_id="start 2")).run_id == ids[2]
        assert await left(rpc) == {ids[2]}
        advance(24 * 3600 + 1)
        await rpc.ended((await rpc.start("flow", {})).run_id)
        assert await apply_retention(rpc) == 1
        assert (await rpc.start("flow", {}, request_id="start 0")).run_id not in ids
