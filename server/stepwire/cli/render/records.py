"""The client's answers as JSON objects for scripts. Names are those of the contract, times ISO 8601 in UTC."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from stepwire.client import (
    ActiveDelivery,
    Execution,
    GenericEvent,
    Outcome,
    Pause,
    PendingWaiter,
    RunInfo,
    SnapshotInfo,
    WorkflowInfo,
    WorkflowSummary,
    event_meta,
)

__all__ = [
    "event_record",
    "execution_record",
    "outcome_record",
    "pause_record",
    "run_record",
    "snapshot_record",
    "summary_record",
    "time_text",
    "workflow_record",
]


def event_record(event: GenericEvent) -> dict[str, Any]:
    """Return an event of a log, with its fields under `data`."""
    meta = event_meta(event)
    return {
        "sequence": meta.sequence,
        "time": time_text(meta.time),
        "kind": str(meta.kind),
        "type": meta.type,
        "role": str(meta.role),
        "step": meta.step,
        "delivered": meta.delivered,
        "delivery_id": meta.delivery_id,
        "data": event.to_dict(),
        **({"execution": execution_record(meta.execution)} if meta.execution is not None else {}),
        **({"child": {**asdict(meta.child), "status": str(meta.child.status)}} if meta.child is not None else {}),
    }


def run_record(info: RunInfo) -> dict[str, Any]:
    """Return a run with its open questions and outcome."""
    return {
        "run_id": info.run_id,
        "workflow": info.workflow,
        "workflow_version": info.workflow_version,
        "status": str(info.status),
        "labels": dict(info.labels),
        "created_at": time_text(info.created_at),
        "updated_at": time_text(info.updated_at),
        "ended_at": time_text(info.ended_at),
        "timeout_at": time_text(info.timeout_at),
        "first_available": info.first_available,
        "last_sequence": info.last_sequence,
        "pending_waiters": [_waiter(waiter) for waiter in info.pending_waiters],
        "active_deliveries": [_delivery(each) for each in info.active_deliveries],
        "outcome": outcome_record(info.outcome) if info.outcome else None,
        "forked_from": ({"run_id": info.forked_from[0], "sequence": info.forked_from[1]} if info.forked_from else None),
        "started_by": info.started_by,
        "retried_from": (
            {"run_id": info.retried_from[0], "sequence": info.retried_from[1]} if info.retried_from else None
        ),
        "retried_as": list(info.retried_as),
        "pause": pause_record(info.pause) if info.pause else None,
        "parent": asdict(info.parent) if info.parent else None,
        "children": asdict(info.children) if info.children else None,
        "schedule": (
            {
                "schedule_id": info.schedule.schedule_id,
                "due_time": time_text(info.schedule.due_time),
                "manual": info.schedule.manual,
            }
            if info.schedule
            else None
        ),
        "blocked_reason": info.blocked_reason,
        "blocked_children": [
            {"run_id": each.run_id, "workflow": each.workflow, "reason": each.reason} for each in info.blocked_children
        ],
        "partial": info.partial,
    }


def pause_record(pause: Pause) -> dict[str, Any]:
    """Return the pause of a run or a workflow."""
    return {"time": time_text(pause.time), "by": pause.by, "reason": pause.reason, "workflow": pause.workflow}


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return how a run ended."""
    return {
        "status": str(outcome.status),
        "event_type": outcome.event_type,
        "result": outcome.result,
        "failure": asdict(outcome.failure) if outcome.failure else None,
        "reason": outcome.reason,
    }


def snapshot_record(info: SnapshotInfo) -> dict[str, Any]:
    """Return an entry of the list of snapshots."""
    return {"sequence": info.sequence, "created_at": time_text(info.created_at), "size_bytes": info.size_bytes}


def summary_record(summary: WorkflowSummary) -> dict[str, Any]:
    """Return a workflow of a list."""
    return {**asdict(summary), "pause": pause_record(summary.pause) if summary.pause else None}


def workflow_record(info: WorkflowInfo) -> dict[str, Any]:
    """Return a workflow with its steps, types and edges."""
    return {
        "name": info.name,
        "version": info.version,
        "description": info.description,
        "start_event": info.start_event,
        "stop_event": info.stop_event,
        "state_type": info.state_type,
        "timeout": info.timeout.total_seconds() if info.timeout is not None else None,
        "pause": pause_record(info.pause) if info.pause else None,
        "steps": [asdict(step) for step in info.steps],
        "types": [{**asdict(item), "role": str(item.role)} for item in info.types],
        "edges": [asdict(edge) for edge in info.edges],
        "mermaid": info.mermaid,
    }


def _delivery(each: ActiveDelivery) -> dict[str, Any]:
    return {
        **asdict(each),
        "status": str(each.status),
        "since": time_text(each.since),
        "next_attempt_at": time_text(each.next_attempt_at),
    }


def execution_record(execution: Execution) -> dict[str, Any]:
    """Return what became of an attempt at a step."""
    return {
        **asdict(execution),
        "status": str(execution.status),
        "duration": execution.duration.total_seconds() if execution.duration is not None else None,
        "next_attempt_at": time_text(execution.next_attempt_at),
    }


def _waiter(waiter: PendingWaiter) -> dict[str, Any]:
    prompt = waiter.prompt
    return {
        "waiter_id": waiter.waiter_id,
        "event_type": waiter.event_type,
        "requirements": waiter.requirements,
        "prompt": {"type": prompt.type, "data": prompt.to_dict()} if prompt is not None else None,
        "deadline": time_text(waiter.deadline),
        "step": waiter.step,
        "run_id": waiter.run_id,
    }


def time_text(time: datetime | None) -> str | None:
    """Return a time as ISO 8601, in UTC; None for none."""
    return time.isoformat().replace("+00:00", "Z") if time is not None else None
