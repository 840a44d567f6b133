"""Runs between the contract's messages and domain types."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from stepwire.server.registry import Registry, Served
from stepwire.server.rpc.convert.labels import labels_of
from stepwire.server.rpc.convert.times import duration, seconds_of, timestamp, wait_of
from stepwire.server.rpc.entry_codec import failure_message
from stepwire.server.rpc.payloads import is_slow_to_write, payload
from stepwire.server.runs.active import Active, Activity
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.runs.hosting.commits.record import RunPause
from stepwire.server.runs.origin import Origin
from stepwire.server.runs.requests import SnapshotData, StartRequest
from stepwire.server.runs.retrying import RunRetry
from stepwire.server.store import TERMINAL, RunRecord, WorkflowPause
from stepwire.server.telemetry.tracing import CARRIER
from stepwire.v1 import run_service_pb2, types_pb2
from stepwire.workflow.hosting import ABANDON, readable

# Seconds. A message cannot hold an interval without bound; ten years is as good as never.
_LONGEST_INTERVAL = 315_360_000.0
_QUESTIONS, _BASIC_QUESTIONS, _BARE_QUESTIONS = 512 << 10, 64 << 10, 1 << 20
"""Bytes of the open questions of one run: with requirements and prompts, the same in a list, and those without.

Some steps ask thousands of questions, and a message must stay below the 4 MiB that gRPC clients accept by default.
"""
_DELIVERIES = 512 << 10
"""Bytes of the active deliveries of one run."""
_REASON = 1000
"""Characters of the reason for which a child cannot go on: a hundred of them may be told."""
_DELIVERY_STATUSES = {
    "queued": types_pb2.DELIVERY_STATUS_QUEUED,
    "ready": types_pb2.DELIVERY_STATUS_QUEUED,
    "running": types_pb2.DELIVERY_STATUS_RUNNING,
    "parked": types_pb2.DELIVERY_STATUS_PARKED,
    "backoff": types_pb2.DELIVERY_STATUS_BACKING_OFF,
}
_STATUS_PREFIX = "RUN_STATUS_"
_STATUS_NUMBERS: dict[str, types_pb2.RunStatus] = {
    name.removeprefix(_STATUS_PREFIX): number  # type: ignore[misc]
    for name, number in types_pb2.RunStatus.items()
}


def status_number(status: str) -> types_pb2.RunStatus:
    """Return the contract's number for a stored status."""
    return _STATUS_NUMBERS[status]


def status_names(numbers: Any) -> list[str]:
    """Return the statuses of a filter as they are stored. InvalidError for an unknown number."""
    names: list[str] = []
    for number in dict.fromkeys(numbers):
        if number == types_pb2.RUN_STATUS_UNSPECIFIED:
            continue
        try:
            names.append(types_pb2.RunStatus.Name(number).removeprefix(_STATUS_PREFIX))
        except ValueError as error:
            raise InvalidError(
                "INVALID_REQUEST", "The request is not valid", [Violation("statuses", "has an unknown status")]
            ) from error
    return names


def start_request(
    request: run_service_pb2.StartRunRequest, snapshot: SnapshotData | None, data: bytes | None
) -> StartRequest:
    """Return a StartRun as the runs take it.

    Args:
        request: The request.
        snapshot: The snapshot in the request, verified.
        data: The input in the request as JSON.
    """
    wait_of(request, "wait")  # a conversation ignores the wait, but refuses what StartRun refuses
    source = request.WhichOneof("source")
    policy = request.run_id_conflict_policy
    if policy not in (0, 1, 2):
        raise InvalidError(
            "INVALID_REQUEST",
            "The request is not valid",
            [Violation("run_id_conflict_policy", "is unknown")],
        )
    ref = getattr(request, "from") if source == "from" else None
    return StartRequest(
        workflow=request.workflow,
        input=data,
        run_id=request.run_id,
        use_existing=policy == run_service_pb2.RUN_ID_CONFLICT_POLICY_USE_EXISTING,
        request_id=request.request_id,
        labels=labels_of(request.labels),
        snapshot=snapshot,
        from_run=None if ref is None else (ref.run_id, ref.sequence),
        timeout=seconds_of(request.timeout) if request.HasField("timeout") else None,
        trace=dict(CARRIER.get()),
        fresh=request.fresh_budgets,
    )


def retry_request(request: run_service_pb2.RetryRunRequest) -> RunRetry:
    """Return a RetryRun as the runs take it."""
    return RunRetry(
        run_id=request.run_id,
        at=request.at_sequence,
        request_id=request.request_id,
        labels=labels_of(request.labels),
        trace=dict(CARRIER.get()),
    )


def is_basic(view: int) -> bool:
    """Tell whether a list leaves out what is large. InvalidError for an unknown view."""
    if view not in run_service_pb2.RunView.values():
        raise InvalidError("INVALID_REQUEST", "The request is not valid", [Violation("view", "is unknown")])
    return view != run_service_pb2.RUN_VIEW_FULL


