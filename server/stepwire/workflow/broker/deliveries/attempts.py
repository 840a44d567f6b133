"""How attempts at deliveries begin and end: logged if the journal of their run wants to know; what dead ones raise."""

from __future__ import annotations

from stepwire.workflow.broker.deliveries.delivery import Delivery, Execution, RunBroker
from stepwire.workflow.broker.deliveries.executions import LOG_ALL, STARTED, Attempted, AttemptFailure, is_failure
from stepwire.workflow.errors import DeadAttemptError

__all__ = ["dead", "note", "note_start", "take_off"]


def note_start(run: RunBroker, delivery: Delivery) -> None:
    """Log that an attempt is marked in progress, if the log has room."""
    journal = run.journal
    if journal is None or journal.attempts != LOG_ALL or run.sequence >= journal.last_entry:
        return
    run.sequence += 1
    attempted = Attempted(delivery.id, STARTED, delivery.attempt, delivery.sequence)
    journal.log_attempt(run.sequence, delivery.since or 0.0, delivery.step, attempted)


def note(
    run: RunBroker,
    delivery: Delivery,
    status: int,
    failure: AttemptFailure | None = None,
    *,
    next_at: float | None = None,
    began: float = 0.0,
) -> None:
    """Log how an attempt at a delivery ended, if the log has room.

    Args:
        run: The run.
        delivery: The delivery.
        status: How it ended: one of `executions`.
        failure: What the attempt failed with.
        next_at: When the delivery runs again.
        began: When the attempt was marked in progress, where the delivery does not know it any more.
    """
    journal = run.journal
    if journal is None or not journal.attempts or run.sequence >= journal.last_entry:
        return
    if journal.attempts != LOG_ALL and not is_failure(status):
        return
    now = run.clock.now()
    if not began and delivery.execution is not None:
        began = delivery.execution.began
    seconds = max(0.0, now - began) if began else None
    run.sequence += 1
    attempted = Attempted(delivery.id, status, delivery.attempt, delivery.sequence, seconds, failure, next_at)
    journal.log_attempt(run.sequence, now, delivery.step, attempted)


def dead(execution: Execution) -> DeadAttemptError:
    """Return the error of a call by an attempt that was abandoned."""
    return DeadAttemptError(f"step '{execution.delivery.step}' goes on after its attempt was abandoned")


def take_off(executions: list[Execution], execution: Execution) -> None:
    """Take an execution off those under way, if it is one of them: the last one gets its place."""
    if execution.place >= 0:
        last = executions.pop()
        if last is not execution:
            executions[execution.place], last.place = last, execution.place
        execution.place = -1
