"""A task of the server is no step's, though the code of a step may lead to it."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.unit.semantics.harness import DurableRun

import stepwire.server
from stepwire.server.runs.hosting.commits.waiters import CommitWaiters
from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.progress import is_idle
from stepwire.workflow.hosting import outside, start_task

_ROOT = Path(stepwire.server.__file__).parent
_STARTS = ("create_task", "ensure_future")
"""What starts a task for the step that calls."""
_STEP = Path("runs", "scheduling", "rounds.py")
"""The step of a schedule's own run: its tasks are its own, and it cancels them."""


class Ask(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    pass


def _starts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if name in _STARTS:
                yield f"{path.relative_to(_ROOT)}:{node.lineno}: {name}"


def test_every_task_of_the_server_is_started_as_one_of_the_server() -> None:
    paths = [path for path in _ROOT.rglob("*.py") if path.relative_to(_ROOT).parts[0] != "process"]
    assert len(paths) > 100
    found = [each for path in paths if path.relative_to(_ROOT) != _STEP for each in _starts(path)]
    assert not found, "use start_task of stepwire.workflow.hosting: a step may be what calls"
    assert any(_starts(_ROOT / "process" / "serving.py")), "before there is a run, and found by the rule"


async def test_a_step_waits_beside_a_task_of_the_server_that_it_has_led_to() -> None:
    tasks: list[asyncio.Task[bool]] = []
    over = asyncio.Event()

    class Leads(Workflow):
        @step
        async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            tasks.append(start_task(over.wait(), name="the server's"))
            await ctx.wait_for_event(Answer, Ask(), timeout=None)
            refused = tasks[0].cancel()
            ended = outside(tasks[0].cancel)
            return StopEvent(result=[refused, ended])

    run = DurableRun(Leads(timeout=None)).start()
    await run.until(lambda run: run.kept("w"))
    assert is_idle(run.broker)
    run.send(Answer())
    assert (await run.ended()).event.result == [False, True]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


def test_what_waits_for_a_commit_and_fails_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []
    waiters = CommitWaiters()
    waiters.callbacks += [partial(called.remove, 1), partial(called.append, 1)]
    waiters.call_back()
    assert called == [1]
    assert "what waited for a commit failed" in caplog.text
