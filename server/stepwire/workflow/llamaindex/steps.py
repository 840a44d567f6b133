"""Steps of LlamaIndex 2.x as steps of the engine: their configurations, and how their functions are called."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Any, Final

from stepwire.workflow.broker.current import running_execution
from stepwire.workflow.broker.timing.clock import CLOCK
from stepwire.workflow.context.context import run_of
from stepwire.workflow.definition.step_config import CollectSpec, StepConfig, set_step_config
from stepwire.workflow.events import Event, StepFailedEvent, StopEvent
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.caught import their_failure
from stepwire.workflow.llamaindex.faces import face_for
from stepwire.workflow.llamaindex.internal import FAILED
from stepwire.workflow.llamaindex.spans import enter_tags, spanned
from stepwire.workflow.resource import ResourceDefinition, ResourceManager
from stepwire.workflow.state.dict_state import DictState

__all__ = ["Resources", "adopt_step", "state_type_of"]

# Parameters of the functions that the engine calls. They cannot be names of an author's parameters.
_EVENT: Final = "event$"
_CONTEXT: Final = "context$"
_RESOURCES: Final = "resources$"


def adopt_step(
    workflow: Any,
    name: str,
    function: Callable[..., Any],
    config: Any,
    state_type: type | None,
    feeds: tuple[str, ...],
) -> Callable[..., Any]:
    """Return a step of the engine that calls a step of theirs.

    Args:
        workflow: Their workflow.
        name: The name of the step.
        function: Their function, bound to its workflow unless it is free.
        config: Its configuration, as their decorator made it.
        state_type: The type of the state of the workflow; None for any keys.
        feeds: The steps that collect what comes of a list that it returns.
    """
    catches = config.role == "catch_error"
    is_async = inspect.iscoroutinefunction(function)
    function = spanned(workflow, function, is_async)

    def given_event(event: Any) -> dict[str, Any]:
        if config.collection_param is not None:
            return {config.collection_param[0]: list(event.events)}
        if config.collect_params is not None:
            return {slot: each for (slot, _), each in zip(config.collect_params, event.events, strict=True)}
        return {config.event_name: their_failure(event) if catches else event}

    def arguments(given: dict[str, Any]) -> dict[str, Any]:
        event, context = given[_EVENT], face_for(given[_CONTEXT])
        installed.enter_step(context)
        enter_tags(workflow, given[_CONTEXT].run_id, event)
        called = {**given_event(event), **given.get(_RESOURCES, {})}
        if config.context_parameter:
            called[config.context_parameter] = context
        return called

    if is_async:

        @functools.wraps(function)
        async def call(**given: Any) -> Any:
            event, internal = given[_EVENT], given[_CONTEXT].internal
            worker = internal.begins(name, event)
            result: Any = FAILED
            try:
                result = _checked(name, await function(**arguments(given)), config)
                if isinstance(result, StopEvent) and len(run_of(given[_CONTEXT]).broker.executions) > 1:
                    await asyncio.sleep(0)  # as there, steps that have been started run until they let go
            finally:
                internal.ends(name, worker, event, result)
                _passed(given[_CONTEXT])
            return result
    else:

        @functools.wraps(function)
        def call(**given: Any) -> Any:
            event, context = given[_EVENT], given[_CONTEXT]
            worker = run_of(context).do(context.internal.begins, name, event)
            result: Any = FAILED
            try:
                result = _checked(name, function(**arguments(given)), config)
            finally:
                run_of(context).do(context.internal.ends, name, worker, event, result)
                run_of(context).do(_passed, context)
            return result

    set_step_config(
        call,
        StepConfig(
            accepted_events=[StepFailedEvent] if catches else list(config.accepted_events),
            event_name=_EVENT,
            return_types=list(config.return_types),
            context_parameter=_CONTEXT,
            context_state_type=state_type,
            num_workers=config.num_workers,
            retry_policy=None if config.retry_policy is None else _Retries(config.retry_policy),
            resources=[ResourceDefinition(_RESOURCES, config.resources)] if config.resources else [],
            accept_subclasses=config.accept_event_subclasses,
            is_async=is_async,
            catches=tuple(config.catch_error_for_steps or ()) if catches else None,
            max_recoveries=config.catch_error_max_recoveries if catches else None,
            list_returns=config.is_fan_out,
            tells_times=True,
            waits=True,  # a tool or a helper may
            collects=_collects(config),
            feeds=feeds,
            broad_waits=config.accept_event_subclasses,
            own_waits=True,
        ),
    )
    return call


def _passed(context: Any) -> None:
    """Note that the calling step is through: it will open no wait any more."""
    execution = running_execution()
    if context.reopening is not None and execution is not None:
        context.reopening.passed(execution.delivery.id)


def _collects(config: Any) -> CollectSpec | None:
    """Return what a step of theirs collects."""
    if config.collection_param is not None:
        cardinality = getattr(config.collection_policy, "cardinality", None)
        return CollectSpec(_batch, most=getattr(cardinality, "n", None))
    if config.collect_params is not None:
        return CollectSpec(_batch, slots=tuple(event_type for _, event_type in config.collect_params))
    return None


def _batch(events: list[Any]) -> Any:
    return installed.events.CollectionReleaseEvent(events=events)


def state_type_of(workflow: Any) -> type | None:
    """Return the type of the state that the steps of a workflow of theirs name; None for any keys."""
    found: type = installed.infer_state_type(workflow)
    return None if found is installed.stores.DictState or issubclass(found, DictState) else found


class Resources(ResourceManager):
    """Inject the resources of a step by their own manager, all of one step in one scope."""

    def __init__(self, workflow: Any) -> None:
        super().__init__()
        self._workflow = workflow

    async def get(self, definitions: Any) -> Any:
        """Return the resources by the names of the step's parameters."""
        manager = installed.resources_of(self._workflow)
        found: dict[str, Any] = {}
        with manager.resolution_scope():
            for definition in definitions:
                definition.resource.set_type_annotation(definition.type_annotation)
                found[definition.name] = await manager.get(resource=definition.resource)
        return found


