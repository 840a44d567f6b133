"""Served code with an event loop of its own, in a thread: what it awaits there asks at the step, and ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.children.family import until

from stepwire.client import RunStatus
from stepwire.server.testing import serve
from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.child_runs import ChildHandler
from stepwire.workflow.hosting import event_to_json


class Question(InputRequiredEvent):
    """A question."""

    text: str


class Reply(HumanResponseEvent):
    """Its answer."""

    text: str


class Asks(Workflow):
    """Asks."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Ask."""
        return StopEvent(result=(await ctx.wait_for_event(Reply, Question(text="name"), timeout=None)).text)


async def _run(by: str) -> Any:
    handler = Asks().run()
    async for event in handler.stream_events():
        if by == "code" and isinstance(event, Question):
            reply = Reply(text="code")
            if isinstance(handler, ChildHandler):
                handler.send("Reply", event_to_json(reply))
            else:
                handler.ctx.send_event(reply)
    return await handler


class InThread(Workflow):
    """In a thread of an async step."""

    def __init__(self, by: str) -> None:
        super().__init__(timeout=60)
        self.by = by

    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        """Run it."""
        return StopEvent(result=await asyncio.to_thread(lambda: asyncio.run(_run(self.by))))


class InSyncStep(Workflow):
    """In a sync step."""

    def __init__(self, by: str) -> None:
        super().__init__(timeout=60)
        self.by = by

    @step
    def go(self, ev: StartEvent) -> StopEvent:
        """Run it."""
        return StopEvent(result=asyncio.run(_run(self.by)))


@pytest.mark.parametrize("by", ["code", "person"])
@pytest.mark.parametrize("outer", [InThread, InSyncStep])
@pytest.mark.parametrize("inner", ["served", "not served"])
def test_a_run_on_a_loop_of_its_own(outer: Any, by: str, inner: str, caplog: pytest.LogCaptureFixture) -> None:
    with serve(outer(by), *([Asks] if inner == "served" else [])) as server, server.client() as client:
        run = client.start_run(outer.__name__)
        if by == "person":
            until(lambda: run.info().pending_waiters, "the question")
            if outer is InSyncStep and inner == "not served":  # the stream of a child may go on at any time
                until(lambda: run.info().status is RunStatus.WAITING, "that it only waits")
            run.context.send_event(("Reply", {"text": "person"}))
        assert run.result(timeout=60) == by
        assert not run.info().pending_waiters
    assert "Exception in callback" not in caplog.text
