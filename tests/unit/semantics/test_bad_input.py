"""Bad input: each kind has an error class of its own, whose message names what and where, never the value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from stepwire.workflow import (
    Context,
    DictState,
    Event,
    JsonSerializer,
    Resource,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowCheckpointer,
    step,
)
from stepwire.workflow.errors import (
    ContextSerdeError,
    RunEndedError,
    SerializationError,
    SignatureError,
    SnapshotError,
    SnapshotVersionError,
    SnapshotWorkflowError,
    StepDoesNotAcceptError,
    StepError,
    StepReturnError,
    StepTimeoutError,
    UnknownStepError,
    WorkflowConfigurationError,
    WorkflowError,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
    WorkflowValidationError,
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
    saved["state"]["state_data"]["_data"]["fine"] = VALUE
    with pytest.raises(WorkflowError) as caught:
        Context.from_dict(Keep(), saved)
    told(caught.value, SnapshotError, "state key 'fine'", "not JSON")
    for wrong in (None, [VALUE], VALUE):
        with pytest.raises(WorkflowError) as caught:
            Context.from_dict(Keep(), wrong)  # type: ignore[arg-type]
        told(caught.value, SnapshotError, type(wrong).__name__)


async def test_no_bound_on_concurrent_runs_is_no_bound() -> None:
    """0 means no limit, as in 1.x; it must not mean that no run ever starts."""
    assert await Keep(num_concurrent_runs=0).run(count=1) == VALUE


class Plain(BaseModel):
    text: str


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (Plain, "it has none: 'ev' is Plain"),
        (StopEvent(VALUE), "it has none: 'ev' is an object of StopEvent"),
        (Annotated[str, Resource], "'ev' needs Resource(factory), not Resource"),
    ],
)
def test_no_parameter_takes_an_event(hint: Any, said: str) -> None:
    async def work(self: Any, ev: Any) -> StopEvent: ...  # type: ignore[empty-body]

    work.__annotations__["ev"] = hint
    work.__qualname__ = "Wrong.work"
    with pytest.raises(WorkflowError) as caught:
        step(work)
    told(caught.value, SignatureError, "'work'", said)


def test_an_object_as_return_annotation() -> None:
    with pytest.raises(WorkflowError) as caught:

        class Wrong(Workflow):
            @step
            async def work(self, ev: StartEvent) -> StopEvent(VALUE): ...  # type: ignore[valid-type,empty-body]

    told(caught.value, SignatureError, "'work'", "an object of StopEvent")


async def asked(call: Callable[[Context[Any], Event], Any]) -> WorkflowError:
    """Make a call in a step and return the error that it gets."""

    class Calling(Workflow):
        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            found = call(ctx, ev)
            return StopEvent(await found if hasattr(found, "__await__") else found)

    with pytest.raises(StepError, match=r"^Error in step 'work': ") as caught:
        await Calling().run()
    cause = caught.value.__cause__
    assert isinstance(cause, WorkflowError)
    return cause


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda ctx, ev: ctx.send_event(Other), "send_event takes an Event, not the class Other"),
        (lambda ctx, ev: ctx.send_event(VALUE), "send_event takes an Event, not str"),
        (lambda ctx, ev: ctx.write_event_to_stream({"text": VALUE}), "takes an Event, not dict"),
        (lambda ctx, ev: ctx.collect_events(None, [Other]), "collect_events takes an Event, not NoneType"),
        (lambda ctx, ev: ctx.collect_events(ev, VALUE), "collect_events expects Event classes, not str"),
        (lambda ctx, ev: ctx.collect_events(ev, [VALUE], "b"), "collect_events expects Event classes, not str"),
        (lambda ctx, ev: ctx.collect_events(ev, [Other(text=VALUE)]), "expects Event classes, not Other"),
        (lambda ctx, ev: ctx.collect_events(ev, Other), "a list of Event classes, not the class Other"),
        (lambda ctx, ev: ctx.collect_events(ev, 2), "a list of Event classes, not int"),
        (lambda ctx, ev: ctx.wait_for_event(VALUE), "wait_for_event takes an Event class, not str"),
        (lambda ctx, ev: ctx.wait_for_event(Other()), "wait_for_event takes an Event class, not Other"),
        (lambda ctx, ev: ctx.wait_for_event(Other, VALUE), "waiter_event must be an Event, not str"),
        (lambda ctx, ev: ctx.wait_for_event(Other, requirements=[VALUE]), "requirements must be a dict of fields"),
        (lambda ctx, ev: ctx.wait_for_event(Other, timeout=VALUE), "timeout must be seconds or None, not str"),
    ],
)
async def test_calls_that_nothing_could_answer(call: Callable[[Context[Any], Event], Any], said: str) -> None:
    told(await asked(call), WorkflowRuntimeError, said)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"timeout": VALUE}, "timeout must be a number of seconds or None, not str"),
        ({"timeout": float("nan")}, "timeout"),
        ({"num_concurrent_runs": "2"}, "num_concurrent_runs must be a positive int or None"),
        ({"num_concurrent_runs": -1}, "num_concurrent_runs"),
    ],
)
def test_settings_that_bound_nothing(settings: Any, said: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        Keep(**settings)
    told(caught.value, WorkflowConfigurationError, "'Keep'", said)


def test_a_class_without_steps_or_without_its_base() -> None:
    class Empty(Workflow):
        async def work(self, ev: StartEvent) -> StopEvent: ...  # type: ignore[empty-body]

    class Half(Keep):
        def __init__(self) -> None:
            self.text = VALUE

    class Required(BaseModel):
        text: str

    class Stateful(Workflow):
        @step
        async def work(self, ctx: Context[Required], ev: StartEvent) -> StopEvent: ...  # type: ignore[empty-body]

    with pytest.raises(WorkflowError) as caught:
        Empty()
    told(caught.value, WorkflowConfigurationError, "'Empty' has no steps", "@step")
    for make in (Half().run, lambda: Context(Half())):
        with pytest.raises(WorkflowError) as caught:
            make()
        told(caught.value, WorkflowConfigurationError, "'Half'", "super().__init__()")
    with pytest.raises(WorkflowError) as caught:
        Stateful()
    told(caught.value, WorkflowConfigurationError, "'Stateful'", "Required", "text")


async def test_a_run_is_given_something_else() -> None:
    class Takes(Keep):
        pass

    for kwargs, said in (
        ({"ctx": VALUE}, "ctx must be a Context, not str"),
        ({"ctx": {"count": VALUE}}, "input is given by keyword"),
        ({"ctx": Context(Else())}, "of workflow 'Else', not 'Takes'"),
    ):
        with pytest.raises(WorkflowError) as caught:
            Takes().run(**kwargs)  # type: ignore[arg-type]
        told(caught.value, WorkflowRuntimeError, said)
    for start, said in (
        (Asked, "start_event must be a StartEvent, not the class Asked"),
        (StartEvent(text=VALUE), "no step of 'Takes' accepts StartEvent; it starts with Asked"),
    ):
        with pytest.raises(ValueError, match=said):
            Takes().run(start_event=start)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="run_from takes a Checkpoint, not dict"):
        Takes().run_from({})  # type: ignore[arg-type]
    for wrong, said in ((Takes, "not the class Takes"), (None, "not NoneType")):
        with pytest.raises(WorkflowError) as caught:
            Context(wrong)  # type: ignore[arg-type]
        told(caught.value, WorkflowRuntimeError, said)
    with pytest.raises(WorkflowError) as caught:
        Takes().add_workflows(inner=Keep)  # type: ignore[arg-type]
    told(caught.value, WorkflowValidationError, "inner", "the class Keep")
    with pytest.raises(WorkflowError) as caught:
        Takes().send_event(Other())
    told(caught.value, WorkflowRuntimeError, "no run is in progress")


def test_a_run_outside_of_async_code() -> None:
    with pytest.raises(RuntimeError, match=r"call Workflow\.run inside async code"):
        Keep().run(count=1)


def test_a_resource_is_given_the_object_itself() -> None:
    with pytest.raises(TypeError, match="not dict"):
        Resource({"text": VALUE})  # type: ignore[call-overload]


async def test_a_run_with_nothing_left_to_do_says_so_when_it_times_out() -> None:
    class Lost(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent | None:
            return Other(text=VALUE) if ev.get("lost") else None  # type: ignore[return-value]

    with pytest.raises(WorkflowError) as caught:
        await Lost(timeout=0.01).run(lost=True)
    told(caught.value, WorkflowTimeoutError, "after 0.01 seconds: no step was at work, and none took Other")
    with pytest.raises(WorkflowError) as caught:
        await Lost(timeout=0.01).run()
    assert str(caught.value).endswith("seconds: no step was at work")


async def test_a_step_fails_without_a_word() -> None:
    class Silent(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            raise KeyError

    with pytest.raises(WorkflowError) as caught:
        await Silent().run()
    told(caught.value, StepError, "Error in step 'work': KeyError")


async def test_a_step_that_takes_too_long_is_told_from_one_that_fails() -> None:
    class Slow(Workflow):
        @step(timeout=0.01)
        async def work(self, ev: StartEvent) -> StopEvent:
            await asyncio.get_running_loop().create_future()
            return StopEvent()

    class Outer(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            return StopEvent(await Slow().run())

    with pytest.raises(StepTimeoutError) as caught:
        await Slow().run()
    assert (caught.value.step, caught.value.attempts) == ("work", 1)
    with pytest.raises(StepError) as outer:
        await Outer().run()
    assert type(outer.value) is StepError


async def test_a_class_is_returned_instead_of_an_event() -> None:
    class Wrong(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            return StopEvent  # type: ignore[return-value]

    with pytest.raises(WorkflowError) as caught:
        await Wrong().run()
    told(caught.value, StepReturnError, "'work'", "the class StopEvent")


async def test_what_cannot_be_saved_is_named_with_its_event() -> None:
    context: Context[Any] = Context(Keep())
    context.collect_events(Other(bad=lambda: VALUE), [Other, Other])
    with pytest.raises(WorkflowError) as caught:
        context.to_dict()
    told(caught.value, SerializationError, "cannot save bad of Other")


def test_text_that_no_serializer_wrote() -> None:
    with pytest.raises(WorkflowError) as caught:
        JsonSerializer().deserialize(VALUE)
    told(caught.value, SnapshotError, "not JSON")


def test_a_checkpointer_is_asked_for_a_step_that_does_not_exist() -> None:
    with pytest.raises(WorkflowError, match="no step 'nowhere'"):
        WorkflowCheckpointer(Keep(), disabled_steps=["nowhere"])
