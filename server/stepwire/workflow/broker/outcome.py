"""How a run ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from stepwire.workflow.errors import RunLimitError, SerializationError
from stepwire.workflow.events import StopEvent, WorkflowFailedEvent

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "ENDED_TIMED_OUT",
    "FAILED",
    "Outcome",
    "damage",
    "limit_reached",
    "result_of",
]

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED_TIMED_OUT: Final = "timed_out"


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        status: COMPLETED, FAILED, CANCELLED or ENDED_TIMED_OUT.
        event: The terminal event of the stream.
        error: What the run failed with; known only in the process that ran it.
        encoded: The event as a snapshot holds it, where that is known already.
    """

    status: str
    event: StopEvent
    error: BaseException | None
    encoded: bytes | None = None


def result_of(event: StopEvent) -> Any:
    """Return the result of a run: the `result` of a plain StopEvent, else the event itself."""
    return event.result if type(event) is StopEvent else event


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
