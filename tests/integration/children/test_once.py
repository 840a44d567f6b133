"""Durable children are started once, and their ends are told once, whatever crashes or fails in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import (
    BEGUN,
    Finish,
    Given,
    Inner,
    Outer,
    children_of,
    runs_of,
    undone,
    until,
)

from stepwire.client import RunStatus, SyncClient
from stepwire.server.runs.errors import InvalidError, LimitError
from stepwire.server.runs.family.child_ends import ChildEnds
from stepwire.server.runs.hosting.commits.run_commits import RunCommits
from stepwire.server.store import RunKey, StoreCorruptError
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context
from stepwire.workflow.errors import (
    ChildRunError,
)


def test_a_child_is_started_once_however_often_its_step_begins(tmp_path: Path) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        first = await outer.inner.run(text="first")
        second = await outer.inner.run(text="second", how="ask")
        same = await asyncio.gather(*(outer.inner.run(text="same") for _ in range(3)))
        return [first, second, same]

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        for _ in range(3):
            until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")
            server.restart(kill=True)
        child = children_of(client, run_id)[-1]
        client.run(child.run_id).context.send_event(("Answer", {"text": "second"}))
        assert client.run(run_id).result() == ["FIRST", "second second", ["SAME", "SAME", "SAME"]]
        assert len(children_of(client, run_id)) == 5
        assert (BEGUN["inner first"], BEGUN["inner same"]) == (1, 3)
        assert BEGUN["outer"] == 2, "a run that waits for a child is not begun again by a restart"


def test_a_start_that_a_crash_prevented_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a")

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(type(runs_of(server).family), "carry_out", lambda *_: None)
            run_id = client.start_run("Outer").run_id
            until(lambda: server.history(run_id)[-1].kind.endswith("child"), "the start in the ledger")
            assert children_of(client, run_id) == []
            server.kill()
        server.start()
        assert client.run(run_id).result() == "A"
        assert len(children_of(client, run_id)) == 1


def test_an_end_that_a_crash_kept_from_the_parent_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a", how="ask")

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
        until(lambda: client.run(run_id).info().status is RunStatus.WAITING)
        with monkeypatch.context() as patched:
            patched.setattr(type(runs_of(server).family), "ended", lambda *_: None)
            client.run(child.run_id).context.send_event(("Answer", {"text": "a"}))
            assert client.run(child.run_id).result() == "a a"
            server.kill()
        server.start()
        assert client.run(run_id).result() == "a a"
        assert BEGUN["inner a"] == 1 or BEGUN["inner a"] == 2  # the kill may have lost the attempt that was answered


def test_an_end_is_told_though_the_parent_left_memory_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a", how="ask")

    with serve(Outer(act), Inner) as server, server.client() as client:
        run_id, child = _untold(server, client, monkeypatch)
        family = runs_of(server).family
        find = family.ends.outcome

        async def release_first(record: Any) -> Any:
            outcome = await find(record)
            if (parent := runs_of(server).pool.in_memory(RunKey("default", run_id))) is not None:
                assert parent.release()
            return outcome

        monkeypatch.setattr(family.ends, "outcome", release_first)
        server._call(family.ends.take_end(RunKey("default", run_id), child))
        assert client.run(run_id).result() == "a a"


def test_a_parent_is_told_of_a_child_that_was_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(ChildRunError, match="was deleted before its parent heard of its end"):
            await outer.inner.run(text="a", how="ask")
        return "told"

    with serve(Outer(act), Inner) as server, server.client() as client:
        run_id, child = _untold(server, client, monkeypatch)
        server._call(runs_of(server).pool.store.delete(RunKey("default", child)))
        server._call(runs_of(server).family.ends.take_end(RunKey("default", run_id), child))
        assert client.run(run_id).result() == "told"


def test_an_end_counts_as_told_only_once_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        text = await outer.inner.run(text="a", how="ask")
        await ctx.wait_for_event(Finish, timeout=None)
        return text

    with serve(Outer(act), Inner) as server, server.client() as client:
        run_id, child = _untold(server, client, monkeypatch)
        take_end = runs_of(server).family.ends.take_end
        server._call(take_end(RunKey("default", run_id), child))
        waited = []
        wait = RunCommits.wait

        async def noted(commits: RunCommits) -> None:
            waited.append(commits.hosted.context.run_id)
            await wait(commits)

        with monkeypatch.context() as patched:
            patched.setattr(RunCommits, "wait", noted)
            server._call(take_end(RunKey("default", run_id), child))
        assert run_id in waited
        client.run(run_id).context.send_event(("Finish", {}))
        assert client.run(run_id).result() == "a a"


def test_a_record_that_cannot_be_told_keeps_no_other_one_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a", how="ask")

    async def fails_once(ends: ChildEnds, record: Any, outcome: Any = None) -> bool:
        if record.key.run_id == failing and not failed:
            failed.append(record.key.run_id)
            raise ValueError("no telling")
        return await tell(ends, record, outcome)

    failed: list[str] = []
    tell = ChildEnds.tell
    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        with monkeypatch.context() as patched:
            pairs = [_untold(server, client, patched) for _ in range(3)]
            server.kill()
        failing = pairs[1][1]
        monkeypatch.setattr(ChildEnds, "tell", fails_once)
        monkeypatch.setattr("stepwire.server.runs.family.outstanding._SWEEP_SECONDS", 0.2)
        server.start()
        until(lambda: not undone(server), "the next look at what is to be done")
        assert failed == [failing]
        assert [client.run(run_id).result() for run_id, _ in pairs] == ["a a"] * 3


def test_the_end_of_a_child_whose_snapshot_is_damaged_is_told_as_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(ChildRunError, match="what it came to is damaged"):
            await outer.inner.run(text="a", how="ask")
        return "told"

    with serve(Outer(act), Inner) as server, server.client() as client:
        run_id, child = _untold(server, client, monkeypatch)
        store = runs_of(server).pool.store
        load = type(store).load

        def damaged(self: Any, key: RunKey, *rest: Any) -> Any:
            if key.run_id == child:
                raise StoreCorruptError("its snapshot is damaged")
            return load(self, key, *rest)

        monkeypatch.setattr(type(store), "load", damaged)
        server._call(runs_of(server).family.ends.take_end(RunKey("default", run_id), child))
        assert client.run(run_id).result() == "told"


def test_a_refusal_that_passes_is_no_end_of_a_start_a_cancel_or_a_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        ctx.start_run("Inner", text="closed", how="ask")
        return await outer.inner.run(text="a")

    refused: list[str] = []

    def refuse_once(what: str, at: Any) -> None:
        do = getattr(at, what)

        async def refuse(*args: Any) -> Any:
            if what not in refused:
                refused.append(what)
                raise LimitError("The server's storage is full", retry_after=0.01)
            return await do(*args)

        monkeypatch.setattr(at, what, refuse)

    with serve(Outer(act), Inner) as server, server.client() as client:
        family = runs_of(server).family
        refuse_once("start", family.local)
        refuse_once("cancel", family.local)
        refuse_once("_take", family.ends)
        run = client.start_run("Outer")
        assert run.result() == "A"
        until(lambda: not undone(server), "the end of what is to be done")
        assert sorted(refused) == ["_take", "cancel", "start"]
        assert {child.status for child in children_of(client, run.run_id)} == {
            RunStatus.COMPLETED,
            RunStatus.CANCELLED,
        }


def test_children_count_as_cancelled_only_once_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        for number in range(3):
            ctx.start_run("Inner", text=str(number), how="ask")
        await ctx.wait_for_event(Finish, timeout=None)
        return "done"

    refused: list[str] = []
    monkeypatch.setattr("stepwire.server.runs.family.outstanding._SWEEP_SECONDS", 0.2)
    with serve(Outer(act), Inner) as server, server.client() as client:
        calls = runs_of(server).family.local
        cancel = calls.cancel

        async def refuse_first(caller: Any, run_id: str, reason: str) -> None:
            if not refused:
                refused.append(run_id)
                raise InvalidError("INVALID_REQUEST", "No")
            await cancel(caller, run_id, reason)

        monkeypatch.setattr(calls, "cancel", refuse_first)
        run = client.start_run("Outer")
        until(lambda: len([each for each in children_of(client, run.run_id) if each.pending_waiters]) == 3)
        run.context.send_event(("Finish", {}))
        assert run.result() == "done"
        until(lambda: not undone(server), "the end of what is to be done")
        assert {child.status for child in children_of(client, run.run_id)} == {RunStatus.CANCELLED}


def _untold(server: RunningServer, client: SyncClient, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Start a run whose child ends, which nobody tells it from then on; return the ids of both."""
    monkeypatch.setattr(type(runs_of(server).family), "ended", lambda *_: None)
    run_id: str = client.start_run("Outer").run_id
    child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
    until(lambda: client.run(run_id).info().status is RunStatus.WAITING)
    client.run(child.run_id).context.send_event(("Answer", {"text": "a"}))
    assert client.run(child.run_id).result() == "a a"
    return run_id, child.run_id
