"""Which runs a call is about: the filters of ListRuns and ApplyToRuns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from stepwire.client import models
from stepwire.client._core import answers
from stepwire.client._core.times import to_timestamp

__all__ = ["run_filters"]


def run_filters(
    *,
    workflow: str | None,
    statuses: Iterable[models.RunStatus | str],
    labels: Mapping[str, str] | None,
    created_after: datetime | None,
    created_before: datetime | None,
    error_type: str | None,
    step: str | None,
    waiting_for: str | None,
    parent: str | None,
    started_by: str | None,
    run_id_prefix: str | None,
    ended_after: datetime | None,
    ended_before: datetime | None,
    schedule: str | None,
) -> dict[str, Any]:
    """Return the fields of the filters in a request. Parameters are those of `Client.list_runs`."""
    return {
        "workflow": workflow or "",
        "statuses": [answers.status_number(status) for status in statuses],
        "labels": dict(labels or {}),
        "created_after": to_timestamp(created_after),
        "created_before": to_timestamp(created_before),
        "error_type": error_type,
        "step": step,
        "waiting_for": waiting_for,
        "parent_run_id": parent,
        "started_by": started_by,
        "run_id_prefix": run_id_prefix,
        "ended_after": to_timestamp(ended_after),
        "ended_before": to_timestamp(ended_before),
        "schedule_id": schedule,
    }