class _Retries:
    """Ask a retry policy of theirs, which counts failures from 1 and may take a seed for its jitter."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._takes_seed = "seed" in inspect.signature(policy.next).parameters

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Return the seconds until the next attempt; None to give up."""
        failures = attempts + 1
        execution = running_execution()
        seed: dict[str, int] = {}
        if execution is not None:
            clock = CLOCK if execution.owner is None else execution.owner.clock
            execution.delivery.last_failure = (error, clock.now())
            if self._takes_seed and execution.context is not None:
                text = f"{execution.context.run_id}:{execution.delivery.step}:{failures}"
                seed["seed"] = int(hashlib.sha256(text.encode()).hexdigest(), 16) & 0xFFFF_FFFF
        delay: float | None = self._policy.next(elapsed_time, failures, error, **seed)
        return delay


def _checked(name: str, result: Any, config: Any) -> Any:
    """Refuse what a step of theirs may not return, as their engine does."""
    if result is None:
        return None
    if isinstance(result, list) and config.is_fan_out:
        for item in result:
            if not isinstance(item, Event):
                raise installed.WorkflowRuntimeError(
                    f"Step function {name} returned a list containing {type(item).__name__}"
                    " instead of an Event instance."
                )
        return result
    if not isinstance(result, Event):
        raise installed.WorkflowRuntimeError(
            f"Step function {name} returned {type(result).__name__} instead of an Event instance."
        )
    if config.is_fan_out and not isinstance(result, tuple(t for t in config.bare_return_types if isinstance(t, type))):
        raise installed.WorkflowRuntimeError(
            f"Step function {name} returned a bare {type(result).__name__} but its return annotation only declares it"
            " inside a list. Return a one-element list to fan out, or declare the bare type as a union member."
        )
    return result
