"""No run is deleted before its parent was told of its end and its children are cancelled; damage ends waits."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.integration.children.family import Given, Inner, Outer, children_of, in_memory, runs_of, until

from stepwire.client import FailedPreconditionError, InternalServerError, RunStatus, SyncClient
from stepwire.server.principal import Principal
from stepwire.server.runs.errors import StoreDownError
from stepwire.server.runs.hosting.loading.from_store import RunLoader
from stepwire.server.store import RunKey, SqliteStore, StoreCorruptError
from stepwire.server.store.terms import CLOSE, TELL
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context
from stepwire.workflow.errors import ChildRunError


async def ask(outer: Outer, ctx: Context, ev: Given) -> Any:
    return await outer.inner.run(text="a", how="ask")


def untold(server: RunningServer, client: SyncClient, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Have a child end of which its parent is not told; return the ids of both."""
    run_id: str = client.start_run("Outer").run_id
    child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
    until(lambda: client.run(run_id).info().status is RunStatus.WAITING)
    with monkeypatch.context() as patched:
        patched.setattr(type(runs_of(server).family), "ended", lambda *_: None)
        client.run(child.run_id).context.send_event(("Answer", {"text": "a"}))
        assert client.run(child.run_id).result() == "a a"
    return run_id, child.run_id


def terms_of(server: RunningServer, run_id: str) -> tuple[str, ...]:
    record = server._call(runs_of(server).pool.store.get(RunKey("default", run_id)))
    return () if record is None else record.terms


# -- deletes --------------------------------------------------------------------------------------------------------


def test_a_delete_tells_the_parent_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Outer(ask), Inner) as server, server.client() as client:
        run_id, child = untold(server, client, monkeypatch)
        assert TELL in terms_of(server, child)
        client.run(child).delete()
        assert client.run(run_id).result(timeout=60) == "a a"
        assert [each.run_id for each in client.list_runs()] == [run_id]


def test_a_delete_of_many_runs_tells_the_parents_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Outer(ask), Inner) as server, server.client() as client:
        pairs = [untold(server, client, monkeypatch) for _ in range(3)]
        *_, last = client.apply_to_runs("delete", workflow="Inner")
        assert last.done == 3
        assert [client.run(run_id).result(timeout=60) for run_id, _ in pairs] == ["a a"] * 3


def test_retention_keeps_a_child_until_its_parent_was_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serve(Outer(ask), Inner, data=tmp_path) as server, server.client() as client:
        run_id, child = untold(server, client, monkeypatch)
        assert server._call(runs_of(server).pool.store.prune(keep_last=0)) == 0
        server.restart(kill=True)
        assert client.run(run_id).result(timeout=60) == "a a"
        until(lambda: TELL not in terms_of(server, child), "the end of what is to be done")
        assert server._call(runs_of(server).pool.store.prune(keep_last=0)) == 2


def test_a_child_whose_parent_is_blocked_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serve(Outer(ask), Inner, data=tmp_path) as server, server.client() as client:
        run_id, child = untold(server, client, monkeypatch)
        server.kill()
        server.start(Inner)
        with pytest.raises(FailedPreconditionError, match=f"The parent {run_id} has not heard of the end"):
            client.run(child).delete()
        server.restart(Outer(ask), Inner)
        assert client.run(run_id).result(timeout=60) == "a a"
        client.run(child).delete()


def test_a_child_whose_parent_is_gone_can_be_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Outer(ask), Inner) as server, server.client() as client:
        run_id, child = untold(server, client, monkeypatch)
        client.run(run_id).cancel()
        client.run(run_id).delete()
        client.run(child).delete()
        assert list(client.list_runs()) == []


def test_a_delete_cancels_the_children_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Outer(ask), Inner) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
        with monkeypatch.context() as patched:
            patched.setattr(type(runs_of(server).family), "ended", lambda *_: None)
            client.run(run_id).cancel()
        assert CLOSE in terms_of(server, run_id)
        assert server._call(runs_of(server).pool.store.prune()) == 0
        client.run(run_id).delete()
        assert client.run(child.run_id).info().status is RunStatus.CANCELLED


def test_a_delete_is_refused_while_a_child_cannot_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Outer(ask), Inner) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
        with monkeypatch.context() as patched:
            patched.setattr("stepwire.server.runs.family.child_ends._SETTLE_SECONDS", 0.2)  # this delete waits in vain
            down = StoreDownError("down")

            async def fail(*_: Any) -> None:
                raise down

            patched.setattr(runs_of(server).family.local, "cancel", fail)
            client.run(run_id).cancel()
            with pytest.raises(StoreDownError, match="retry"):
                server._call(runs_of(server).lifecycle.delete(Principal("", "default"), run_id))
        client.run(run_id).delete()
        assert client.run(child.run_id).info().status is RunStatus.CANCELLED