async def shown_outcome(record: RunRecord, encoding: int) -> types_pb2.Outcome | None:
    """Do what `outcome` does; in a thread if it takes long."""
    if is_slow_to_write(_result_size(record), encoding):
        return await asyncio.to_thread(outcome, record, encoding)
    return outcome(record, encoding)


async def shown_activity(
    activity: Activity, encoding: int, *, registry: Registry, paused: WorkflowPause | None = None
) -> types_pb2.Run:
    """Do what `shown` does, with the active deliveries, and with the questions and deliveries of children."""
    served = registry.get(activity.record.workflow)
    message = await shown(activity.record, encoding, served=served, paused=paused)
    message.blocked_reason = activity.obstacle
    for stuck in activity.stuck:
        message.blocked_children.add(run_id=stuck.run_id, workflow=stuck.workflow, reason=stuck.reason[:_REASON])
    room = _DELIVERIES
    for each in activity.deliveries:
        delivery = active_delivery(each)
        room -= delivery.ByteSize()
        if room < 0:
            message.partial = True
            break
        message.active_deliveries.append(delivery)
    message.partial |= activity.partial
    asked = _QUESTIONS
    for below in activity.below:
        run_id, served = below.record.key.run_id, registry.get(below.record.workflow)
        for each in below.deliveries:
            delivery = active_delivery(each)
            delivery.run_id = run_id
            room -= delivery.ByteSize()
            if room >= 0:
                message.active_deliveries.append(delivery)
        for waiter in below.record.pending.values():
            question = pending_waiter(waiter, encoding, served)
            question.run_id = run_id
            asked -= question.ByteSize()
            if asked >= 0:
                message.pending_waiters.append(question)
        message.partial |= below.partial or room < 0 or asked < 0
    return message


def active_delivery(active: Active) -> types_pb2.ActiveDelivery:
    """Return an active delivery as a message."""
    message = types_pb2.ActiveDelivery(
        delivery_id=active.delivery,
        step=active.step,
        status=_DELIVERY_STATUSES[active.status],
        attempt=active.attempt,
        since=None if active.since is None else timestamp(active.since),
        event_type=active.event_type,
        caused_by=active.caused_by,
    )
    if active.failure is not None:
        message.last_error.CopyFrom(failure_message(active.failure, active.step, active.attempt))
    if active.next_at is not None:
        message.next_attempt_at.CopyFrom(timestamp(active.next_at))
    return message


async def shown(
    record: RunRecord,
    encoding: int,
    *,
    served: Served | None,
    basic: bool = False,
    paused: WorkflowPause | None = None,
) -> types_pb2.Run:
    """Do what `run` does; in a thread if it takes long."""
    if is_slow_to_write(_result_size(record), encoding) and not basic:
        return await asyncio.to_thread(run, record, encoding, served=served)
    return run(record, encoding, served=served, basic=basic, paused=paused)


def _result_size(record: RunRecord) -> int:
    return len((record.info.get("outcome") or {}).get("result", ""))


def run(
    record: RunRecord,
    encoding: int,
    *,
    served: Served | None,
    basic: bool = False,
    paused: WorkflowPause | None = None,
) -> types_pb2.Run:
    """Return a record as a Run.

    Args:
        record: The record.
        encoding: How to encode payloads.
        served: The workflow, if it is served: open questions have the names of its code, whichever wrote the record.
        basic: Whether to leave out the result and the traceback, and most of large open questions.
        paused: The pause of the workflow, if that is paused.
    """
    info = record.info
    message = types_pb2.Run(
        run_id=record.key.run_id,
        workflow=record.workflow,
        workflow_version=info.get("version", ""),
        status=status_number(record.status),
        labels=record.labels,
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        ended_at=None if record.ended_at is None else timestamp(record.ended_at),
        timeout_at=None if info.get("timeout_at") is None else timestamp(info["timeout_at"]),
        last_sequence=record.last_sequence,
        first_available=record.first_available,
        blocked_reason=info.get("blocked_reason", ""),
        started_by=info.get("principal", ""),
        retried_as=info.get("retried_as", ()),
    )
    if paused is not None or not info.keys() <= _OF_MOST_RUNS:
        _add_relations(message, record, paused)
    room, bare = _BASIC_QUESTIONS if basic else _QUESTIONS, _BARE_QUESTIONS
    for waiter in record.pending.values():
        question = pending_waiter(waiter, encoding, served)
        room -= question.ByteSize()
        if room < 0:
            message.partial = True
            question.ClearField("requirements")
            question.ClearField("prompt")
            bare -= question.ByteSize()
            if bare < 0:
                break
        message.pending_waiters.append(question)
    if (ended := outcome(record, encoding, basic=basic)) is not None:
        message.outcome.CopyFrom(ended)
        told = info["outcome"]
        message.partial |= basic and ("result" in told or bool(told.get("failure", {}).get("traceback")))
    return message


