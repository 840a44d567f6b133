"""Retention: ended runs go by age and count, snapshots are thinned, runs are deleted; no writer waits for it."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Flow, Note, ask
from tests.integration.durability.support import (
    advance,
    asked,
    crash,
    fork,
    held,
    kept_snapshots,
    key_of,
    life,
    publish,
    reaching,
    refused_reason,
    result,
    set_state,
    snapshot_of,
    state_of,
    until,
)
from tests.integration.rpc_serving import JSON, Rpc, event, payload, refused, registry_of
from tests.serving import ServerProcess
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.client import Client, OutOfRangeError, event_meta
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


async def apply(rpc: Rpc) -> int:
    """Apply the rules now, as the server does now and then."""
    return await rpc.keeper.retention.apply(rpc.pool)


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
        assert await apply(rpc) == 3 + 3
        assert await left(rpc) == {waiting, *young, *counted[3:], *kept}
        for run_id in (*old, *counted[:3]):
            assert await refused_reason(rpc.get(run_id)) == "RUN_NOT_FOUND"
            assert await refused_reason(rpc.log(run_id)) == "RUN_NOT_FOUND"
        assert await apply(rpc) == 0


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
        applying = asyncio.ensure_future(apply(rpc))
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
            await apply(rpc)
            assert len(await kept_snapshots(rpc, run_id)) > len(alive)
            advance(3601)
            await apply(rpc)

        async def thinned() -> bool:
            return len(await kept_snapshots(rpc, run_id)) < 20

        await until(thinned)
        await apply(rpc)  # what goes on in the background is through after that
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
        assert await apply(rpc) == 2
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
        assert await apply(rpc) == 1
        assert (await rpc.start("flow", {}, request_id="start 0")).run_id not in ids


async def write_much(flow: Flow, ctx: Context[DictState]) -> int:
    """Write 2,000 notes, in chunks of 256 entries, and ask."""
    for n in range(2000):
        ctx.write_event_to_stream(Note(text=str(n)))
    return await ask(flow, ctx)


async def trimmed(rpc: Rpc, run_id: str) -> tuple[int, int]:
    """Trim the logs; return what the run's has then."""
    await apply(rpc)
    run = await rpc.get(run_id)
    assert 1 < run.first_available <= run.last_sequence - 999 < run.first_available + 256
    return run.first_available, run.last_sequence


async def attach(rpc: Rpc, run_id: str, after: int) -> None:
    """Read a run's log by Converse to its present end."""
    session = rpc.converse()
    options = runs.StreamOptions(encoding=JSON)
    await session.write(
        runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id, after_sequence=after, options=options))
    )
    place, last = after, None
    while last is None or place < last:
        frame = await session.read()
        if frame.WhichOneof("frame") == "opened":
            last = frame.opened.run.last_sequence
        elif frame.WhichOneof("frame") == "events":
            assert frame.events.from_sequence == place + 1
            place = frame.events.to_sequence
    session.cancel()


def wait_for_note(rpc: Rpc, run_id: str, after: int) -> Any:
    return rpc.runs.WaitForEvent(runs.WaitForEventRequest(run_id=run_id, event_type="Note", after_sequence=after))


async def check_trimmed(rpc: Rpc, run_id: str, first: int, last: int) -> None:
    """A request for trimmed entries is told what the log still has; everything else stays as it was."""
    run = await rpc.get(run_id)
    assert (run.first_available, run.last_sequence) == (first, last)
    for after in (0, 1, first - 2):
        calls = [
            rpc.log(run_id, after_sequence=after),
            wait_for_note(rpc, run_id, after),
            attach(rpc, run_id, after),
            snapshot_of(rpc, run_id, after + 1),
            fork(rpc, run_id, after + 1, run.workflow),
        ]
        for call in calls:
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE")
            assert (refusal.facts["first_available"], refusal.facts["last_available"]) == (str(first), str(last))
    log = await rpc.log(run_id, after_sequence=first - 1)
    assert [entry.sequence for entry in log] == list(range(first, last + 1))
    assert (await wait_for_note(rpc, run_id, first - 1)).entry.sequence == first
    await attach(rpc, run_id, first - 1)
    assert (await snapshot_of(rpc, run_id)).sequence == last
    kept = await kept_snapshots(rpc, run_id)
    assert kept[0] == last
    assert min(kept) >= first


