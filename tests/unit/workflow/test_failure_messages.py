"""The message in the event of a failure is bounded, however long the text of the error is."""

from __future__ import annotations

import pytest

from stepwire.workflow import StartEvent, StepFailedEvent, StopEvent, Workflow, WorkflowFailedEvent, catch_error, step
from stepwire.workflow.errors import StepError


class Fails(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError("x" * 1_000_000)


class Catches(Fails):
    @catch_error
    async def caught(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result=ev.message)


async def test_of_a_run_that_fails() -> None:
    handler = Fails().run()
    events = [event async for event in handler.stream_events()]
    with pytest.raises(StepError):
        await handler
    [failed] = [event for event in events if isinstance(event, WorkflowFailedEvent)]
    assert failed.message == "x" * 16_384 + "… (1000000 characters)"


async def test_of_a_step_that_is_caught() -> None:
    assert await Catches().run() == "x" * 16_384 + "… (1000000 characters)"
