"""Start runs for the steps of one run: what the engine asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from stepwire.server.registry import Registry, Served
from stepwire.server.runs.errors import InvalidError
from stepwire.server.runs.family.outcomes import event_of
from stepwire.server.runs.requests import Parent, StartRequest
from stepwire.server.store import RunKey, RunRecord
from stepwire.workflow.hosting import (
    Child,
    ChildCall,
    ChildRunError,
    ChildSend,
    Event,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    event_to_json,
    has_long_integer,
)

__all__ = ["ChildLimits", "RunChildren"]


class ChildLimits(NamedTuple):
    """How many runs one run may start.

    Attributes:
        at_once: Children under way at a time; further ones wait, in order.
        in_all: Children in all.
        depth: How deep runs may be nested: 1 for children that have no children.
        input_bytes: Bytes of an input as JSON.
    """

    at_once: int = 100
    in_all: int = 100_000
    depth: int = 16
    input_bytes: int = 3 << 20


class Starts(Protocol):
    """What the children of one run need of the family."""

    registry: Registry
    limits: ChildLimits

    def served_elsewhere(self, workflow: str) -> bool:
        """Tell whether another replica serves a workflow."""

    def carry_out(self, key: RunKey, children: Iterable[Child]) -> None:
        """Start or cancel children of a run, or find out about them."""

    def send(self, key: RunKey, sends: Iterable[tuple[Child, ChildSend]]) -> None:
        """Send events to children of a run."""

    def events(self, key: RunKey, child: Child) -> AsyncIterator[Event]:
        """Give the public events of a child of a run."""


class RunChildren:
    """Start, cancel and read the children of one run. It keeps nothing of the run but its name."""

    __slots__ = ("_chain", "_family", "_key", "_workflow")

    def __init__(self, family: Starts, record: RunRecord) -> None:
        self._family = family
        self._key = record.key
        self._workflow = record.workflow
        parent = record.info.get("parent")
        self._chain: tuple[str, ...] = (*(parent["chain"] if parent else ()), record.workflow)

    @property
    def at_once(self) -> int:
        """How many children may be under way at a time."""
        served = self._family.registry.get(self._workflow)
        most = None if served is None else served.workflow.max_children
        return self._family.limits.at_once if most is None else min(most, self._family.limits.at_once)

    @property
    def in_all(self) -> int:
        """How many children the run may start in all."""
        return self._family.limits.in_all

    @property
    def input_bytes(self) -> int:
        """How many bytes the input of a child may have as JSON."""
        return self._family.limits.input_bytes

    def served_as(self, workflow: object) -> str:
        """Return the name under which a workflow object is served.

        It is served if the object is; or if exactly one object of its class is. One of LlamaIndex must have the same
        attributes, too: two agents of one class are not the same agent.
        """
        alike: list[Served] = []
        for served in self._family.registry:
            if served.workflow is workflow:
                return served.name
            if isinstance(workflow, Workflow) and served.workflow.__stands_for__(workflow):
                alike.append(served)
        return alike[0].name if len(alike) == 1 else ""

    def check(self, workflow: str, fields: Mapping[str, Any] | None) -> bytes | None:
        """Check that a run of a workflow may be started, and its input; return the input as JSON."""
        served = self._family.registry.get(workflow)
        if served is None and not self._family.served_elsewhere(workflow):
            names = ", ".join(self._family.registry.names())
            raise ChildRunError(f"no workflow {workflow!r} is served, so no run of it can be started; served: {names}")
        if len(self._chain) > self._family.limits.depth:
            told = " -> ".join((*self._chain, workflow))
            raise ChildRunError(
                f"runs are nested too deep, at most {self._family.limits.depth} (max_child_depth): {told}"
            )
        if fields is None:
            return None
        data = _input_of(None if served is None else served.workflow, workflow, fields)
        if len(data) > (largest := self._family.limits.input_bytes):
            raise ChildRunError(
                f"the input has {len(data)} bytes as JSON, and an input may have at most {largest} (max_entry_bytes)"
            )
        return data

    def check_call(self, call: ChildCall) -> None:
        """Check the id, the labels and the timeout of a call. WorkflowRuntimeError names the fields that are wrong."""
        request = StartRequest(
            workflow=call.workflow, run_id=call.run_id, labels=dict(call.labels), timeout=call.timeout
        )
        try:
            request.check()
        except InvalidError as error:
            raise WorkflowRuntimeError(f"The run of {call.workflow} cannot be started. {error.details}") from error

    def carry_out(self, children: Iterable[Child]) -> None:
        """Start or cancel children, or find out about them."""
        self._family.carry_out(self._key, children)

    def send(self, sends: Iterable[tuple[Child, ChildSend]]) -> None:
        """Send events to children."""
        self._family.send(self._key, sends)

    def event_of(self, child: Child) -> StopEvent | None:
        """Return the terminal event of a child that has ended."""
        return event_of(self._family.registry, child, self._workflow)

    def events(self, child: Child) -> AsyncIterator[Event]:
        """Give the public events of a child."""
        return self._family.events(self._key, child)

    def parent(self, child: Child, step: str) -> Parent:
        """Return what the record of a child says of its parent."""
        return Parent(self._key.run_id, step, child.delivery, child.call.close, self._chain)


def _input_of(workflow: Workflow | None, name: str, fields: Mapping[str, Any]) -> bytes:
    """Return an input as JSON; it is validated if the workflow is served here. WorkflowRuntimeError if it is wrong."""
    try:
        if workflow is None:
            data = to_json(dict(fields))
            if has_long_integer(data):
                raise ValueError("an integer is too long")
            return data
        return event_to_json(workflow.start_event_class(**fields))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the event'}: {each['msg']}" for each in found)
        raise WorkflowRuntimeError(f"The input does not fit the workflow {name}: {told}") from error
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise WorkflowRuntimeError(f"The input of the workflow {name} cannot be written as JSON") from error
