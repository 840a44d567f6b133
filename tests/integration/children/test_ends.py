"""What becomes of children when their parent ends or is retried, and how many there may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import (
    BEGUN,
    GATE,
    Answer,
    Finish,
    Given,
    Inner,
    Outer,
    Question,
    children_of,
    outcome_of,
    runs_of,
    undone,
    until,
)

from stepwire.client import RunFailedError, RunStatus
from stepwire.server.testing import serve
from stepwire.workflow import Context, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.errors import (
    ChildRunError,
)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("end", ["cancel", "complete"])
def test_children_end_with_their_parent_unless_they_are_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, killed: bool
) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        ctx.start_run("Inner", text="kept", how="ask", parent_close="abandon")
        handler = ctx.start_run("Inner", text="closed", how="ask", labels={"of": "closed"})
        if end == "cancel":
            await handler
        await ctx.wait_for_event(Finish, timeout=None)
        return "done"

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        until(lambda: len([each for each in children_of(client, run_id) if each.pending_waiters]) == 2)
        with monkeypatch.context() as patched:
            if killed:
                patched.setattr(type(runs_of(server).family), "ended", lambda *_: None)
            if end == "cancel":
                client.run(run_id).cancel()
            else:
                client.run(run_id).context.send_event(("Finish", {}))
            until(lambda: client.run(run_id).info().ended_at)
            if killed:
                server.kill()
                server.start()
        child = next(each for each in children_of(client, run_id) if each.labels)
        until(lambda: client.run(child.run_id).info().status is RunStatus.CANCELLED, "the cancel")
        outcome = client.run(child.run_id).info().outcome
        assert outcome is not None
        assert "has ended" in outcome.reason
        kept = next(each for each in children_of(client, run_id) if not each.labels)
        assert kept.status is RunStatus.WAITING
        client.run(kept.run_id).context.send_event(("Answer", {"text": "kept"}))
        assert client.run(kept.run_id).result() == "kept kept"
        until(lambda: not undone(server), "the end of what is to be done")


def test_a_retry_by_policy_keeps_children_that_completed_and_starts_others_anew() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        good = await outer.inner.run(text="good")
        if ctx.step_info().attempt == 2:
            GATE["mended"] = True
        return [good, await outer.inner.run(text="bad", how="fail")]

    assert outcome_of(act) == ["GOOD", "BAD"]
    assert (BEGUN["inner good"], BEGUN["inner bad"]) == (1, 2)


def test_a_retry_of_the_run_keeps_children_that_completed() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        good = await outer.inner.run(text="good")
        return [good, await outer.inner.run(text="bad", how="fail")]

    with serve(Outer(act), Inner) as server, server.client() as client:
        run = client.start_run("Outer")
        with pytest.raises(RunFailedError):
            run.result()
        GATE["mended"] = True
        again = run.retry()
        assert again.result() == ["GOOD", "BAD"]
        assert (BEGUN["inner good"], BEGUN["inner bad"]) == (1, 4)
        assert [child.status for child in children_of(client, again.run_id)] == [RunStatus.COMPLETED]


def test_a_workflow_that_starts_itself_without_end_is_told_the_chain() -> None:
    class Endless(Workflow):
        @step
        async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await ctx.start_run("Endless"))

    with serve(Endless, settings={"max_child_depth": 3}) as server, server.client() as client:
        with pytest.raises(RunFailedError, match="Endless -> Endless -> Endless -> Endless -> Endless"):
            client.start_run("Endless").result()
        assert len(list(client.list_runs())) == 4


def test_at_most_max_children_are_under_way_and_the_others_wait_in_order() -> None:
    most = 0

    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        nonlocal most
        handlers = [outer.inner.run(text=str(number)) for number in range(10)]
        children = runs_of(server).pool.in_memory(("default", ctx.run_id)).broker.children
        for handler in handlers:
            most = max(most, sum(child.state in ("starting", "living") for child in children))
            await handler
        return [await handler for handler in handlers]

    with serve(Outer(act), Inner, settings={"max_children": 3}) as server, server.client() as client:
        run = client.start_run("Outer")
        assert run.result() == [str(number) for number in range(10)]
        assert most == 3


def test_a_run_starts_no_more_than_its_bound() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        for number in range(5):
            await outer.inner.run(text=str(number))
        with pytest.raises(ChildRunError, match="at most 5 runs"):
            outer.inner.run(text="more")
        return "told"

    with serve(Outer(act), Inner, settings={"max_children_total": 5}) as server, server.client() as client:
        assert client.start_run("Outer").result() == "told"


@pytest.mark.parametrize("kill", [False, True])
def test_a_workflow_of_one_run_at_a_time_may_start_itself(tmp_path: Path, kill: bool) -> None:
    """The outer run keeps its slot while it waits, so a child of the same workflow would wait for it for ever."""

    class Deep(Workflow):
        @step
        async def go(self, ctx: Context, ev: Given) -> StopEvent:
            if ev.n:
                return StopEvent(result=[ev.text, await ctx.start_run("Deep", text=ev.text, n=ev.n - 1, how=ev.how)])
            if ev.how == "ask":
                answer = await ctx.wait_for_event(Answer, Question(text=ev.text), timeout=None)
                return StopEvent(result=answer.text)
            return StopEvent(result="bottom")

    deep = Deep(num_concurrent_runs=1, timeout=None)
    with serve(deep, data=tmp_path) as server, server.client() as client:
        assert client.start_run("Deep", text="a", n=2).result(timeout=60) == ["a", ["a", "bottom"]]
        asks = client.start_run("Deep", text="b", n=1, how="ask")
        child = until(lambda: [each for each in children_of(client, asks.run_id) if each.pending_waiters])[0]
        next_one = client.start_run("Deep", text="c", n=0)
        server.restart(kill=kill)
        until(lambda: next_one.info().status is RunStatus.QUEUED, "the place in the queue")
        client.run(child.run_id).context.send_event(("Answer", {"text": "b"}))
        assert client.run(asks.run_id).result(timeout=60) == ["b", "b"]
        assert next_one.result(timeout=60) == "bottom"
