"""The installed llama-index-workflows: the only module that knows private names of it.

Tested with the newest two minor versions (`versions`). What is private there and used here: `_step_config` of a step,
`_get_steps`, `_timeout`, `_num_concurrent_runs`, `_verbose`, `_resource_manager`, `_validate`,
`_validate_valid_step_message`, `_step_functions_version`, `_dispatcher` and `_get_start_event_instance` of a workflow;
`_face` and `_create_face` of a context, `_store` of one that no run has had yet, and the modules of both;
`_compute_collection_bindings`, `_resolve_output` of `verbose`, `_event_summary` and the instrumentation's events in
`step_function`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

import workflows
from llama_index_instrumentation import NullEventHandler, NullSpanHandler
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.events.span import SpanDropEvent
from llama_index_instrumentation.span import active_span_id
from workflows import errors, events, handler
from workflows._event_summary import summarize_event
from workflows.context import context, context_types, external_context, internal_context, pre_context
from workflows.context import state_store as stores
from workflows.errors import (
    ContextStateError,
    WorkflowCancelledByUser,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
    WorkflowValidationError,
)
from workflows.retry_policy import RetryInfo
from workflows.runtime.types.internal_state import _compute_collection_bindings
from workflows.runtime.types.results import InternalContextVar
from workflows.runtime.types.step_function import SpanCancelledEvent, WorkflowRunOutputEvent, WorkflowStepOutputEvent
from workflows.runtime.verbose import _resolve_output

__all__ = [
    "NULL_HANDLERS",
    "ContextStateError",
    "ExternalContext",
    "InternalContext",
    "PreContext",
    "RetryInfo",
    "SpanCancelledEvent",
    "SpanDropEvent",
    "WorkflowCancelledByUser",
    "WorkflowRunOutputEvent",
    "WorkflowRuntimeError",
    "WorkflowStepOutputEvent",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
    "active_span_id",
    "active_tags",
    "are_alike",
    "context_of",
    "context_types",
    "dispatcher_of",
    "enter_step",
    "errors",
    "events",
    "face_of",
    "handler",
    "infer_state_type",
    "is_workflow",
    "set_face",
    "set_tags",
    "settings_of_theirs",
    "start_event_of",
    "steps_of_theirs",
    "stores",
    "summarize_event",
    "validate",
    "verbose_output",
    "workflow_type",
]

ExternalContext: Final = external_context.ExternalContext
InternalContext: Final = internal_context.InternalContext
PreContext: Final = pre_context.PreContext
workflow_type: Final = workflows.Workflow
infer_state_type: Final = stores.infer_state_type
NULL_HANDLERS: Final = (NullSpanHandler, NullEventHandler)
"""The classes of the handlers of spans and events that do nothing."""


def is_workflow(value: object) -> bool:
    """Tell whether a value is an object of their Workflow."""
    return isinstance(value, workflow_type)


def steps_of_theirs(workflow: Any) -> dict[str, tuple[Callable[..., Any], Any]]:
    """Return the steps of a workflow by name: the function, bound to it unless it is free, and its configuration."""
    return {name: (function, function._step_config) for name, function in workflow._get_steps().items()}


def settings_of_theirs(workflow: Any) -> dict[str, Any]:
    """Return what a workflow was made with, by the names of our own parameters."""
    return {
        "timeout": workflow._timeout,
        "num_concurrent_runs": workflow._num_concurrent_runs,
    }


def verbose_output(workflow: Any) -> Callable[[str], None] | None:
    """Return what gets the lines of a verbose workflow; None for one that is not verbose."""
    return _resolve_output() if workflow._verbose else None


def resources_of(workflow: Any) -> Any:
    """Return the manager of a workflow's resources."""
    return workflow._resource_manager


def validate(workflow: Any) -> bool:
    """Check a workflow as its own `run` does; return whether a human is in the loop."""
    return bool(workflow._validate())


def start_event_of(workflow: Any, event: Any, fields: Mapping[str, Any]) -> Any:
    """Return the start event of a run, from the event or the fields that `run` was given."""
    return workflow._get_start_event_instance(event, **fields)


