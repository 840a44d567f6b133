"""A chosen `run_id` of a child names one run for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import (
    BEGUN,
    GATE,
    Finish,
    Given,
    Inner,
    Outer,
    children_of,
    until,
)

from stepwire.client import RunFailedError, RunStatus, SyncClient
from stepwire.server.testing import serve
from stepwire.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.errors import ChildRunError

TAKEN = "the run_id 'order-7' is taken"


def ids_of(client: SyncClient, run_id: str) -> list[str]:
    return [child.run_id for child in children_of(client, run_id)]


def test_another_call_with_a_taken_id_fails_whether_the_first_run_has_ended_or_not(tmp_path: Path) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        first = ctx.start_run("Inner", text="first", run_id="order-7")
        for _ in range(2):
            for text in ("first", "second"):
                with pytest.raises(ChildRunError, match=TAKEN):
                    ctx.start_run("Inner", text=text, run_id="order-7")
            result = await first
        await ctx.wait_for_event(Finish, timeout=None)
        return result

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        until(lambda: client.run(run_id).info().pending_waiters, "the wait")
        server.restart(kill=True)
        client.run(run_id).context.send_event(("Finish", {}))
        assert client.run(run_id).result() == "FIRST"
        assert ids_of(client, run_id) == ["order-7"]
    assert (BEGUN["outer"], BEGUN["inner first"]) == (2, 1), "the repeated step finds its run again"


def test_another_step_does_not_get_the_run_of_a_taken_id() -> None:
    class Next(Event):
        pass

    class Two(Workflow):
        @step
        async def one(self, ctx: Context, ev: StartEvent) -> Next:
            assert await ctx.start_run("Inner", text="a", run_id="order-7") == "A"
            return Next()

        @step
        async def two(self, ctx: Context, ev: Next) -> StopEvent:
            with pytest.raises(ChildRunError, match="A run with this run_id exists"):
                await ctx.start_run("Inner", text="a", run_id="order-7")
            return StopEvent(result="told")

    with serve(Two, Inner) as server, server.client() as client:
        assert client.start_run("Two").result() == "told"


def test_a_retry_by_policy_is_told_the_failure_again() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await ctx.start_run("Inner", text="a", how="fail", run_id="order-7")

    with serve(Outer(act), Inner) as server, server.client() as client:
        run = client.start_run("Outer")
        with pytest.raises(RunFailedError, match="no a"):
            run.result()
        assert ids_of(client, run.run_id) == ["order-7"]
    assert (BEGUN["outer"], BEGUN["inner a"]) == (3, 1)


def test_a_retry_of_the_run_starts_what_did_not_complete_under_an_id_of_its_own(tmp_path: Path) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        good = await ctx.start_run("Inner", text="good", run_id="order-6")
        if GATE.get("mended"):
            await ctx.wait_for_event(Finish, timeout=None)
        return [good, await ctx.start_run("Inner", text="bad", how="fail", run_id="order-7")]

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run = client.start_run("Outer")
        with pytest.raises(RunFailedError):
            run.result()
        GATE["mended"] = True
        again = run.retry().run_id
        until(lambda: client.run(again).info().pending_waiters, "the wait")
        server.restart(kill=True)
        client.run(again).context.send_event(("Finish", {}))
        assert client.run(again).result() == ["GOOD", "BAD"]
        (child,) = children_of(client, again)
        assert child.run_id not in ("order-6", "order-7")
        assert client.run("order-7").info().status is RunStatus.FAILED
    assert BEGUN["inner good"] == 1


def test_a_retry_of_a_run_that_was_cancelled_while_its_child_lived() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await ctx.start_run("Inner", text="a", how="" if GATE.get("mended") else "ask", run_id="order-7")

    with serve(Outer(act), Inner) as server, server.client() as client:
        run = client.start_run("Outer")
        until(lambda: [each for each in children_of(client, run.run_id) if each.pending_waiters], "the question")
        run.cancel()
        until(lambda: run.info().ended_at)
        GATE["mended"] = True
        assert run.retry().result() == "A"
        until(lambda: client.run("order-7").info().status is RunStatus.CANCELLED, "the cancel")
