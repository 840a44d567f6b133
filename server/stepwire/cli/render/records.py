"""The client's answers as JSON objects for scripts. Names are those of the contract, times ISO 8601 in UTC."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from stepwire.client import GenericEvent, Outcome, PendingWaiter, RunInfo, SnapshotInfo, WorkflowInfo, event_meta

__all__ = ["event_record", "outcome_record", "run_record", "snapshot_record", "workflow_record"]


def event_record(event: GenericEvent) -> dict[str, Any]:
    """Return an event of a log, with its fields under `data`."""
    meta = event_meta(event)
    return {
        "sequence": meta.sequence,
        "time": _time(meta.time),
        "kind": str(meta.kind),
        "type": meta.type,
        "role": str(meta.role),
        "step": meta.step,
        "delivered": meta.delivered,
        "data": event.to_dict(),
    }


def run_record(info: RunInfo) -> dict[str, Any]:
    """Return a run with its open questions and outcome."""
    return {
        "run_id": info.run_id,
        "workflow": info.workflow,
        "workflow_version": info.workflow_version,
        "status": str(info.status),
        "labels": dict(info.labels),
        "created_at": _time(info.created_at),
        "updated_at": _time(info.updated_at),
        "ended_at": _time(info.ended_at),
        "timeout_at": _time(info.timeout_at),
        "first_available": info.first_available,
        "last_sequence": info.last_sequence,
        "pending_waiters": [_waiter(waiter) for waiter in info.pending_waiters],
        "outcome": outcome_record(info.outcome) if info.outcome else None,
        "forked_from": ({"run_id": info.forked_from[0], "sequence": info.forked_from[1]} if info.forked_from else None),
        "blocked_reason": info.blocked_reason,
        "partial": info.partial,
    }


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
    return {"sequence": info.sequence, "created_at": _time(info.created_at), "size_bytes": info.size_bytes}


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
        "steps": [asdict(step) for step in info.steps],
        "types": [{**asdict(item), "role": str(item.role)} for item in info.types],
        "edges": [asdict(edge) for edge in info.edges],
        "mermaid": info.mermaid,
    }


def _waiter(waiter: PendingWaiter) -> dict[str, Any]:
    prompt = waiter.prompt
    return {
        "waiter_id": waiter.waiter_id,
        "event_type": waiter.event_type,
        "requirements": waiter.requirements,
        "prompt": {"type": prompt.type, "data": prompt.to_dict()} if prompt is not None else None,
        "deadline": _time(waiter.deadline),
        "step": waiter.step,
    }


def _time(time: datetime | None) -> str | None:
    return time.isoformat().replace("+00:00", "Z") if time is not None else None
