"""The record of a run: what every list, look and wait of callers shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from stepwire.server.registry import Served
from stepwire.server.runs.hosting.commits.run_terms import RunTerms
from stepwire.server.runs.hosting.failures import first_line
from stepwire.server.runs.hosting.pauses import PAUSED_SECONDS
from stepwire.server.runs.payloads import value_to_json
from stepwire.server.store import RunRecord, Status
from stepwire.workflow.hosting import (
    PARKED,
    RUNNING,
    TERMINAL,
    Broker,
    Changes,
    LogEntry,
    Outcome,
    StopEvent,
    Waiter,
    WorkflowFailedEvent,
    event_to_json,
    is_plain_stop,
    on_wire,
    parts,
    progress,
    why_timed_out,
)

__all__ = [
    "BLOCKED_REASON",
    "CODE",
    "LOAD_CRASHES",
    "SURVIVED",
    "WAS_QUEUED",
    "RunPause",
    "next_pending",
    "next_record",
]

BLOCKED_REASON = "blocked_reason"
"""In the record of a run: why it is BLOCKED."""
CODE = "code"
"""In the record of a run: the digest of the code that wrote it last, where the version is another text."""
LOAD_CRASHES = "load_crashes"
"""In the record of a run: how often loading it crashed the process, under which code."""
SURVIVED = "survived"
"""In the record of a run: it was suspect of a crash, and has survived its trial since."""

WAS_QUEUED = "queued"
"""In the record of a paused run: it has no slot of `num_concurrent_runs`."""
_PAUSE = "pause"


class RunPause(NamedTuple):
    """The pause of a run.

    Attributes:
        at: When it was paused, in seconds since the epoch.
        by: The caller that paused it.
        reason: Why, for people.
    """

    at: float
    by: str
    reason: str

    @classmethod
    def of(cls, record: RunRecord) -> RunPause | None:
        """Return the pause in a record; None if the run is not paused."""
        pause = record.info.get(_PAUSE)
        return None if pause is None else cls(*pause)


_PASSING = frozenset({CODE, BLOCKED_REASON, LOAD_CRASHES, SURVIVED, "pending", _PAUSE, WAS_QUEUED})
"""What a record does not take over from the one before."""

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
    numbers = parts.numbers_of((*changes.parts, *changes.deleted), parts.WAITER)
    if "pending" in last.info:  # written by a version that kept all of them in the record
        pending = {}
        numbers = sorted({*numbers, *(waiter.number for waiter in broker.waits)})
    if not numbers:
        return pending, {}
    pending = dict(pending)
    changed: dict[int, dict[str, Any] | None] = {}
    for number in numbers:
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
    questions: dict[int, dict[str, Any] | None],
    terms: RunTerms,
    *,
    new: bool,
    queued: bool,
    pause: RunPause | None = None,
    paused_seconds: float = 0.0,
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
        questions: Those of them that changed; None for closed ones.
        terms: Gives the terms of the run.
        new: Whether the commit is the run's first.
        queued: Whether the run is queued: nothing of it starts.
        pause: The pause of the run.
        paused_seconds: For how long its workflow was paused until now.
        survived: Whether the run was suspect of a crash, and has survived its trial since.
        traceback: What may be told of the place of its failure.
    """
    now = broker.work.clock.now()
    outcome = broker.outcome
    info = last.info.copy()
    for name in _PASSING & info.keys():
        del info[name]
    info["version"] = served.version
    if served.version != served.code:
        info[CODE] = served.code
    info["timeout_at"] = broker.limit.due
    if served.tells is not None:
        info.update(served.tells(broker.store))
    if paused_seconds:
        info[PAUSED_SECONDS] = paused_seconds
    if survived:
        info[SURVIVED] = True
    if (children := broker.made_children) is not None:
        info["children"] = children.summary()
        if children.to_start:
            info["children"]["to_start"] = children.to_start
        if children.to_close:
            info["children"]["to_close"] = children.to_close
            if children.unsure:
                info["children"]["starting"] = children.unsure
    wake_at: float | None
    if outcome is not None:
        info["outcome"] = _told(outcome, served, broker, changes.entries, traceback)
        info["timeout_at"] = wake_at = None
        status = _STATUS[outcome.status]
    elif pause is not None:
        info[_PAUSE] = list(pause)
        if queued:
            info[WAS_QUEUED] = True
        status, wake_at = Status.PAUSED, broker.next_due()
    elif queued:
        status, wake_at = Status.QUEUED, 0.0
    elif not progress.is_idle(broker):
        status, wake_at = Status.RUNNING, 0.0
    elif broker.active:
        status, wake_at = Status.PAUSED, broker.next_due()  # its workflow is paused
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
        terms=terms.after(last, broker, pending, questions, info, new=new),
    )


