"""Children that are to go on when their parent ends are started even if that is over before their start is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import BEGUN, Finish, Given, Inner, Outer, children_of, runs_of, until

from stepwire.client import FailedPreconditionError, RunFailedError, RunInfo, RunStatus, SyncClient
from stepwire.server.principal import Principal
from stepwire.server.runs.errors import StoreDownError
from stepwire.server.runs.family.parent_close import ParentClose
from stepwire.server.store import RunKey, StoreUnavailableError
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context, StopEvent, Workflow, step


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


# -- no more than max_children at a time ------------------------------------------------------------------------------


async def fire_asking(outer: Outer, ctx: Context, ev: Given) -> Any:
    """Start runs that ask, and end."""
    for number in range(ev.n):
        ctx.start_run("Inner", text=f"t{number}", how="ask", parent_close="abandon")
    return "fired"


def asking(client: SyncClient, run_id: str, count: int) -> list[RunInfo]:
    """Wait until exactly so many children ask, and none is on its way to that; return them, oldest first."""

    def all_ask() -> list[RunInfo]:
        living = [each for each in children_of(client, run_id) if each.status is not RunStatus.COMPLETED]
        assert len(living) <= 2, "more children are under way than may be"
        return living if len(living) == count and all(each.pending_waiters for each in living) else []

    found: list[RunInfo] = until(all_ask, "the questions")
    return found


def queued(client: SyncClient, run_id: str) -> int:
    summary = client.run(run_id).info().children
    return 0 if summary is None else summary.queued


def answer(client: SyncClient, child: RunInfo) -> None:
    text = child.pending_waiters[0].requirements["text"]
    client.run(child.run_id).context.send_event(("Answer", {"text": text}))
    assert client.run(child.run_id).result(timeout=60) == f"{text} {text}"


@pytest.mark.parametrize("killed", [False, True])
def test_those_left_to_themselves_are_started_as_others_end_each_once(tmp_path: Path, killed: bool) -> None:
    settings = {"max_children": 2}
    with serve(Outer(fire_asking), Inner, data=tmp_path, settings=settings) as server, server.client() as client:
        run_id = client.start_run("Outer", n=5).run_id
        assert client.run(run_id).result(timeout=60) == "fired"
        for left in (3, 2, 1, 0):
            first, _ = asking(client, run_id, 2)
            until(lambda: queued(client, run_id) == left, "the count")  # noqa: B023
            if left:
                with pytest.raises(FailedPreconditionError, match=f"start {left} more children"):
                    client.run(run_id).delete()
            if killed:
                server.restart(kill=True)
            answer(client, first)
            client.run(first.run_id).delete()
        (last,) = asking(client, run_id, 1)
        answer(client, last)
        until(lambda: not undone(server, run_id), "the end of what is to be done")
        if not killed:  # else a child begins again that was killed
            assert [BEGUN[f"inner t{number}"] for number in range(5)] == [1] * 5
        assert [each.run_id for each in children_of(client, run_id)] == [last.run_id]
        summary = client.run(run_id).info().children
        assert summary is not None
        assert (summary.total, summary.unfinished, summary.queued, summary.cancelled) == (5, 5, 0, 0)
        client.run(run_id).delete()


def test_one_is_not_deleted_before_it_is_durable_that_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise StoreUnavailableError("the disk is full")

    settings = {"max_children": 2}
    with serve(Outer(fire_asking), Inner, data=tmp_path, settings=settings) as server, server.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(ParentClose, "_note", fail)
            run_id = client.start_run("Outer", n=3).run_id
            first, _ = asking(client, run_id, 2)
            answer(client, first)
            with pytest.raises(StoreDownError, match="does not know yet that it was started"):
                server._call(runs_of(server).lifecycle.delete(Principal("", "default"), first.run_id))
            assert server._call(runs_of(server).pool.store.prune(keep_last=0)) == 0
            server.kill()
        server.start()
        until(lambda: len(children_of(client, run_id)) == 3, "the last child")
        client.run(first.run_id).delete()
        for child in asking(client, run_id, 2):
            answer(client, child)
        until(lambda: not undone(server, run_id), "the end of what is to be done")
        assert BEGUN[f"inner {first.pending_waiters[0].requirements['text']}"] == 1
        assert len(children_of(client, run_id)) == 2