# -- damage ---------------------------------------------------------------------------------------------------------


def test_a_damaged_record_of_a_child_fails_the_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        good = outer.inner.run(text="good", how="ask")
        with pytest.raises(ChildRunError, match="its record is damaged"):
            await outer.inner.run(text="bad", how="ask")
        return await good

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        until(lambda: len([each for each in children_of(client, run_id) if each.pending_waiters]) == 2, "the questions")
        until(lambda: client.run(run_id).info().status is RunStatus.WAITING)
        asked = {each.pending_waiters[0].requirements["text"]: each for each in children_of(client, run_id)}
        good, bad = asked["good"], asked["bad"]
        server.kill()
        store_type = SqliteStore
        get, records = store_type.get, store_type.records

        async def damaged_get(self: Any, key: RunKey) -> Any:
            if key.run_id == bad.run_id:
                raise StoreCorruptError(f"the record of run {key.run_id} is damaged")
            return await get(self, key)

        async def damaged_records(self: Any, keys: Any) -> Any:
            return {key: record for key, record in (await records(self, keys)).items() if key.run_id != bad.run_id}

        monkeypatch.setattr(store_type, "get", damaged_get)
        monkeypatch.setattr(store_type, "records", damaged_records)
        with caplog.at_level(logging.WARNING, "stepwire.runs"):
            server.start()
            client.run(run_id).reload()
            client.run(good.run_id).context.send_event(("Answer", {"text": "good"}))
            assert client.run(run_id).result(timeout=60) == "good good"
        told = [each for each in caplog.records if "is taken for failed" in each.getMessage()]
        assert len(told) == 1
        assert bad.run_id in told[0].getMessage()


def park_both(server: RunningServer, client: SyncClient) -> tuple[str, str]:
    """Have a run and its child leave memory, both of which wait; return their ids."""
    run_id: str = client.start_run("Outer").run_id
    child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
    until(lambda: not in_memory(server), "the release")
    return run_id, child.run_id


def damage(data: Path, run_id: str) -> None:
    with closing(sqlite3.connect(data / "stepwire.db")) as database, database:
        database.execute("UPDATE runs SET info = replace(info, 'Inner', 'inner') || ' ' WHERE run_id = ?", (run_id,))


async def ask_and_tell(outer: Outer, ctx: Context, ev: Given) -> Any:
    with pytest.raises(ChildRunError, match="its record is damaged"):
        await outer.inner.run(text="a", how="ask")
    return "told"


@pytest.mark.parametrize("found", ["by a start", "by a call", "by a list"])
def test_a_parent_that_is_parked_hears_of_the_damage_of_its_child_from_whoever_finds_it(
    tmp_path: Path, found: str
) -> None:
    settings = {"idle_after": 0.1}
    with (
        serve(Outer(ask_and_tell), Inner, data=tmp_path, settings=settings) as server,
        server.client() as client,
    ):
        run_id, child = park_both(server, client)
        if found == "by a start":
            server.stop()
        damage(tmp_path, child)
        if found == "by a start":
            server.start()
        elif found == "by a list":
            assert children_of(client, run_id) == []
        else:
            with pytest.raises(InternalServerError):
                client.run(child).info()
        assert client.run(run_id).result(timeout=60) == "told"


def test_a_store_that_fails_is_asked_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    with serve(Outer(ask), Inner) as server, server.client() as client:
        family = runs_of(server).family
        start, failures = family.local.start, [StoreDownError("down") for _ in range(8)]

        async def fail(*args: Any) -> None:
            if failures:
                raise failures.pop()
            await start(*args)

        monkeypatch.setattr(family.local, "start", fail)
        monkeypatch.setattr("stepwire.server.runs.family.backoff.asyncio", SimpleNamespace(sleep=noted))
        with caplog.at_level(logging.WARNING, "stepwire.runs"):
            run_id = client.start_run("Outer").run_id
            until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")
        waits = [each for each in slept if each]
        assert waits[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
        assert len([each for each in caplog.records if "cannot be started yet" in each.getMessage()]) == 1


def test_a_damaged_record_of_the_run_that_crashed_the_process_keeps_no_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged(*_: Any) -> None:
        raise StoreCorruptError("the record of a run is damaged")

    with serve(Outer(ask), Inner, data=tmp_path) as server, server.client() as client:
        run_id, _ = untold(server, client, monkeypatch)
        server.kill()
        monkeypatch.setattr(RunLoader, "note_crash", damaged)
        server.start()
        assert client.run(run_id).result(timeout=60) == "a a"
