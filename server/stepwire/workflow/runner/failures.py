"""What happens when an attempt fails: a retry, a step that catches it, or the end of the run."""

from __future__ import annotations

import logging
import math

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.delivery import Delivery, Execution
from stepwire.workflow.broker.journal import FailureReport, Host
from stepwire.workflow.broker.outcome import FAILED
from stepwire.workflow.errors import CrashLoopError
from stepwire.workflow.events import StepFailedEvent, WorkflowFailedEvent
from stepwire.workflow.runner.results import is_final, may_be_retried, text_of

__all__ = ["fail", "give_up_lost"]

logger = logging.getLogger("stepwire.workflow")

_MESSAGE_CHARACTERS = 16_384
"""An event of a failure holds the start of a longer message: clients must be able to read the run."""


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
            if delay is not None and not math.isfinite(delay):
                raise ValueError("the delay is not a finite number of seconds")
        except BaseException as failure:
            delay = None
            if host is None:
                logger.exception("the retry policy of step '%s' failed", delivery.step)
            else:  # which knows how much a log may tell
                host.report(f"{delivery.step} (its retry policy)", failure)
        if delay is not None:
            broker.retry(execution, delay)
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
    report = _report(host, step, error)
    name = "CRASH_LOOP" if isinstance(error, CrashLoopError) else type(error).__name__
    catcher = None if is_final(error) else broker.routing.catcher(step)
    if catcher is not None:
        caught = StepFailedEvent(
            step=step,
            error_type=name,
            message=report.message,
            attempts=attempts,
            event=delivery.event,
        )
        broker.fail(delivery, caught, catcher, error)
        return
    event = WorkflowFailedEvent(
        step=step,
        error_type=name,
        message=report.message,
        attempts=attempts,
        reference=report.reference,
    )
    broker.end(FAILED, event, error)


def _report(host: Host | None, step: str, error: BaseException) -> FailureReport:
    report = FailureReport(text_of(error), "", "") if host is None else host.report(step, error)
    message = report.message
    if len(message) > _MESSAGE_CHARACTERS:
        message = f"{message[:_MESSAGE_CHARACTERS]}… ({len(message)} characters)"
    # An exception's text may hold what no log can: halves of surrogate pairs.
    return report._replace(message=message.encode(errors="replace").decode())
