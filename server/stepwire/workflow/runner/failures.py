"""What happens when an attempt fails: a retry, a step that catches it, or the end of the run."""

from __future__ import annotations

import logging
import math

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.attempts import note
from stepwire.workflow.broker.deliveries.delivery import Delivery, Execution
from stepwire.workflow.broker.deliveries.executions import FAILED as FAILED_ATTEMPT
from stepwire.workflow.broker.deliveries.executions import TIMED_OUT, AttemptFailure
from stepwire.workflow.broker.host import FailureReport, Host
from stepwire.workflow.broker.outcome import FAILED
from stepwire.workflow.broker.timing.clock import LONGEST
from stepwire.workflow.errors import CrashLoopError, StepTimeoutError
from stepwire.workflow.events import StepFailedEvent, WorkflowFailedEvent
from stepwire.workflow.jsonable import readable
from stepwire.workflow.runner.results import is_final, may_be_retried, text_of

__all__ = ["fail", "give_up_lost", "timed_out"]

logger = logging.getLogger("stepwire.workflow")

_MESSAGE_CHARACTERS = 16_384
"""An event of a failure holds the start of a longer message: clients must be able to read the run."""
_ATTEMPT_CHARACTERS = 2_048
"""So does what is kept of each failed attempt: a run may have many."""


def fail(broker: Broker, host: Host | None, execution: Execution, error: BaseException) -> None:
    """Retry a failed attempt as its step's policy says, else give the delivery up (S2).

    Args:
        broker: The broker of the run.
        host: Logs the failure and says what may be told of it; None in process.
        execution: The attempt.
        error: What it failed with.
    """
    delivery = execution.delivery
    policy = broker.routing.steps[delivery.step].retry_policy
    if policy is not None and may_be_retried(error):
        elapsed = max(0.0, broker.clock.now() - (delivery.first_started or 0.0))
        try:
            delay = policy.next(elapsed, delivery.failures, error)  # type: ignore[arg-type]
            if delay is not None:
                if not math.isfinite(delay):
                    raise ValueError("the delay is not a finite number of seconds")
                delay = min(max(0.0, float(delay)), LONGEST)
        except BaseException as failure:  # a policy is the author's code
            delay = None
            if host is None:
                logger.exception("the retry policy of step '%s' failed", delivery.step)
            else:  # which knows how much a log may tell
                host.report(f"{delivery.step} (its retry policy)", failure)
        if delay is not None:
            next_at = broker.clock.now() + delay
            told = None
            if host is not None or broker.routing.steps[delivery.step].tells_times:
                told = _told(_report(host, delivery, error, next_at), error)
            if host is not None:
                note(broker, delivery, _status_of(error), told, next_at=next_at)
            broker.retry(execution, delay, told)
            return
    _give_up(broker, host, delivery, error, delivery.failures + 1)


def give_up_lost(broker: Broker, host: Host | None, delivery: Delivery) -> None:
    """Give up a delivery that was lost to crashes too often (CRASH_LOOP)."""
    error = CrashLoopError(
        f"{delivery.lost} executions were lost to crashes",
        step=delivery.step,
        attempts=delivery.attempt,
    )
    _give_up(broker, host, delivery, error, delivery.attempt)


def _give_up(broker: Broker, host: Host | None, delivery: Delivery, error: BaseException, attempts: int) -> None:
    step = delivery.step
    report = _report(host, delivery, error)
    name = _name(error)
    if host is not None:
        note(broker, delivery, _status_of(error), _told(report, error))
    times: dict[str, float] = {}
    if broker.routing.steps[step].tells_times:
        now = broker.clock.now()
        times = {"elapsed_seconds": max(0.0, now - (delivery.first_started or now)), "failed_at": now}
    catcher = None if is_final(error) else broker.routing.catcher(step)
    if catcher is not None and (most := broker.routing.steps[catcher].max_recoveries) is not None:
        made = 0 if delivery.lineage is None else delivery.lineage.recoveries.get(catcher, 0)
        catcher = catcher if made < most else None
    if catcher is not None:
        caught = StepFailedEvent(
            step=step,
            error_type=name,
            message=report.message,
            attempts=attempts,
            event=delivery.event,
            **times,
        )
        broker.fail(delivery, caught, catcher, error)
        return
    event = WorkflowFailedEvent(
        step=step,
        error_type=name,
        message=report.message,
        attempts=attempts,
        reference=report.reference,
        **times,
    )
    failed = None if isinstance(error, CrashLoopError) else delivery  # after a crash no effect is repeated
    broker.end(FAILED, event, error, failed=failed)


def _status_of(error: BaseException) -> int:
    return TIMED_OUT if isinstance(error, StepTimeoutError) else FAILED_ATTEMPT


def _name(error: BaseException) -> str:
    return "CRASH_LOOP" if isinstance(error, CrashLoopError) else type(error).__name__


def _told(report: FailureReport, error: BaseException) -> AttemptFailure:
    """Return a failure as the log and the snapshot keep it."""
    message = report.message
    if len(message) > _ATTEMPT_CHARACTERS:
        message = f"{message[:_ATTEMPT_CHARACTERS]}…"
    return AttemptFailure(_name(error), message, report.traceback, report.reference)


def _report(host: Host | None, delivery: Delivery, error: BaseException, next_at: float | None = None) -> FailureReport:
    if host is None:
        report = FailureReport(text_of(error), "", "")
    else:
        report = host.report(delivery.step, error, attempt=delivery.attempt, next_at=next_at)
    message = report.message
    if len(message) > _MESSAGE_CHARACTERS:
        message = f"{message[:_MESSAGE_CHARACTERS]}… ({len(message)} characters)"
    return report._replace(message=readable(message))


def timed_out(broker: Broker, execution: Execution) -> StepTimeoutError:
    """Return the error of an attempt that took longer than its step may."""
    delivery = execution.delivery
    text = f"the attempt took longer than {broker.routing.steps[delivery.step].timeout} seconds"
    return StepTimeoutError(text, step=delivery.step, attempts=delivery.failures + 1)
