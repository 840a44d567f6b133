"""Odd uses of `run` in steps of served workflows."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.llamaindex.child_flows import (
    BEGUN,
    Answer,
    Inner,
    OddError,
    Outer,
    Question,
    came,
    children,
    inner,
    until_asked,
)
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from stepwire import workflow as own
from stepwire.client import RunStatus
from stepwire.server.testing import serve


@pytest.fixture(autouse=True)
def fresh() -> None:
    BEGUN.clear()


def test_a_task_forwards_while_the_step_awaits(tmp_path: Path) -> None:
    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="ask")

        async def forward() -> int:
            count = 0
            async for event in handler.stream_events():
                if isinstance(event, Question):
                    handler.ctx.send_event(await ctx.wait_for_event(Answer, event))
                    count += 1
            return count

        task = asyncio.create_task(forward())
        return [*await handler, await task]

    with serve(outer=Outer(act), inner=inner, data=tmp_path) as server, server.client() as client:
        run = client.start_run("outer")
        for turn, text in enumerate(("first", "second")):
            until_asked(run, f"a {turn}")
            server.restart(kill=True)
            run.context.send_event(("Answer", {"text": text}))
        assert run.result(timeout=60) == ["first", "second", 2]
        (child,) = children(client, run)
        assert len([entry for entry in server.history(child.run_id) if entry.type == "Answer"]) == 2
    assert BEGUN["outer"] >= 3


def test_whoever_gives_up_waiting_leaves_the_child_alone() -> None:
    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="ask")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handler, 0.01)
        async for event in handler.stream_events():
            if isinstance(event, Question):
                handler.ctx.send_event(Answer(text="x"))
        return await handler

    assert came(act)[0] == ["x", "x"]


def test_a_child_that_waits_for_its_turn_takes_what_is_sent() -> None:
    single = Inner(num_concurrent_runs=1)

    async def act(ctx: Context) -> Any:
        async def answered(handler: Any) -> Any:
            async for event in handler.stream_events():
                if isinstance(event, Question):
                    handler.ctx.send_event(Answer(text=event.text))
            return await handler

        return await asyncio.gather(*(answered(single.run(text=text, how="ask")) for text in "abc"))

    result, found = came(act, single=single)
    assert result == [[f"{text} 0", f"{text} 1"] for text in "abc"]
    assert len(found) == 3


def test_a_child_that_failed_is_started_anew_by_a_retry_of_the_outer_run() -> None:
    async def act(ctx: Context) -> Any:
        good = await inner.run(text="good")
        return [good, await inner.run(text="bad", how="" if BEGUN["outer"] > 1 else "fail")]

    with serve(outer=Outer(act), inner=inner) as server, server.client() as client:
        run = client.start_run("outer")
        assert run.wait(timeout=60).status is RunStatus.FAILED
        again = run.retry()
        assert again.result(timeout=60) == ["GOOD", "BAD"]
    assert (BEGUN["inner good"], BEGUN["inner bad"]) == (1, 2)


class Next(Event):
    pass


class Handing(Workflow):
    """One step starts a run, another one talks to it."""

    @step
    async def begin(self, ev: StartEvent) -> Next:
        self.kept = inner.run(text="a", how="ask")
        return Next()

    @step
    async def go_on(self, ev: Next) -> StopEvent:
        async for event in self.kept.stream_events():
            if isinstance(event, Question):
                self.kept.ctx.send_event(Answer(text="x"))
        assert await self.kept is await self.kept
        return StopEvent(result=await self.kept)


def test_a_handler_that_another_step_has() -> None:
    with serve(handing=Handing(), inner=inner) as server, server.client() as client:
        run = client.start_run("handing")
        assert run.result(timeout=60) == ["x", "x"]
        assert len(children(client, run)) == 1


def test_a_step_of_a_workflow_of_our_own_runs_one_of_theirs() -> None:
    class Native(own.Workflow):
        @own.step
        async def go(self, ev: own.StartEvent) -> own.StopEvent:
            """Run it."""
            try:
                await inner.run(text="b", how="fail")
            except OddError as error:
                return own.StopEvent(result=[await inner.run(text="a"), str(error)])
            return own.StopEvent()

    with serve(outer=Native(), inner=inner) as server, server.client() as client:
        run = client.start_run("outer")
        assert run.result(timeout=60) == ["A", "no b"]
        assert [each.status for each in children(client, run)] == [RunStatus.FAILED, RunStatus.COMPLETED]


def test_it_is_told_no_more_of_a_failure_than_callers_are() -> None:
    async def act(ctx: Context) -> Any:
        try:
            await inner.run(text="secret", how="fail")
        except OddError as error:
            return str(error)

    settings = {"failure_detail": "type"}
    with serve(outer=Outer(act), inner=inner, settings=settings) as server, server.client() as client:
        assert client.start_run("outer").result(timeout=60) == ""


def test_many_children() -> None:
    async def act(ctx: Context) -> Any:
        return len(await asyncio.gather(*(inner.run(text=str(n % 50)) for n in range(300))))

    result, found = came(act)
    assert result == 300
    assert len(found) == 300


def test_a_run_inside_edit_state_is_nested() -> None:
    async def act(ctx: Context) -> Any:
        async with ctx.store.edit_state() as state:
            state.result = await inner.run(text="a")
        return await ctx.store.get("result")

    assert came(act) == ("A", [])