_OF_MOST_RUNS = frozenset({"version", "code", "principal", "trace", "timeout_at", "outcome"})
"""What records say of runs that started by themselves, and were neither paused nor retried."""


def _add_relations(message: types_pb2.Run, record: RunRecord, paused: WorkflowPause | None) -> None:
    """Add where a run comes from, what it has started, and its pause."""
    info = record.info
    if (origin := info.get("retried_from")) is not None:
        message.retried_from.run_id = origin["run_id"]
        message.retried_from.sequence = origin["sequence"]
    if (origin := info.get("forked_from")) is not None:
        message.forked_from.run_id = origin["run_id"]
        message.forked_from.sequence = origin["sequence"]
    if (started := Origin.of(record)) is not None:
        message.schedule.schedule_id = started.schedule_id
        message.schedule.due_time.CopyFrom(timestamp(started.due))
        message.schedule.manual = started.manual
    if (parent := info.get("parent")) is not None:
        message.parent.CopyFrom(run_parent(parent))
    if (children := info.get("children")) is not None:
        message.children.CopyFrom(child_summary(children))
    if (pause := RunPause.of(record)) is not None:
        message.pause.CopyFrom(pause_message(pause))
    elif paused is not None and record.status not in TERMINAL:
        message.pause.CopyFrom(workflow_pause(paused))


def run_parent(parent: Mapping[str, Any]) -> types_pb2.RunParent:
    """Return the parent of a run."""
    return types_pb2.RunParent(
        run_id=parent["run_id"],
        step=parent["step"],
        delivery_id=parent["delivery"],
        depth=len(parent["chain"]),
        abandoned=parent["close"] == ABANDON,
    )


def child_summary(children: Mapping[str, int]) -> types_pb2.ChildSummary:
    """Return how many children a run has."""
    return types_pb2.ChildSummary(
        total=children["total"],
        unfinished=children["living"],
        queued=children["queued"],
        completed=children["completed"],
        failed=children["failed"],
        cancelled=children["cancelled"],
        timed_out=children["timed_out"],
    )


def pause_message(pause: RunPause) -> types_pb2.Pause:
    """Return the pause of a run."""
    return types_pb2.Pause(time=timestamp(pause.at), by=pause.by, reason=pause.reason)


def workflow_pause(pause: WorkflowPause) -> types_pb2.Pause:
    """Return the pause of a workflow that is paused."""
    since = None if pause.since is None else timestamp(pause.since)
    return types_pb2.Pause(time=since, by=pause.by, reason=pause.reason, workflow=True)


def pending_waiter(waiter: Mapping[str, Any], encoding: int, served: Served | None) -> types_pb2.PendingWaiter:
    """Return an open waiter of a record as a message."""
    step, event_type, prompt_type = waiter["step"], waiter["event_type"], waiter["prompt_type"]
    if served is not None:
        step, event_type = served.current_step(step), served.names.current(event_type)
        prompt_type = served.names.current(prompt_type)
    message = types_pb2.PendingWaiter(
        waiter_id=waiter["waiter_id"],
        event_type=event_type,
        requirements=payload(json.dumps(waiter["requirements"], ensure_ascii=False).encode(), encoding),
        step=step,
    )
    if prompt_type:
        message.prompt.type = prompt_type
        message.prompt.payload.CopyFrom(payload(waiter["prompt"].encode(), encoding))
    if waiter["deadline"] is not None:
        message.deadline.CopyFrom(timestamp(waiter["deadline"]))
    return message


def outcome(record: RunRecord, encoding: int, *, basic: bool = False) -> types_pb2.Outcome | None:
    """Return how a run ended, None before that; `basic` leaves out the result and the traceback."""
    info = record.info.get("outcome")
    if info is None:
        return None
    message = types_pb2.Outcome(
        status=status_number(info["status"]), event_type=info["event_type"], reason=info.get("reason", "")
    )
    if "result" in info and not basic:
        message.result.CopyFrom(payload(info["result"].encode(), encoding))
    if "failure" in info:
        message.failure.CopyFrom(failure(info["failure"], basic=basic))
    return message


def failure(told: Mapping[str, Any], *, basic: bool = False) -> types_pb2.Failure:
    """Return why a run failed; `basic` leaves out the traceback.

    Records of older versions may hold text that no message can. That must not keep a caller from a whole list.
    """
    trace = "" if basic else readable(told.get("traceback", ""))
    return types_pb2.Failure(**{**told, "traceback": trace})


def heartbeat(sequence: int, interval: float) -> run_service_pb2.Heartbeat:
    """Return a heartbeat at a cursor; `interval` is the seconds until the next one."""
    beat = duration(min(interval, _LONGEST_INTERVAL))
    return run_service_pb2.Heartbeat(sequence=sequence, interval=beat)
