"""The commit: one transaction for what a run did, and nothing is seen before it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from tests.integration.durability.flows import Flow, Note, ask, stay
from tests.integration.durability.support import (
    asked,
    held,
    key_of,
    life,
    parts_of,
    publish,
    reaching,
    result,
    set_state,
    settle,
    state_of,
    until,
)
from tests.integration.rpc_serving import event, refused
from tests.serving import ServerProcess

from stepwire.server.store import SqliteStore
from stepwire.workflow import Context, DictState


async def test_commit_nothing_is_seen_before_the_commit_that_contains_it(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        before = (await asked(rpc, run_id)).last_sequence
        frame = asyncio.ensure_future(rpc.stream(run_id, before).read())
        await settle(rpc)
        with held(rpc.store) as hold:
            calls: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(publish(rpc, run_id, "new")),
                asyncio.ensure_future(set_state(rpc, run_id, "k", 1)),
            ]
            await hold.arrived(1)
            # Only a read that comes after a change sees what is not committed yet.
            calls.append(asyncio.ensure_future(state_of(rpc, run_id)))
            await settle(rpc)
            assert not any(call.done() for call in (*calls, frame))
            assert (await rpc.get(run_id)).last_sequence == before
            assert [entry.sequence for entry in await rpc.log(run_id)] == list(range(1, before + 1))
            while not all(call.done() for call in calls):
                await hold.pass_all()
                await asyncio.sleep(0)
        assert await calls[0] == before + 1
        assert (await frame).events.to_sequence == before + 1


async def test_commit_a_run_does_not_exist_before_its_first_commit(tmp_path: Path) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        with held(rpc.store) as hold:
            starting = asyncio.ensure_future(rpc.start("flow", {}, run_id="r"))
            await hold.arrived(1)
            await settle(rpc)
            assert not starting.done()
            assert (await refused(rpc.get("r"))).reason == "RUN_NOT_FOUND"
            assert flow.attempts == 0
            await hold.pass_all()
            assert (await starting).run_id == "r"
        assert (await rpc.get("r")).run_id == "r"


async def test_commit_a_result_is_told_after_its_commit(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        ending = asyncio.ensure_future(rpc.ended(run_id))
        with held(rpc.store) as hold:
            answered = asyncio.ensure_future(rpc.send(run_id, event("Answer", n=4)))
            await hold.arrived(1)
            while "outcome" not in parts_of(hold.commits[-1])["h"]:
                await hold.pass_one()
                await hold.arrived(len(hold.commits) + 1)
            await settle(rpc)
            assert answered.done()
            assert not ending.done()
            await hold.pass_all()
            assert result(await ending) == 4


async def test_commit_one_is_in_flight_per_run(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        one, other = (await rpc.start("flow", {})).run_id, (await rpc.start("flow", {})).run_id
        await asked(rpc, one)
        await asked(rpc, other)
        with held(rpc.store) as hold:
            calls = [asyncio.ensure_future(publish(rpc, one, str(n))) for n in range(8)]
            await hold.arrived(1)
            await settle(rpc)
            assert len(hold.commits) == 1
            calls.append(asyncio.ensure_future(publish(rpc, other, "x")))  # another run's need not wait for it
            await hold.arrived(2)
            assert hold.commits[1].record.key.run_id == other
            await hold.pass_one()
            await hold.arrived(3)
            await settle(rpc)
            # What came meanwhile is one commit.
            assert len(hold.commits) == 3
            await hold.pass_all()
            await asyncio.gather(*calls)
        assert [entry.sequence for entry in await rpc.log(one)][-8:] == list(range(4, 12))


async def test_commit_runs_are_committed_in_groups(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(stay)) as rpc:
        store = rpc.store
        assert isinstance(store, SqliteStore)
        statements: list[str] = []
        held, go = threading.Event(), threading.Event()

        def block(connection: Any) -> None:
            connection.set_trace_callback(statements.append)
            held.set()
            go.wait(60)

        given = 0
        commit = store._writer.commit

        def count(commit_: Any) -> Any:
            nonlocal given
            given += 1
            return commit(commit_)

        store._writer.commit = count  # type: ignore[method-assign,assignment]
        blocked = store._writer.run(block)
        assert await asyncio.to_thread(held.wait, 60)
        starts = [asyncio.ensure_future(rpc.start("flow", {})) for _ in range(20)]
        await until(lambda: given >= 20)
        await settle(rpc)  # what was given is handed over at the end of the loop's turn
        go.set()
        await blocked
        await asyncio.gather(*starts)
        # One statement is one transaction.
        groups = [text.count("'flow'") for text in statements if text.startswith("INSERT INTO incoming")]
        assert groups[0] == 20


async def test_commit_everything_acknowledged_is_there_after_sigkill(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, ["tests.integration.rpc_flows:Ask=ask"]) as process:
        async with reaching(process) as rpc:
            run_id = (await rpc.asking()).run_id
            await asyncio.gather(*(rpc.send(run_id, event("Note", n=n), request_id=f"n{n}") for n in range(20)))
            await set_state(rpc, run_id, "mine", {"a": [1, 2]})
            before = await rpc.log(run_id)
            run = await rpc.get(run_id)
        process.restart(kill=True)
        async with reaching(process) as rpc:
            after = await rpc.log(run_id)
            assert after[: len(before)] == before
            assert [entry.sequence for entry in after] == list(range(1, len(after) + 1))
            assert await state_of(rpc, run_id, "mine") == {"a": [1, 2]}
            assert list((await rpc.get(run_id)).pending_waiters) == list(run.pending_waiters)
            again = await rpc.send(run_id, event("Note", n=3), request_id="n3")
            assert again.sequence in {entry.sequence for entry in before}
            await rpc.answer(run_id)
            assert sum(entry.type == "Note" for entry in await rpc.log(run_id)) == 20


async def test_commit_a_log_of_many_entries_is_kept_in_chunks(tmp_path: Path) -> None:
    async def write(flow: Flow, ctx: Context[DictState]) -> None:
        for n in range(600):
            ctx.write_event_to_stream(Note(text=str(n)))

    async with life(tmp_path, Flow(write)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await rpc.ended(run_id)
        chunks = await rpc.store.entries(key_of(run_id), 0)
        assert all(chunk.last - chunk.first < 256 for chunk in chunks)
        assert [chunk.first for chunk in chunks[1:]] == [chunk.last + 1 for chunk in chunks[:-1]]
        # The bytes of a chunk hold public entries apart from internal ones.
        assert chunks[0].internal is not None
        assert b"StartEvent" in chunks[0].internal
        assert all(b"StartEvent" not in (chunk.public or b"") for chunk in chunks)