def event_classes(workflow: Any) -> tuple[Any, Any]:
    """Return the start and the stop event class of a workflow."""
    return workflow.start_event_class, workflow.stop_event_class


def feeds_of(workflow: Any) -> dict[str, tuple[str, ...]]:
    """Return for each step that returns lists the steps that collect what comes of them."""
    found: dict[str, list[str]] = {}
    for source, target in bindings_of(workflow).values():
        found.setdefault(source, []).append(target)
    return {source: tuple(targets) for source, targets in found.items()}


def bindings_of(workflow: Any) -> dict[str, tuple[str, str]]:
    """Return by the names that payloads have for them which step that returns lists feeds which one that collects."""
    configs = {name: config for name, (_, config) in steps_of_theirs(workflow).items()}
    return {
        name: (str(binding.source_step), str(binding.target_step))
        for name, binding in _compute_collection_bindings(configs).items()
    }


def steps_version(workflow: Any) -> int:
    """Return a number that changes when a step is added to the class of a workflow."""
    return int(type(workflow)._step_functions_version)


def dispatcher_of(workflow: Any) -> Any:
    """Return what the spans of a workflow are told to."""
    return workflow._dispatcher


def active_tags() -> dict[str, Any]:
    """Return a copy of the tags of the calling task."""
    return dict(active_instrument_tags.get())


def set_tags(tags: dict[str, Any]) -> None:
    """Set the tags of the calling task."""
    active_instrument_tags.set(tags)


class _Bare(workflows.Workflow):  # type: ignore[misc]
    @workflows.step  # type: ignore[untyped-decorator]
    async def only(self, ev: events.StartEvent) -> events.StopEvent:
        return events.StopEvent()


_COMMON: Final = frozenset(vars(_Bare()))
"""The attributes that every workflow has, for settings and for what it has worked out."""


def are_alike(one: Any, other: Any) -> bool:
    """Tell whether two workflows do the same: they are of one class, and their own attributes are equal."""
    if type(one) is not type(other):
        return False
    first, second = ({**vars(each), **(getattr(each, "__pydantic_private__", None) or {})} for each in (one, other))
    names = {name for name in (*first, *second) if name not in _COMMON and not name.startswith("_stepwire")}
    try:
        return all(name in first and name in second and bool(first[name] == second[name]) for name in names)
    except Exception:  # noqa: BLE001 - __eq__ is the author's code
        return False


# -- contexts: an object of theirs whose face is ours -----------------------------------------------------------------


def context_of(face: Any) -> Any:
    """Return a new context of theirs with this face."""
    return context.Context._create_face(face)


def face_of(ctx: Any) -> Any:
    """Return the face of a context of theirs."""
    return ctx._face


def set_face(ctx: Any, face: Any) -> None:
    """Give a context of theirs another face."""
    ctx._face = face


def is_context(value: object) -> bool:
    """Tell whether a value is a context of theirs."""
    return isinstance(value, context.Context)


def enter_step(ctx: Any) -> None:
    """Make `Context.get_step_context()` return this context in the calling task and what it starts."""
    InternalContextVar.set(weakref.ref(ctx))


def check_target(workflow: Any, step: str, message: Any) -> None:
    """Raise their WorkflowRuntimeError if a workflow has no such step, or the step does not accept the event."""
    workflow._validate_valid_step_message(step, message)


# -- saved contexts ---------------------------------------------------------------------------------------------------


def serializer_of(workflow: Any) -> Any:
    """Return the serializer of a workflow's contexts."""
    return workflow.runtime.get_serializer(workflow)


def serializer_of_face(face: Any) -> Any:
    """Return the serializer that a context which no run has had yet was read with."""
    return face.serializer


def snapshot_of(face: Any) -> Any:
    """Return what a context that no run has had yet was read from."""
    return face.init_snapshot


def staged_store(face: Any) -> Any:
    """Return the store of a context that no run has had yet; None if nobody has asked for it."""
    return face._store


def staged_state(face: Any) -> Any:
    """Return the state in a context that no run has had yet."""
    store = face.store
    record = store._memory_storage.load_sync()
    return store.state_type() if record is None else record.data
