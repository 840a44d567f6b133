"""The record of a run: what every list, look and wait of callers shows of it."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

from stepwire.server.registry import Served
from stepwire.server.runs.payloads import value_to_json
from stepwire.server.store import RunRecord, Status
from stepwire.workflow.hosting import (
    TERMINAL,
    Broker,
    Changes,
    LogEntry,
    Outcome,
    StopEvent,
    Waiter,
    WorkflowFailedEvent,
    event_to_json,
    on_wire,
    parts,
)

__all__ = ["BLOCKED_REASON", "LOAD_CRASHES", "SURVIVED", "next_pending", "next_record"]

BLOCKED_REASON = "blocked_reason"
"""In the record of a run: why it is BLOCKED."""
LOAD_CRASHES = "load_crashes"
"""In the record of a run: how often loading it crashed the process, under which code."""
SURVIVED = "survived"
"""In the record of a run: it was suspect of a crash, and has survived its trial since."""

_STATUS = {
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
    "timed_out": Status.TIMED_OUT,
}


def next_pending(
    last: RunRecord, served: Served, broker: Broker, changes: Changes
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any] | None]]:
    """Return the open questions after these changes, and those of them that changed; None for closed ones."""
    if broker.outcome is not None:
        return {}, {}
    pending = last.pending
    numbers = {*parts.numbers_of(changes.parts, parts.WAITER), *parts.numbers_of(changes.deleted, parts.WAITER)}
    if "pending" in last.info:  # written by a version that kept all of them in the record
        pending = {}
        numbers |= {waiter.number for waiter in broker.waits}
    if not numbers:
        return pending, {}
    pending = dict(pending)
    changed: dict[int, dict[str, Any] | None] = {}
    for number in sorted(numbers):
        question = _question(served, broker.waits.get(number))
        if question is not None:
            pending[number] = changed[number] = question
        elif pending.pop(number, None) is not None:
            changed[number] = None
    return pending, changed


def next_record(
    last: RunRecord,
    served: Served,
    broker: Broker,
    changes: Changes,
    pending: dict[int, dict[str, Any]],
    *,
    paused: bool,
    survived: bool = False,
    traceback: str = "",
) -> RunRecord:
    """Return the record that a commit of these changes writes.

    Args:
        last: The record that the last commit wrote.
        served: The run's workflow.
        broker: The run.
        changes: What the commit holds.
        pending: The open questions.
        paused: Whether the run is queued: nothing of it starts.
        survived: Whether the run was suspect of a crash, and has survived its trial since.
        traceback: What may be told of the place of its failure.
    """
    now = broker.clock.now()
    outcome = broker.outcome
    info = dict(last.info)
    info["version"] = served.version
    info["timeout_at"] = broker.limit.due
    for passing in (BLOCKED_REASON, LOAD_CRASHES, SURVIVED, "pending"):
        info.pop(passing, None)
    if survived:
        info[SURVIVED] = True
    wake_at: float | None
    if outcome is not None:
        info["outcome"] = _told(outcome, served, changes.entries, traceback)
        info["timeout_at"] = wake_at = None
        status = _STATUS[outcome.status]
    elif paused:
        status, wake_at = Status.QUEUED, 0.0
    elif not broker.idle:
        status, wake_at = Status.RUNNING, 0.0
    else:
        status, wake_at = Status.WAITING, broker.next_due()
    return RunRecord(  # `replace` takes three times as long
        key=last.key,
        workflow=last.workflow,
        status=status,
        created_at=last.created_at,
        updated_at=now,
        ended_at=now if outcome is not None else None,
        wake_at=wake_at,
        last_sequence=broker.sequence,
        first_available=last.first_available,
        labels=last.labels,
        start_request_id=last.start_request_id,
        start_digest=last.start_digest,
        info=info,
        pending=pending,
    )


def _question(served: Served, waiter: Waiter | None) -> dict[str, Any] | None:
    """Describe an open question; None for a durable sleep, and for what is not open any more."""
    if waiter is None or waiter.event_type is None or waiter.delivery is None:
        return None
    names = served.names
    return {
        "waiter_id": waiter.id,
        "event_type": names.name_of(waiter.event_type),
        "requirements": from_json(value_to_json(on_wire(waiter.event_type, waiter.requirements))),
        "prompt_type": names.name_of(type(waiter.prompt)) if waiter.prompt is not None else "",
        "prompt": event_to_json(waiter.prompt).decode() if waiter.prompt is not None else "",
        "deadline": waiter.due,
        "step": waiter.delivery.step,
    }


def _told(outcome: Outcome, served: Served, entries: list[LogEntry], traceback: str) -> dict[str, Any]:
    """Describe how the run ended."""
    status, event = outcome.status, outcome.event
    told: dict[str, Any] = {"status": _STATUS[status], "event_type": served.names.name_of(type(event))}
    # The end is the last entry of the log; it is not there when another commit ends with it.
    data = entries[-1].data if entries and entries[-1].kind == TERMINAL else event_to_json(event)
    fields = from_json(data)
    if status == "completed":
        told["result"] = (to_json(fields.get("result")) if type(event) is StopEvent else data).decode()
    elif isinstance(event, WorkflowFailedEvent):
        told["failure"] = {
            "step": event.step or "",
            "error_type": event.error_type,
            "message": event.message,
            "attempts": event.attempts,
            "reference_id": event.reference,
            "traceback": traceback,
        }
    elif status == "timed_out":
        told["reason"] = f"the run took longer than {fields.get('timeout')} seconds"
    else:
        told["reason"] = str(fields.get("reason", ""))
    return told
