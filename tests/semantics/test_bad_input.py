"""Bad input: each kind has an error class of its own, whose message names what and where, never the value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stepwire.workflow import Context, DictState, Event, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.errors import (
    ContextSerdeError,
    RunEndedError,
    SerializationError,
    SignatureError,
    SnapshotError,
    SnapshotVersionError,
    SnapshotWorkflowError,
    StepDoesNotAcceptError,
    StepReturnError,
    UnknownStepError,
    WorkflowError,
    WorkflowRuntimeError,
)

VALUE = "psst-6021"


class Asked(StartEvent):
    count: int


class Other(Event):
    pass


class Keep(Workflow):
    @step
    async def work(self, ctx: Context[DictState], ev: Asked) -> StopEvent:
        await ctx.store.set("fine", VALUE)
        return StopEvent(result=VALUE)


class Else(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        return VALUE  # type: ignore[return-value]


def told(error: BaseException, kind: type[WorkflowError], *parts: str) -> None:
    """Check that an error is of this very class, and what its message says and does not say."""
    assert type(error) is kind
    assert VALUE not in str(error)
    for part in parts:
        assert part in str(error)


def test_a_wrong_signature() -> None:
    with pytest.raises(WorkflowError) as caught:

        class Wrong(Workflow):
            @step
            async def work(self, ev: Other, also: Asked) -> StopEvent:
                return StopEvent()

    told(caught.value, SignatureError, "'work'", "'ev'", "'also'")


async def test_a_start_event_that_does_not_validate() -> None:
    handler = Keep().run(count=VALUE)
    with pytest.raises(WorkflowError) as caught:
        await handler
    told(caught.value, WorkflowRuntimeError, "Asked", "count", "valid integer")
    [event] = [event async for event in handler.stream_events()]
    assert VALUE not in event.message
    assert "count" in event.message


async def test_something_else_than_an_event_is_returned() -> None:
    with pytest.raises(WorkflowError) as caught:
        await Else().run()
    told(caught.value, StepReturnError, "'work'", "str")


async def ended() -> Context[Any]:
    handler = Keep().run(count=1)
    await handler
    return handler.ctx


async def test_an_unknown_step_and_one_that_does_not_accept() -> None:
    context: Context[Any] = Context(Keep())
    with pytest.raises(WorkflowError) as caught:
        context.send_event(Other(text=VALUE), step="nowhere")
    told(caught.value, UnknownStepError, "nowhere")
    with pytest.raises(WorkflowError) as caught:
        context.send_event(Other(text=VALUE), step="work")
    told(caught.value, StepDoesNotAcceptError, "work", "Other")


async def test_a_finished_and_a_cancelled_run() -> None:
    context = await ended()
    with pytest.raises(WorkflowError) as caught:
        context.send_event(Other(text=VALUE))
    told(caught.value, RunEndedError, "completed")
    handler = Keep().run(count=1)
    await handler.cancel_run()
    with pytest.raises(WorkflowError) as caught:
        handler.ctx.send_event(Other(text=VALUE))
    told(caught.value, RunEndedError, "cancelled")


async def test_state_that_cannot_be_saved() -> None:
    context = await ended()
    await context.store.set("first", [VALUE, lambda: VALUE])
    await context.store.set("second", {VALUE: object()}.values())
    with pytest.raises(WorkflowError) as caught:
        context.to_dict()
    told(caught.value, SerializationError, "'first'", "'second'")


async def test_snapshots_that_do_not_fit() -> None:
    saved = json.loads(json.dumps((await ended()).to_dict()))
    with pytest.raises(WorkflowError) as caught:
        Context.from_dict(Else(), saved)
    told(caught.value, SnapshotWorkflowError, "'Keep'", "'Else'")
    with pytest.raises(WorkflowError) as caught:
        Context.from_dict(Keep(), {**saved, "stepwire": {**saved["stepwire"], "format": VALUE}})
    told(caught.value, SnapshotVersionError, "format")
    without: dict[str, Any] = {key: value for key, value in saved.items() if key != "queues"}
    with pytest.raises(WorkflowError) as caught:
        Context.from_dict(Keep(), without)
    told(caught.value, ContextSerdeError, "queues")
    for wrong in (None, [VALUE], VALUE):
        with pytest.raises(WorkflowError) as caught:
            Context.from_dict(Keep(), wrong)  # type: ignore[arg-type]
        told(caught.value, SnapshotError, type(wrong).__name__)


async def test_no_bound_on_concurrent_runs_is_no_bound() -> None:
    """0 is none, as in 1.x; it must not mean that no run ever starts."""
    assert await Keep(num_concurrent_runs=0).run(count=1) == VALUE
