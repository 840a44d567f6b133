"""What events are for: the one table of roles, by the base class of the engine that an event descends from."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)

__all__ = ["PLAIN", "ROLES", "EventKind", "Role", "role_of"]

EventKind = Literal["start", "stop", "input_required", "human_response", "step_failed", "event"]


class Role(NamedTuple):
    """The role of an event type.

    Attributes:
        kind: Its name in the description of a workflow.
        number: Its number in the log and on the wire; 0 for events without a role there.
    """

    kind: EventKind
    number: int


ROLES: Final[dict[type[Event], Role]] = {
    StartEvent: Role("start", 1),
    StopEvent: Role("stop", 2),
    InputRequiredEvent: Role("input_required", 3),
    HumanResponseEvent: Role("human_response", 4),
    StepFailedEvent: Role("step_failed", 0),
}
PLAIN: Final = Role("event", 0)

_known: dict[type, Role] = {}


def role_of(event_type: type) -> Role:
    """Return the role of an event type; of two bases the one that stands first in the table counts."""
    role = _known.get(event_type)
    if role is None:
        role = next((role for base, role in ROLES.items() if issubclass(event_type, base)), PLAIN)
        _known[event_type] = role
    return role
