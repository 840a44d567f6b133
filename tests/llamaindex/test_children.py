"""Workflows that steps of served ones run: those that are served, too, are runs of their own."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.memory import ChatMemoryBuffer
from tests.llamaindex.child_flows import (
    BEGUN,
    Given,
    Inner,
    Measured,
    Outer,
    Point,
    Recursive,
    Worker,
    came,
    children,
    inner,
    measure,
)
from workflows import Context, Workflow, step
from workflows.errors import WorkflowRuntimeError
from workflows.events import StartEvent, StopEvent

from stepwire.client import RunStatus
from stepwire.server.testing import serve
from stepwire.workflow import adopt

Act = Callable[[Context], Any]


@pytest.fixture(autouse=True)
def fresh() -> None:
    BEGUN.clear()


# -- what is a child --------------------------------------------------------------------------------------------------


def test_a_served_workflow_is_a_run_of_its_own() -> None:
    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="point")
        assert not handler.is_done()
        assert handler.get_stop_event() is None
        first = await handler
        assert (await handler.stop_event_result()).result == first
        assert handler.is_done()
        assert handler.get_stop_event().result == first
        assert str(handler).startswith("WorkflowHandler(workflow=")
        measured = await measure.run(text="a b")
        assert isinstance(measured, Measured)
        assert first == (Point(x=1), {"a"})
        return handler.run_id, measured.length, sorted(measured.words)

    result, found = came(act, inner=inner, measure=measure)
    assert result == [found[0].run_id, 3, ["a", "b"]]
    assert [each.workflow for each in found] == ["inner", "measure"]


def test_a_workflow_that_is_not_served_is_nested() -> None:
    async def act(ctx: Context) -> Any:
        return await inner.run(text="a")

    assert came(act, measure=measure) == ("A", [])


def test_a_run_with_a_context_of_the_step_is_nested() -> None:
    async def act(ctx: Context) -> Any:
        mine = Context(inner)
        await mine.store.set("seen", ["before"])
        return await inner.run(ctx=mine, text="a", how="remember"), await mine.store.get("seen")

    assert came(act) == ([["before", "a"], ["before", "a"]], [])


def test_in_process_it_is_nested() -> None:
    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="remember")
        return await handler, await handler.ctx.store.get("seen")

    async def main() -> Any:
        return await adopt(Outer(act)).run()

    assert asyncio.run(main()) == (["a"], ["a"])


def test_another_object_is_served_if_it_has_the_same_attributes() -> None:
    async def act(ctx: Context) -> Any:
        return await Worker("a", timeout=5).run(), await Worker("b").run(), await Worker("c").run()

    result, found = came(act, one=Worker("a"), two=Worker("c"))
    assert result == ["a", "b", "c"]
    assert [each.workflow for each in found] == ["one", "two"]


def test_what_json_does_not_keep_is_nested_and_said(caplog: pytest.LogCaptureFixture) -> None:
    class Big(str):
        pass

    async def act(ctx: Context) -> Any:
        odd = (("a", "b"), object(), Big("plain"), "x" * 4_000_000, ChatMemoryBuffer.from_defaults())
        found = [await measure.run(text=text) for text in odd]
        return [each.length > 0 for each in found]

    with caplog.at_level(logging.WARNING, "stepwire.workflow"):
        result, found = came(act, measure=measure)
    assert result == [True] * 5
    assert found == []
    said = [each for each in caplog.messages if "is nested in that step" in each]
    assert len(said) == 5
    assert "workflow measure" in said[0]
    assert "text would not be the same after JSON" in said[0]
    assert "text cannot be saved" in said[1]
    assert "text cannot be saved" in said[2]
    assert "max_entry_bytes" in said[3]
    assert "text is a memory object of the caller" in said[4]


def test_a_start_event_and_a_chosen_id() -> None:
    async def act(ctx: Context) -> Any:
        first = inner.run(start_event=Given(text="a"), run_id="chosen")
        for _ in range(2):
            for text in ("a", "b"):
                with pytest.raises(WorkflowRuntimeError, match="the run_id 'chosen' is taken: this run has already"):
                    inner.run(text=text, run_id="chosen")
            result = await first
        with pytest.raises(WorkflowRuntimeError, match="must be 1 to 128 of letters"):
            inner.run(text="b", run_id="no id")
        return first.run_id, result

    with serve(outer=Outer(act), inner=inner) as server, server.client() as client:
        run = client.start_run("outer")
        assert run.result(timeout=60) == ["chosen", "A"]
        (child,) = children(client, run)
        assert child.run_id == "chosen"
        other = client.start_run("outer").wait(timeout=60)
        assert other.status is RunStatus.FAILED
        assert "A run with this run_id exists" in other.outcome.failure.message


def test_a_start_event_of_a_subclass_is_nested() -> None:
    class More(Given):
        pass

    class Takes(Inner):
        @step(accept_event_subclasses=True)
        async def go(self, ctx: Context, ev: Given) -> StopEvent:
            return StopEvent(result=type(ev).__name__)

    takes = Takes()

    async def act(ctx: Context) -> Any:
        return await takes.run(start_event=More())

    assert came(act, takes=takes) == ("More", [])


def test_input_that_does_not_fit_raises_as_there() -> None:
    async def act(ctx: Context) -> Any:
        try:
            inner.run(text=["no", "text"])
        except WorkflowRuntimeError as error:
            return str(error)[:30]

    assert came(act) == ("Failed creating a start event ", [])


def test_in_a_loop_of_its_own_it_is_nested() -> None:
    class Threaded(Workflow):
        @step
        def go(self, ev: StartEvent) -> StopEvent:
            async def main() -> Any:
                return await inner.run(text="a")

            return StopEvent(result=asyncio.run(main()))

    with serve(outer=Threaded(), inner=inner) as server, server.client() as client:
        run = client.start_run("outer")
        assert run.result(timeout=60) == "A"
        assert children(client, run) == []


def test_a_workflow_that_runs_itself() -> None:
    with serve(recursive=Recursive(num_concurrent_runs=1)) as server, server.client() as client:
        run = client.start_run("recursive", n=3)
        assert run.result(timeout=60) == 3
        (child,) = children(client, run)
        assert child.workflow == "recursive"
        endless = client.start_run("recursive", n=30)
        info = endless.wait(timeout=60)
        assert info.status is RunStatus.FAILED
        assert "nested too deep" in info.outcome.failure.message
    assert all(times == 1 for name, times in BEGUN.items() if name in {"recursive 0", "recursive 30"})
