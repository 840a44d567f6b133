"""Children that are to go on when their parent ends are started even if that is over before their start is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import BEGUN, GATE, Finish, Given, Inner, Outer, children_of, runs_of, until

from stepwire.client import RunFailedError, RunInfo, RunStatus, SyncClient
from stepwire.server.store import RunKey
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context, StopEvent, Workflow, step


@pytest.fixture(autouse=True)
def _afresh() -> None:
    BEGUN.clear()
    GATE.clear()


async def fire(outer: Outer, ctx: Context, ev: Given) -> Any:
    """Start runs and end: nobody waits for them."""
    for number in range(ev.n):
        ctx.start_run("Inner", text=f"t{number}", parent_close="abandon", labels={"number": str(number)})
    ctx.start_run("Inner", text="closed")
    if ev.how == "raise":
        raise ValueError("so it ends")
    return "fired"


def completed(client: SyncClient, run_id: str, count: int) -> list[RunInfo]:
    """Wait until so many children have completed; return them."""
    until(
        lambda: sum(each.status is RunStatus.COMPLETED for each in children_of(client, run_id)) == count, "the children"
    )
    return children_of(client, run_id)


def undone(server: RunningServer, run_id: str) -> bool:
    record = server._call(runs_of(server).pool.store.get(RunKey("default", run_id)))
    return any(each.startswith("undone=") for each in record.terms)


@pytest.mark.parametrize("killed", [False, True])
def test_children_that_are_left_to_themselves_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    with serve(Outer(fire), Inner, data=tmp_path, settings={"max_children": 2}) as server, server.client() as client:
        with monkeypatch.context() as patched:
            if killed:
                patched.setattr(type(runs_of(server).family), "ended", lambda *_: None)
            run_id = client.start_run("Outer", n=5).run_id
            assert client.run(run_id).result(timeout=60) == "fired"
            if killed:
                server.kill()
                server.start()
        children = completed(client, run_id, 5)
        assert sorted(each.labels["number"] for each in children if each.status is RunStatus.COMPLETED) == list("01234")
        parent = children[0].parent
        assert parent is not None
        assert (parent.run_id, parent.step) == (run_id, "go")
        until(lambda: not undone(server, run_id), "the end of what is to be done")
        server.restart()
        assert len([each for each in children_of(client, run_id) if each.labels]) == 5
        assert [BEGUN[f"inner t{number}"] for number in range(5)] == [1] * 5
        summary = client.run(run_id).info().children
        assert summary is not None
        assert (summary.total, summary.unfinished, summary.cancelled) == (6, 5, 1)


def test_children_that_are_left_to_themselves_are_started_though_their_parent_fails() -> None:
    with serve(Outer(fire), Inner) as server, server.client() as client:
        run = client.start_run("Outer", n=1, how="raise")
        with pytest.raises(RunFailedError):
            run.result(timeout=60)
        until(lambda: BEGUN["inner t0"])
        assert len([each for each in children_of(client, run.run_id) if each.labels]) == 1


def test_a_delete_of_the_parent_starts_them_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Outer(fire), Inner) as server, server.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(type(runs_of(server).family), "ended", lambda *_: None)
            run = client.start_run("Outer", n=2)
            assert run.result(timeout=60) == "fired"
        run.delete()
        completed(client, run.run_id, 2)


def test_a_blocked_parent_that_is_cancelled_starts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        ctx.start_run("Inner", text="on", parent_close="abandon")
        await ctx.wait_for_event(Finish, timeout=None)

    class Other(Workflow):
        @step
        async def other(self, ev: Given) -> StopEvent:
            return StopEvent()

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(type(runs_of(server).family), "carry_out", lambda *_: None)
            run_id = client.start_run("Outer").run_id
            until(lambda: server.history(run_id)[-1].kind.endswith("child"), "the start in the ledger")
            server.kill()
        server.start(Inner, Outer=Other())
        until(lambda: client.run(run_id).info().status is RunStatus.BLOCKED, "the block")
        client.run(run_id).cancel()
        completed(client, run_id, 1)
