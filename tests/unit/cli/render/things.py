"""Events and runs to show."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from stepwire.client import EntryKind, EventMeta, EventRole, GenericEvent, PendingWaiter, RunInfo, RunStatus

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def event(type: str, /, sequence: int = 1, kind: EntryKind = EntryKind.STREAM, **fields: Any) -> GenericEvent:
    meta = EventMeta(type, sequence, NOW, kind, EventRole.UNSPECIFIED, "work", 0)
    return GenericEvent.of(type, fields, meta)


def info(**changes: Any) -> RunInfo:
    values: dict[str, Any] = {
        "run_id": "r1",
        "workflow": "orders",
        "workflow_version": "a" * 64,
        "status": RunStatus.WAITING,
        "labels": {"team": "blue"},
        "created_at": NOW - timedelta(minutes=3),
        "updated_at": NOW,
        "ended_at": None,
        "last_sequence": 4,
        "first_available": 1,
        "pending_waiters": (),
        "outcome": None,
        "forked_from": None,
        "blocked_reason": "",
        "timeout_at": None,
    }
    return RunInfo(**{**values, **changes})


WAITER = PendingWaiter("w", "Approval", {"id": "7"}, GenericEvent("Ask", question="Ship it?", total=3), None, "work")


def shown(item: Any, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(item)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()
