"""Why something on the server failed."""

from __future__ import annotations

from dataclasses import dataclass

from stepwire.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run, or an attempt at a step, failed. What the server does not disclose is "".

    Attributes:
        step: The step that failed; "" when the failure was not in a step.
        error_type: The class of the exception.
        message: The text of the exception.
        attempts: How often the delivery was attempted.
        reference_id: An id that finds the failure in the server's log.
        traceback: The traceback as text.
    """

    step: str
    error_type: str
    message: str
    attempts: int
    reference_id: str
    traceback: str


def to_failure(failure: types_pb2.Failure) -> Failure:
    """Return why something failed."""
    return Failure(
        failure.step,
        failure.error_type,
        failure.message,
        failure.attempts,
        failure.reference_id,
        failure.traceback,
    )
