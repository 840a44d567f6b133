"""Read the signature of a step function: what it accepts, what it returns, and what it is passed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Never,
    NoReturn,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel

from stepwire.workflow.definition.unresolved import Namespace, UndefinedContext, unresolved_in
from stepwire.workflow.errors import SignatureError
from stepwire.workflow.events import Event
from stepwire.workflow.resource import Resource, ResourceDefinition
from stepwire.workflow.service import NO_DEFAULT, ServiceDefinition

__all__ = ["StepSignature", "inspect_signature"]

_CONTEXT_PACKAGE = "stepwire.workflow.context"


@dataclass
class StepSignature:
    """Hold what a step's signature declares; the fields are those of StepConfig."""

    accepted_events: list[type[Event]] = field(default_factory=list)
    event_name: str = ""
    return_types: list[type] = field(default_factory=list)
    list_returns: bool = False
    context_parameter: str | None = None
    context_state_type: type | None = None
    requested_services: list[ServiceDefinition] = field(default_factory=list)
    resources: list[ResourceDefinition] = field(default_factory=list)


def inspect_signature(func: Callable[..., Any], frame: FrameType | None = None) -> StepSignature:
    """Read the signature of a step.

    Names in postponed annotations are looked up in the function's module, then in the scopes that enclose `frame`, the
    frame that decorates `func`. A service, or the type of a resource, may have a name that is defined for type
    checkers only.

    Raises:
        SignatureError: A rule is broken; the error names the step.
    """
    name = func.__name__
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise SignatureError(f"Step {name!r} must return its events, not yield them", step=name)
    hints = _resolve(func, name, frame)
    found = StepSignature()
    for index, parameter in enumerate(inspect.signature(func).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if index == 0 and parameter.name in ("self", "cls"):  # also when it is annotated
            continue
        if parameter.name in hints:
            _read_parameter(found, name, parameter, hints[parameter.name])
        elif index > 0 and parameter.default is parameter.empty:  # the first is self
            raise SignatureError(f"Step {name!r}: parameter {parameter.name!r} has no annotation", step=name)
    if not found.accepted_events:
        for service in found.requested_services:
            _require_resolved(name, service.service, f"the annotation of {service.name!r}")
        others = ", ".join(f"{each.name!r} is {_name_of(each.service)}" for each in found.requested_services)
        raise SignatureError(
            f"Step {name!r} must have exactly one parameter annotated with an Event type, it has none"
            + (f": {others}" if others else ""),
            step=name,
        )
    if "return" not in hints:
        raise SignatureError(f"Step {name!r} must have a return annotation", step=name)
    _read_return(found, name, hints["return"])
    return found


def _resolve(func: Callable[..., Any], name: str, frame: FrameType | None) -> dict[str, Any]:
    try:
        try:
            # Never the module's own dict: typing would take what it cached for another module.
            return get_type_hints(func, localns={}, include_extras=True)
        except NameError:
            local = _enclosing_names(func, frame)
            names = Namespace(local, getattr(inspect.unwrap(func), "__globals__", {}))
            return get_type_hints(func, localns=names, include_extras=True)
    except NameError as error:
        raise _undefined(name, error.name or str(error), "its annotations") from error
    except (TypeError, SyntaxError, AttributeError) as error:
        raise SignatureError(f"Step {name!r}: an annotation cannot be evaluated: {error}", step=name) from error


def _undefined(step: str, name: str, where: str) -> SignatureError:
    return SignatureError(
        f"Step {step!r}: the name {name!r} in {where} is not defined when the step is decorated: define or"
        " import it above, and not only under `if TYPE_CHECKING`",
        step=step,
    )


def _require_resolved(step: str, hint: Any, where: str) -> None:
    for name in unresolved_in(hint):
        raise _undefined(step, name, where)


def _enclosing_names(func: Callable[..., Any], frame: FrameType | None) -> dict[str, Any]:
    """Return the local names that are visible in the source around `func`; inner names win."""
    names: dict[str, Any] = {}
    scope = getattr(inspect.unwrap(func), "__globals__", None)
    # A frame of another module does not enclose the definition.
    while frame is not None and frame.f_globals is scope and frame.f_locals is not scope:
        names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names


def _read_parameter(found: StepSignature, step: str, parameter: inspect.Parameter, hint: Any) -> None:
    """Add one parameter of `step`, whose evaluated annotation is `hint`, to what was found so far."""
    where = f"the annotation of {parameter.name!r}"
    if get_origin(hint) is Annotated:
        hint, *metadata = get_args(hint)
        resource = next((item for item in metadata if isinstance(item, Resource)), None)
        if resource is not None:
            _require_resolved(step, resource.factory, where)
            found.resources.append(ResourceDefinition(parameter.name, resource))
            return
        if any(isinstance(item, type) and issubclass(item, Resource) for item in metadata):
            raise SignatureError(f"Step {step!r}: {parameter.name!r} needs Resource(factory), not Resource", step=step)
    members = [member for member in _members(hint) if member is not NoneType]
    events = [member for member in members if _is_event(member)]
    if events and len(events) == len(members):
        if found.event_name:
            raise SignatureError(
                f"Step {step!r} must have exactly one parameter annotated with an Event type,"
                f" it has {found.event_name!r} and {parameter.name!r}",
                step=step,
            )
        found.event_name = parameter.name
        found.accepted_events = events
    elif events:
        _require_resolved(step, hint, where)
        raise SignatureError(f"Step {step!r}: parameter {parameter.name!r} mixes events and other types", step=step)
    elif len(members) == 1 and _is_context(members[0]):
        if found.context_parameter is not None:
            raise SignatureError(f"Step {step!r} has more than one Context parameter", step=step)
        _require_resolved(step, hint, where)
        found.context_parameter = parameter.name
        found.context_state_type = _state_type(step, members[0])
    else:
        default = NO_DEFAULT if parameter.default is parameter.empty else parameter.default
        found.requested_services.append(ServiceDefinition(parameter.name, hint, default))


def _read_return(found: StepSignature, step: str, hint: Any) -> None:
    _require_resolved(step, hint, "its return annotation")
    for member in _members(hint):
        if get_origin(member) is list:
            found.list_returns = True
            elements = [item for arg in get_args(member) for item in _members(arg)]
            allowed = all(map(_is_event, elements))
        else:
            elements = [NoneType if member in (Never, NoReturn) else member]
            allowed = elements[0] is NoneType or _is_event(elements[0])
        if not allowed:
            raise SignatureError(
                f"Step {step!r}: its return annotation may hold event types, None and lists of"
                f" event types, not {_name_of(member)}",
                step=step,
            )
        found.return_types += [item for item in elements if item not in found.return_types]


def _members(hint: Any) -> list[Any]:
    """Return the members of a union, nested ones included; `[hint]` for a plain type."""
    if hint is None:
        return [NoneType]
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if hasattr(hint, "__value__") and not isinstance(hint, type):  # a `type X = …` alias
        return _members(hint.__value__)
    if get_origin(hint) in (Union, UnionType):
        return [member for arg in get_args(hint) for member in _members(arg)]
    return [hint]


def _is_event(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Event)


def _is_context(hint: Any) -> bool:
    """Return whether it is Context or `Context[State]`; by name, because the context is in a higher layer."""
    cls = get_origin(hint) or hint
    if cls is UndefinedContext:
        return True
    return isinstance(cls, type) and any(
        base.__name__ == "Context" and (base.__module__ + ".").startswith(_CONTEXT_PACKAGE + ".")
        for base in cls.__mro__
    )


def _state_type(step: str, hint: Any) -> type | None:
    state = next(iter(get_args(hint)), Any)
    if state is Any or isinstance(state, TypeVar):
        return None
    if not (isinstance(state, type) and issubclass(state, BaseModel)):
        raise SignatureError(f"Step {step!r}: the state type {_name_of(state)} is not a pydantic model", step=step)
    return state


def _name_of(hint: Any) -> str:
    if isinstance(hint, Event):  # never its values
        return f"an object of {type(hint).__name__}"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
