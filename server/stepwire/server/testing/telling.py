"""What a server tells a failed test of its runs: their history, and why they failed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from stepwire.server.runs import Runs
from stepwire.server.runs.fitness import UNFINISHED
from stepwire.server.store import RunKey, RunQuery, RunRecord
from stepwire.workflow.hosting import RECEIVED, STREAM, TERMINAL, LogEntry

__all__ = ["HistoryEntry", "history_of", "report_of"]

_KINDS: Final = {STREAM: "stream", RECEIVED: "received", TERMINAL: "end"}
_RUNS: Final = 10
"""Runs that a report tells of, the newest."""
_ENTRIES: Final = 20
"""Entries of each, the last ones."""
_TEXT: Final = 200
"""Characters of an entry's fields."""


@dataclass(frozen=True)
class HistoryEntry:
    """One entry of a run's log; `str()` of it is a line.

    Attributes:
        sequence: Its number, from 1.
        time: When it was made, by the clock of the server, which `skip` sets forward.
        kind: `received` from outside, `sent` by a step, written to the `stream`, `end`; `step` for an attempt at one,
            `child` for a run that a step has started.
        type: The class name of the event; of an attempt what became of it: started, finished, failed, timed out,
            cancelled or lost; of a child started, completed, failed, cancelled or timed out.
        fields: The fields of the event; of an attempt its delivery, its number and its error; of a child its run.
        step: The step that made it, or was attempted; empty when it came from outside.
    """

    sequence: int
    time: datetime
    kind: str
    type: str
    fields: dict[str, Any]
    step: str

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        fields = fields if len(fields) <= _TEXT else f"{fields[:_TEXT]}…"
        by = f"  by {self.step}" if self.step else ""
        return f"{self.sequence:>4} {self.time:%Y-%m-%d %H:%M:%S} {self.kind:<8} {self.type}({fields}){by}"


async def history_of(runs: Runs, key: RunKey, last: int | None = None) -> list[HistoryEntry]:
    """Return the log of a run, internal entries included; of a long one the last entries.

    Args:
        runs: The runs of the server.
        key: The run.
        last: How many entries to return at most; None for all.
    """
    store, codec = runs.pool.store, runs.pool.codec
    run = runs.pool.in_memory(key)
    if run is not None:
        await run.commits.wait()
    found: list[LogEntry] = []
    record = await store.get(key)
    position = 0 if record is None else record.first_available - 1
    if record is not None and last is not None:
        position = max(position, record.last_sequence - last)
    after = position
    while chunks := await store.entries(key, after):
        for chunk in chunks:
            for data in (chunk.public, chunk.internal):
                found += codec.decode(data) if data else []
        after = chunks[-1].last
    return [_shown(entry) for entry in sorted(found, key=lambda entry: entry.sequence) if entry.sequence > position]


def _shown(entry: LogEntry) -> HistoryEntry:
    at = datetime.fromtimestamp(entry.at, UTC)
    if (attempt := entry.attempted) is not None:
        told: dict[str, Any] = {"delivery": attempt.delivery, "attempt": attempt.attempt}
        if attempt.failure is not None:
            told["error"] = f"{attempt.failure.error_type}: {attempt.failure.message}"
        return HistoryEntry(entry.sequence, at, "step", _STATUSES[attempt.status], told, entry.step)
    if (child := entry.child) is not None:
        told = {"run_id": child.run_id, "workflow": child.workflow}
        return HistoryEntry(entry.sequence, at, "child", child.status.replace("_", " ") or "started", told, entry.step)
    fields = json.loads(entry.data) if entry.data else {}
    return HistoryEntry(
        entry.sequence,
        at,
        _KINDS.get(entry.kind, "sent" if entry.kind == _SENT else str(entry.kind)),
        entry.type,
        fields if isinstance(fields, dict) else {"": fields},
        entry.step,
    )


_SENT: Final = 3
_STATUSES: Final = ("", "started", "finished", "failed", "timed out", "cancelled", "lost")
"""What became of an attempt, by its number in the log."""


async def report_of(runs: Runs) -> str:
    """Return what a failed test should say of the runs that have not completed: why, and their last entries."""
    lines: list[str] = []
    async for record in _told(runs):
        lines += [_headline(record), *await _details(runs, record)]
    return "\n".join(lines)


async def _told(runs: Runs) -> AsyncIterator[RunRecord]:
    store = runs.pool.store
    for namespace in await store.namespaces():
        statuses = [*UNFINISHED, "FAILED", "TIMED_OUT", "CANCELLED"]
        for record in await store.list(RunQuery(namespace=namespace, statuses=statuses, limit=_RUNS)):
            yield record


def _headline(record: RunRecord) -> str:
    text = f"run {record.key.run_id} of {record.workflow}: {record.status}"
    outcome = record.info.get("outcome", {})
    failure = outcome.get("failure")
    if failure:
        where = f" in step {failure['step']}" if failure.get("step") else ""
        text += f"{where} after {failure.get('attempts', 1)} attempt(s): {failure['error_type']}: {failure['message']}"
    elif reason := outcome.get("reason") or record.info.get("blocked_reason"):
        text += f": {reason}"
    for question in record.pending.values():
        text += f"\n  waits for {question['event_type']} in step {question['step']}"
    return text


async def _details(runs: Runs, record: RunRecord) -> list[str]:
    failure = record.info.get("outcome", {}).get("failure") or {}
    lines = [f"  {line}" for line in failure.get("traceback", "").rstrip().splitlines()]
    history = await history_of(runs, record.key, _ENTRIES)
    return [*lines, *(f"  {entry}" for entry in history)]