def _question(served: Served, waiter: Waiter | None) -> dict[str, Any] | None:
    """Describe an open question; None for a durable sleep, and for what is not open any more."""
    if waiter is None or waiter.event_type is None or waiter.delivery is None:
        return None
    names, required = served.names, waiter.requirements
    return {
        "waiter_id": waiter.id,
        "event_type": names.name_of(waiter.event_type),
        "requirements": required and from_json(value_to_json(on_wire(waiter.event_type, required))),
        "prompt_type": names.name_of(type(waiter.prompt)) if waiter.prompt is not None else "",
        "prompt": event_to_json(waiter.prompt).decode() if waiter.prompt is not None else "",
        "deadline": waiter.due,
        "step": waiter.delivery.step,
    }


def _result(event: StopEvent, data: bytes) -> bytes:
    """Return the result of a plain StopEvent as JSON, which the event's own JSON holds; it may have megabytes."""
    if type(event) is StopEvent and not event.__pydantic_extra__ and data.startswith(_ONLY_RESULT):
        return data[len(_ONLY_RESULT) : -1]
    return to_json(from_json(data).get("result"))


_ONLY_RESULT = b'{"result":'


def _told(outcome: Outcome, served: Served, broker: Broker, entries: list[LogEntry], traceback: str) -> dict[str, Any]:
    """Describe how the run ended."""
    status, event = outcome.status, outcome.event
    told: dict[str, Any] = {"status": _STATUS[status], "event_type": served.names.name_of(type(event))}
    # The end is the last entry of the log; it is not there when another commit ends with it.
    data = entries[-1].data if entries and entries[-1].kind == TERMINAL else event_to_json(event)
    if status == "completed":
        told["result"] = (_result(event, data) if is_plain_stop(type(event)) else data).decode()
        return told
    fields = from_json(data)
    if isinstance(event, WorkflowFailedEvent):
        told["failure"] = {
            "step": event.step or "",
            "error_type": event.error_type,
            "message": event.message,
            "attempts": event.attempts,
            "reference_id": event.reference,
            "traceback": traceback,
        }
    elif status == "timed_out":
        told["reason"] = "; ".join([why_timed_out(fields.get("timeout")), *_unfinished(broker)])
    else:
        told["reason"] = str(fields.get("reason", ""))
    return told


def _unfinished(broker: Broker) -> Iterator[str]:
    """Yield what kept a run that timed out: the steps at work, those that waited, the last error of a repeated one."""
    for word, status in (("at work", RUNNING), ("waiting", PARKED)):
        if steps := sorted({each.step for each in broker.deliveries.values() if each.status == status}):
            yield f"{word}: {', '.join(steps)}"
    failed = [each for each in (broker.work.failing or {}).values() if each.failure is not None]
    for delivery in failed[:1]:
        assert delivery.failure is not None
        error = delivery.failure
        text = ": ".join(filter(None, [error.error_type, first_line(error.message)]))
        more = f"; so had {len(failed) - 1} more" if len(failed) > 1 else ""
        yield f"step {delivery.step} had failed with {text} (reference {error.reference}){more}"
