"""Durable children: the face of a run in process, awaited without memory."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import (
    GATE,
    Given,
    Inner,
    Measure,
    Measured,
    Outer,
    Point,
    children_of,
    in_memory,
    outcome_of,
    runs_of,
    until,
)

from stepwire.client import RunStatus
from stepwire.server.registry import Registry
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.testing import serve
from stepwire.workflow import Context, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.errors import (
    ChildRunError,
    StepError,
    WorkflowCancelledByUser,
    WorkflowConfigurationError,
    WorkflowError,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
)


def test_a_workflow_that_is_served_runs_as_a_child_with_the_result_of_a_run_in_process() -> None:
    seen = []

    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        seen.append(await outer.inner.run(text="a", how="point"))
        seen.append(await ctx.start_run("Measure", text="so it is"))
        return await outer.inner.run(start_event=Given(text="b"))

    with serve(Outer(act), Inner, Measure) as server, server.client() as client:
        run = client.start_run("Outer")
        assert run.result() == "B"
        assert seen == [(Point(x=1, y=2), {"a"}), Measured(length=8, words={"so", "it", "is"})]
        children = children_of(client, run.run_id)
        assert [child.workflow for child in children] == ["Inner", "Measure", "Inner"]
        assert all(child.status is RunStatus.COMPLETED for child in children)


def test_a_workflow_that_is_not_served_runs_nested_as_before() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await Measure().run(text="so")

    with serve(Outer(act)) as server, server.client() as client:
        run = client.start_run("Outer")
        assert run.result() == {"length": 2, "words": ["so"], "result": None}
        assert children_of(client, run.run_id) == []


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("fail", StepError, "Error in step 'go': no x"),
        ("late", WorkflowTimeoutError, "timed out after 0.05 seconds"),
        ("cancelled", WorkflowCancelledByUser, "cancelled"),
        ("input", WorkflowRuntimeError, "n"),
    ],
)
def test_what_a_child_fails_with_is_what_a_run_in_process_raises(how: str, kind: type[Exception], text: str) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        try:
            if how == "late":
                await ctx.start_run("Inner", text="x", how="hang", timeout=0.05)
            elif how == "input":
                await outer.inner.run(text="x", n="many")
            else:
                handler = outer.inner.run(text="x", how="fail" if how == "fail" else "hang")
                if how == "cancelled":
                    await handler.cancel_run()
                await handler
        except WorkflowError as error:
            return [type(error).__name__, str(error)]

    name, message = outcome_of(act)
    assert name == kind.__name__
    assert text in message
    assert message.count("Error in step") == (how == "fail")


def test_a_workflow_that_nobody_serves_is_refused_at_the_call() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(ChildRunError, match="no workflow 'nope' is served"):
            ctx.start_run("nope")
        with pytest.raises(WorkflowRuntimeError, match="does not fit the workflow Inner: n"):
            ctx.start_run("Inner", n="many")
        return "told"

    assert outcome_of(act) == "told"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"run_id": "a b"}, "run_id: must be 1 to 128 of letters"),
        ({"run_id": 7}, "run_id must be a str, not int"),
        ({"labels": {"a": 1}}, "labels must be a dict of str to str, one holds int"),
        ({"labels": "ab"}, "labels must be a dict of str to str, not str"),
        ({"labels": {"a": "x" * 256}}, "labels: keys are 1 to 63, values at most 255 characters"),
        ({"labels": {str(number): "" for number in range(33)}}, "labels: must be at most 32"),
        ({"timeout": "soon"}, "timeout must be a number of seconds or None, not str"),
        ({"timeout": 0}, "timeout: must be positive"),
        ({"timeout": -1.0}, "timeout: must be positive"),
        ({"timeout": 1e12}, "timeout: must be positive and at most 315576000000 seconds"),
    ],
)
def test_wrong_arguments_of_a_start_are_refused_at_the_call(options: dict[str, Any], text: str) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(WorkflowRuntimeError) as raised:
            ctx.start_run("Inner", **options)
        return [str(raised.value), await ctx.start_run("Inner", text="a", labels={"a": "b"}, timeout=math.inf)]

    message, result = outcome_of(act)
    assert text in message
    assert result == "A"


def test_whatever_prevents_a_start_fails_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(ChildRunError, match=f"Inner: {GATE['says']}"):
            await outer.inner.run(text="a")
        return "told"

    def fail(error: Exception) -> Any:
        async def start(*_: Any) -> None:
            raise error

        return start

    with serve(Outer(act), Inner) as server, server.client() as client:
        violations = [Violation("labels", "are wrong"), Violation("run_id", "is wrong")]
        for error, says in (
            (KeyError("secret"), "it could not be started; the log of the server says why"),
            (InvalidError("INVALID_REQUEST", "No", violations), r"No: labels: are wrong; run_id: is wrong"),
        ):
            GATE["says"] = says
            monkeypatch.setattr(runs_of(server).family.starts.calls, "start", fail(error))
            assert client.start_run("Outer").result() == "told"


def test_a_workflow_whose_max_children_is_no_number_of_runs_is_not_served() -> None:
    for most in (0, -1, True, 2.5):
        wrong: Any = type("Wrong", (Inner,), {"max_children": most})
        with pytest.raises(WorkflowConfigurationError, match="max_children must be an int of 1 or more, or None"):
            Registry().add("wrong", wrong)


def test_the_stream_of_a_child_can_be_read() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler = outer.inner.run(text="a", how="note", n=3)
        told = [type(event).__name__ async for event in handler.stream_events()]
        assert handler.run_id
        return [told, await handler, handler.done(), handler.result()]

    assert outcome_of(act) == [["Note", "Note", "Note", "StopEvent"], "A", True, "A"]


def test_a_step_in_a_thread_awaits_children_too() -> None:
    class Sync(Workflow):
        @step
        def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=[ctx.blocking.start_run("Inner", text=text) for text in ("a", "b")])

    with serve(Sync, Inner) as server, server.client() as client:
        run = client.start_run("Sync")
        assert run.result() == ["A", "B"]
        assert len(children_of(client, run.run_id)) == 2


def test_without_a_server_a_workflow_of_the_name_runs_nested() -> None:
    class Alone(Workflow):
        @step
        async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(ChildRunError, match="no server runs this"):
                ctx.start_run("other")
            return StopEvent(result=await ctx.start_run("inner", text="a"))

    async def run() -> Any:
        alone = Alone()
        alone.add_workflows(inner=Inner())
        return await alone.run()

    assert asyncio.run(run()) == "A"


def test_a_parent_that_waits_a_week_for_a_childs_question_holds_no_memory(tmp_path: Path) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a", how="ask")

    outer = Outer(act, Inner(timeout=30.0), timeout=30.0)
    with (
        serve(outer, Inner(timeout=30.0), data=tmp_path, settings={"idle_after": 0.1}) as server,
        server.client() as client,
    ):
        run_id = client.start_run("Outer").run_id
        until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")
        until(lambda: not in_memory(server), "the release")
        server.skip(days=7)
        assert not in_memory(server)
        assert client.run(run_id).info().status is RunStatus.WAITING
        child = children_of(client, run_id)[0]
        client.run(child.run_id).context.send_event(("Answer", {"text": "a"}))
        assert client.run(run_id).result() == "a a"