@pytest.mark.parametrize("data", ["directory", "memory"])
async def test_retention_trims_the_log_of_a_living_run(tmp_path: Path, data: str) -> None:
    where: Any = tmp_path if data == "directory" else ":memory:"
    async with life(where, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        first, last = await trimmed(rpc, run_id)
        await check_trimmed(rpc, run_id, first, last)
        await publish(rpc, run_id, "more")
        await check_trimmed(rpc, run_id, first, last + 1)
        await apply(rpc)  # nothing to do
        await check_trimmed(rpc, run_id, first, last + 1)
        if data == "directory":
            await crash(rpc)
    if data == "directory":
        async with life(tmp_path, Flow(write_much)) as rpc:
            await check_trimmed(rpc, run_id, first, last + 1)
            forked = (await fork(rpc, run_id, last)).run_id
            await rpc.send(forked, event("Answer", n=6))
            assert result(await rpc.ended(forked)) == 6
            await rpc.send(run_id, event("Answer", n=5))
            assert result(await rpc.ended(run_id)) == 5
            await check_trimmed(rpc, run_id, first, (await rpc.get(run_id)).last_sequence)


async def test_retention_trims_the_logs_of_runs_that_are_not_in_memory(tmp_path: Path) -> None:
    registry = registry_of(a=Flow(write_much), b=Flow(write_much))
    async with life(tmp_path, registry) as rpc:
        ended, waits, other = [(await rpc.start(name, {})).run_id for name in ("a", "a", "b")]
        for run_id in (ended, waits, other):
            await asked(rpc, run_id)
        await rpc.send(ended, event("Answer", n=1))
        await rpc.ended(ended)
    rules = {"a": RetentionRule(entries=1000)}
    async with life(tmp_path, registry, retention_workflows=rules) as rpc:
        for run_id in (ended, waits):
            await check_trimmed(rpc, run_id, *await trimmed(rpc, run_id))
        assert (await rpc.get(other)).first_available == 1
        assert len(await rpc.logged(other)) == 2002


async def test_retention_goes_on_trimming_in_the_background(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:

        async def is_trimmed() -> bool:
            return bool((await rpc.get(run_id)).first_available > 1)

        await until(is_trimmed)


async def test_retention_a_reader_who_is_behind_is_told_what_there_is(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        session = rpc.converse()
        attaching = runs.ConverseAttach(run_id=run_id, max_unacked=1, options=runs.StreamOptions(encoding=JSON))
        await session.write(runs.ConverseRequest(attach=attaching))
        while (await session.read()).WhichOneof("frame") != "events":
            continue
        first, last = await trimmed(rpc, run_id)

        async def go_on() -> None:
            await session.write(runs.ConverseRequest(ack=runs.ConverseAck(sequence=last)))
            while hasattr(await session.read(), "WhichOneof"):
                continue

        refusal = await refused(go_on())
        assert refusal.reason == "SEQUENCE_OUT_OF_RANGE"
        assert (refusal.facts["first_available"], refusal.facts["last_available"]) == (str(first), str(last))


async def test_retention_a_trim_while_a_commit_is_under_way_is_not_undone_by_it(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        with held(rpc.store) as hold:
            publishing = asyncio.ensure_future(publish(rpc, run_id, "meanwhile"))
            await hold.arrived(1)
            first, last = await trimmed(rpc, run_id)
            await hold.pass_all()
            await publishing
        await check_trimmed(rpc, run_id, first, last + 1)


async def test_retention_a_trimmed_log_has_room_again(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000, max_log_entries=2003) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        assert await refused_reason(publish(rpc, run_id, "too much")) == "LIMIT_EXCEEDED"
        await trimmed(rpc, run_id)
        await publish(rpc, run_id, "fits")


async def test_retention_the_command_line_shows_what_is_left_of_a_trimmed_log(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        first, last = await trimmed(rpc, run_id)
        for command in ("history", "events"):
            words = [command, run_id, "--json", "--server", rpc.server.address]
            done = await asyncio.to_thread(CliRunner().invoke, app, words)
            assert (done.exit_code, done.stderr) == (
                0,
                f"the log begins at {first}: the server no longer keeps earlier entries\n",
            )
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            assert [line["sequence"] for line in lines] == list(range(first, last + 1))
        words = ["events", run_id, "--after", "5", "--server", rpc.server.address]
        done = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert done.exit_code == 1
        assert done.stderr.endswith(f"it has {first} to {last}\n")


async def test_retention_a_client_goes_on_where_a_trimmed_log_begins(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(write_much), retention_entries=1000) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        first, last = await trimmed(rpc, run_id)
        async with Client(rpc.server.address) as client:
            run = client.run(run_id)
            with pytest.raises(OutOfRangeError) as caught:
                await anext(run.events())
            assert (caught.value.first_available, caught.value.last_available) == (first, last)
            found = [event_meta(event).sequence async for event in run.events(first - 1, internal=True, follow=False)]
            assert found == list(range(first, last + 1))
            with pytest.raises(OutOfRangeError):
                await run.snapshot(first - 1)


@pytest.mark.slow
async def test_retention_trimming_that_is_killed_leaves_a_whole_log_and_loses_nothing_above_it(tmp_path: Path) -> None:
    rng = random.Random(4)
    flows = ["tests.integration.durability.trim_flows:FLOOD=flood"]
    trimming = ServerProcess(tmp_path, flows, args=["--retention-entries", "1000"])
    resting = ServerProcess(tmp_path, flows)
    acknowledged: dict[int, str] = {}
    run_id, first = "", 1
    for _ in range(2):
        with trimming:
            async with reaching(trimming) as rpc:
                run_id = run_id or (await rpc.start("flood", {})).run_id
                for _ in range(rng.randint(8, 12)):
                    token = f"{len(acknowledged)}"
                    sent = await rpc.send(run_id, event("More", token=token), request_id=token)
                    acknowledged[sent.sequence] = token
                await asyncio.sleep(rng.uniform(0.0, 0.05))  # killed at whatever moment of trimming
                trimming.kill()
        with resting:
            async with reaching(resting) as rpc:
                run = await rpc.get(run_id)
                assert first < run.first_available <= run.last_sequence - 999
                first = run.first_available
                log = await rpc.log(run_id, after_sequence=first - 1)
                assert [entry.sequence for entry in log[: run.last_sequence - first + 1]] == list(
                    range(first, run.last_sequence + 1)
                )
                received = {
                    entry.sequence: json.loads(entry.payload.json)["token"] for entry in log if entry.type == "More"
                }
                assert received == {sequence: token for sequence, token in acknowledged.items() if sequence >= first}
                refusal = await refused(rpc.log(run_id, after_sequence=first - 2))
                assert (refusal.reason, refusal.facts["first_available"]) == ("SEQUENCE_OUT_OF_RANGE", str(first))
                kept = await kept_snapshots(rpc, run_id)
                assert first <= kept[-1]
                assert (await snapshot_of(rpc, run_id, kept[-1])).sequence == kept[-1]
                resting.kill()
