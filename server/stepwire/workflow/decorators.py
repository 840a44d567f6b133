"""`@step` and `@catch_error`: what turns a method or function into a step."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, TypeVar, overload

from stepwire.workflow.definition.signature import inspect_signature
from stepwire.workflow.definition.step_config import (
    StepConfig,
    StepFunction,
    StepOwner,
    set_step_config,
    step_config_of,
)
from stepwire.workflow.errors import WorkflowValidationError
from stepwire.workflow.events import StepFailedEvent
from stepwire.workflow.retry_policy import RetryPolicy
from stepwire.workflow.wire_names import are_names

__all__ = ["StepConfig", "StepFunction", "catch_error", "step", "step_config_of"]

F = TypeVar("F", bound=Callable[..., Any])

_WAITS = frozenset({"wait_for_event", "sleep"})
"""What a step calls to wait."""


@overload
def step(func: F, /) -> F: ...
@overload
def step(
    *,
    workflow: type[StepOwner] | None = None,
    num_workers: int = 4,
    retry_policy: RetryPolicy | None = None,
    accept_subclasses: bool = False,
    timeout: float | None = None,
    aliases: Sequence[str] = (),
) -> Callable[[F], F]: ...
def step(
    func: Callable[..., Any] | None = None,
    /,
    *,
    workflow: type[StepOwner] | None = None,
    num_workers: int = 4,
    retry_policy: RetryPolicy | None = None,
    accept_subclasses: bool = False,
    timeout: float | None = None,
    aliases: Sequence[str] = (),
) -> Any:
    """Make a step of a method, or of a free function that is added to the class `workflow`.

    Exactly one parameter is annotated with the event type, or union of types, that the step
    accepts; the return annotation names what it may return: event types, None, or a list of
    events to send on one by one. `Context` parameters, resources and services are passed by
    annotation. At most `num_workers` executions run at a time in a run; `timeout` bounds one
    attempt, in seconds; `accept_subclasses` also takes events of subclasses of the annotated
    types. `aliases` are names that the step had before: runs that were saved under them go on
    with it. Raises WorkflowValidationError, naming the step, when a rule is broken.
    """

    def decorate(target: F) -> F:
        return _make_step(
            target,
            workflow,
            num_workers=num_workers,
            retry_policy=retry_policy,
            accept_subclasses=accept_subclasses,
            timeout=timeout,
            aliases=aliases,
        )

    return decorate if func is None else decorate(func)


@overload
def catch_error(func: F, /) -> F: ...
@overload
def catch_error(*, steps: Sequence[str] | None = None, aliases: Sequence[str] = ()) -> Callable[[F], F]: ...
def catch_error(
    func: Callable[..., Any] | None = None,
    /,
    *,
    steps: Sequence[str] | None = None,
    aliases: Sequence[str] = (),
) -> Any:
    """Make a step that is given a StepFailedEvent when another step fails for good.

    With `steps` it takes the failures of those only. `aliases` are names that it had before. Raises
    WorkflowValidationError when a rule is broken.
    """
    if isinstance(steps, str) or (steps is not None and not steps):
        raise WorkflowValidationError("@catch_error: steps must be a non-empty list of step names")

    def decorate(target: F) -> F:
        return _make_step(target, None, catches=tuple(steps or ()), aliases=aliases)

    return decorate if func is None else decorate(func)


def _make_step(
    target: F,
    workflow: type[StepOwner] | None,
    *,
    num_workers: int = 4,
    retry_policy: RetryPolicy | None = None,
    accept_subclasses: bool = False,
    timeout: float | None = None,
    catches: tuple[str, ...] | None = None,
    aliases: Sequence[str] = (),
) -> F:
    func = getattr(target, "__func__", target)  # a staticmethod or classmethod object
    if not inspect.isroutine(func):
        raise WorkflowValidationError(f"A step must be a method or a function, not {type(target).__name__}")
    name = func.__name__
    if workflow is None and _is_free(func.__qualname__):
        raise WorkflowValidationError(f"Step {name!r} is a free function: name its class with @step(workflow=…)")
    _check_options(name, num_workers, retry_policy, timeout)
    if not are_names(aliases):
        raise WorkflowValidationError(f"Step {name!r}: aliases must be a list of the names that it had before")
    signature = inspect_signature(func, _caller())
    if catches is not None and signature.accepted_events != [StepFailedEvent]:
        raise WorkflowValidationError(f"Step {name!r}: a @catch_error step accepts StepFailedEvent and nothing else")
    config = StepConfig(
        accepted_events=signature.accepted_events,
        event_name=signature.event_name,
        return_types=signature.return_types,
        context_parameter=signature.context_parameter,
        context_state_type=signature.context_state_type,
        num_workers=num_workers,
        requested_services=signature.requested_services,
        retry_policy=retry_policy,
        resources=signature.resources,
        accept_subclasses=accept_subclasses,
        timeout=timeout,
        is_async=inspect.iscoroutinefunction(func),
        catches=catches,
        list_returns=signature.list_returns,
        aliases=tuple(aliases),
        waits=not _WAITS.isdisjoint(getattr(getattr(inspect.unwrap(func), "__code__", None), "co_names", ())),
    )
    set_step_config(func, config)
    if workflow is not None:
        workflow.add_step(func)
    return target


def _caller() -> FrameType | None:
    """Return the frame that decorates: the first one outside this module."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals is globals():
        frame = frame.f_back
    return frame


def _is_free(qualname: str) -> bool:
    parent = qualname.rpartition(".")[0]
    return not parent or parent.endswith("<locals>")


def _check_options(name: str, num_workers: object, retry_policy: object, timeout: object) -> None:
    if type(num_workers) is not int or num_workers < 1:
        raise WorkflowValidationError(f"Step {name!r}: num_workers must be an int above 0")
    if retry_policy is not None and (isinstance(retry_policy, type) or not isinstance(retry_policy, RetryPolicy)):
        raise WorkflowValidationError(f"Step {name!r}: retry_policy has no method next")
    if timeout is not None and not (
        isinstance(timeout, int | float) and not isinstance(timeout, bool) and math.isfinite(timeout) and timeout > 0
    ):
        raise WorkflowValidationError(f"Step {name!r}: timeout must be a finite number of seconds above 0")
