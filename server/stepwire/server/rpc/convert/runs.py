"""Runs between the contract's messages and domain types."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from stepwire.server.rpc.convert.times import duration, seconds_of, timestamp, wait_of
from stepwire.server.rpc.payloads import is_slow_to_write, payload
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.runs.requests import SnapshotData, StartRequest
from stepwire.server.store import RunRecord
from stepwire.server.telemetry.tracing import CARRIER
from stepwire.v1 import run_service_pb2, types_pb2

# Seconds. A message cannot hold an interval without bound; ten years is as good as never.
_LONGEST_INTERVAL = 315_360_000.0
_QUESTIONS, _BASIC_QUESTIONS, _BARE_QUESTIONS = 512 << 10, 64 << 10, 1 << 20
"""Bytes of the open questions of one run: with requirements and prompts, the same in a list, and those without.

Some steps ask thousands of questions, and a message must stay below the 4 MiB that gRPC clients accept by default.
"""
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
    for number in numbers:
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
        labels=dict(request.labels),
        snapshot=snapshot,
        from_run=None if ref is None else (ref.run_id, ref.sequence),
        timeout=seconds_of(request.timeout) if request.HasField("timeout") else None,
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


async def shown(record: RunRecord, encoding: int, *, basic: bool = False) -> types_pb2.Run:
    """Do what `run` does; in a thread if it takes long."""
    if is_slow_to_write(_result_size(record), encoding) and not basic:
        return await asyncio.to_thread(run, record, encoding)
    return run(record, encoding, basic=basic)


def _result_size(record: RunRecord) -> int:
    return len((record.info.get("outcome") or {}).get("result", ""))


def run(record: RunRecord, encoding: int, *, basic: bool = False) -> types_pb2.Run:
    """Return a record as a Run.

    Args:
        record: The record.
        encoding: How to encode payloads.
        basic: Whether to leave out the result and the traceback, and most of large open questions.
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
    )
    if (origin := info.get("forked_from")) is not None:
        message.forked_from.run_id = origin["run_id"]
        message.forked_from.sequence = origin["sequence"]
    room, bare = _BASIC_QUESTIONS if basic else _QUESTIONS, _BARE_QUESTIONS
    for waiter in record.pending.values():
        question = pending_waiter(waiter, encoding)
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


def pending_waiter(waiter: Mapping[str, Any], encoding: int) -> types_pb2.PendingWaiter:
    """Return an open waiter of a record as a message."""
    message = types_pb2.PendingWaiter(
        waiter_id=waiter["waiter_id"],
        event_type=waiter["event_type"],
        requirements=payload(json.dumps(waiter["requirements"], ensure_ascii=False).encode(), encoding),
        step=waiter["step"],
    )
    if waiter["prompt_type"]:
        message.prompt.type = waiter["prompt_type"]
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
        message.failure.CopyFrom(types_pb2.Failure(**info["failure"]))
        if basic:
            message.failure.ClearField("traceback")
    return message


def heartbeat(sequence: int, interval: float) -> run_service_pb2.Heartbeat:
    """Return a heartbeat at a cursor; `interval` is the seconds until the next one."""
    beat = duration(min(interval, _LONGEST_INTERVAL))
    return run_service_pb2.Heartbeat(sequence=sequence, interval=beat)
