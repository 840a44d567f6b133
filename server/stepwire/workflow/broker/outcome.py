"""How a run ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from stepwire.workflow.adopted_events import is_plain_stop as is_adopted_stop
from stepwire.workflow.errors import RunLimitError, SerializationError
from stepwire.workflow.events import StopEvent, WorkflowFailedEvent

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "DEFAULT_TIMEOUT",
    "ENDED_TIMED_OUT",
    "FAILED",
    "Outcome",
    "damage",
    "default_hint",
    "is_plain_stop",
    "limit_reached",
    "result_of",
    "why_timed_out",
]

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED_TIMED_OUT: Final = "timed_out"

DEFAULT_TIMEOUT: Final = 45.0
"""Seconds that a run may take unless its workflow or its start says otherwise: as in 1.x."""


def why_timed_out(seconds: float | None) -> str:
    """Say why a run timed out."""
    return f"the run took longer than {seconds or 0:g} seconds{default_hint(seconds)}"


def default_hint(seconds: float | None) -> str:
    """Return what to add to the message about a timeout that nobody has chosen; else nothing."""
    if seconds != DEFAULT_TIMEOUT:
        return ""
    return ", the default timeout: give the workflow or the start of the run another one, or None for no limit"


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        status: COMPLETED, FAILED, CANCELLED or ENDED_TIMED_OUT.
        event: The terminal event of the stream.
        error: What the run failed with; known only in the process that ran it.
        encoded: The event as a snapshot holds it, where that is known already.
        left: Whether the snapshot keeps what the run had in progress, so that a retry can go on with it: the id of the
            delivery that failed, or 0 if none did. None if the snapshot keeps nothing.
    """

    status: str
    event: StopEvent
    error: BaseException | None
    encoded: bytes | None = None
    left: int | None = None


def result_of(event: StopEvent) -> Any:
    """Return the result of a run: the `result` of a plain StopEvent, else the event itself."""
    return event.result if is_plain_stop(type(event)) else event


def is_plain_stop(event_type: type) -> bool:
    """Tell whether a stop event is the engine's StopEvent itself, or that of an adopted library."""
    return event_type is StopEvent or is_adopted_stop(event_type)


def damage(keys: Iterable[str]) -> Outcome:
    """Return the end of a run whose state was changed in place so that it cannot be saved any more."""
    found = sorted(keys)
    error = SerializationError(f"The state cannot be saved any more: {', '.join(found)}", keys=found)
    event = WorkflowFailedEvent(step=None, error_type="SerializationError", message=str(error), attempts=0)
    return Outcome(FAILED, event, error)


def limit_reached(message: str, step: str = "") -> Outcome:
    """Return the end of a run that has reached a limit of its host."""
    error = RunLimitError(message)
    event = WorkflowFailedEvent(step=step or None, error_type="RunLimitError", message=message, attempts=0)
    return Outcome(FAILED, event, error)
