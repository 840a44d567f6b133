"""Tables of runs, workflows and snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from rich import box
from rich.table import Table
from rich.text import Text

from stepwire.cli.render.pages import outcome_lines, short_version, waiter_text
from stepwire.cli.render.styles import STATUS_STYLES
from stepwire.cli.render.text import clean, compact, since
from stepwire.client import RunInfo, RunStatus, SnapshotInfo, WorkflowSummary

__all__ = ["keys_table", "new_table", "replicas_table", "runs_table", "snapshots_table", "workflows_table"]


class Replica(Protocol):
    """A replica, as the database knows it; times in seconds."""

    @property
    def id(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def draining(self) -> bool: ...
    @property
    def joined_at(self) -> float: ...
    @property
    def beat_age(self) -> float: ...
    @property
    def runs(self) -> int: ...


class KeyHolder(Protocol):
    """Who holds an API key; `expires` in seconds since the epoch."""

    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def scopes(self) -> Iterable[str]: ...
    @property
    def expires(self) -> float | None: ...


def replicas_table(replicas: Iterable[Replica], now: datetime | None = None) -> Table:
    """Return a table of replicas."""
    table = new_table("REPLICA", "ADDRESS", "RUNS", "BEAT", "UP", "SERVES")
    for each in replicas:
        serves = ", ".join(
            f"{name} {short_version(version)}" for name, version in sorted(each.versions.items()) if name[0] != "~"
        )
        beat = "draining" if each.draining else f"{each.beat_age:.1f} s"
        joined = datetime.fromtimestamp(each.joined_at, UTC)
        table.add_row(str(each.id), _text(each.address), str(each.runs), beat, since(joined, now), _text(serves))
    return table


def runs_table(runs: Iterable[RunInfo], now: datetime | None = None) -> Table:
    """Return a table of runs."""
    table = new_table("RUN", "WORKFLOW", "STATUS", "AGE", "ABOUT")
    for info in runs:
        status = Text(str(info.status), style=STATUS_STYLES.get(info.status, ""))
        about = _text(_about(info, now))
        table.add_row(_text(info.run_id), _text(info.workflow), status, since(info.created_at, now), about)
    return table


def _about(info: RunInfo, now: datetime | None) -> str:
    """Return what a run asks, its result, why it is blocked, or why and since when it has failed or is paused."""
    if info.status is RunStatus.BLOCKED:
        told = [_one_line(info.blocked_reason)]
    else:
        told = [_one_line(waiter_text(waiter)) for waiter in info.pending_waiters]
    if info.pause is not None:
        what = "workflow paused" if info.pause.workflow else "paused"
        why = f": {info.pause.reason}" if info.pause.reason else ""
        told.append(_one_line(f"{what} {since(info.pause.time, now)} ago{why}"))
    outcome = info.outcome
    if outcome is not None and outcome.status is RunStatus.COMPLETED:
        told += [compact(outcome.result)] if outcome.result is not None else []
    elif outcome is not None:
        told.append(_one_line(f"{outcome_lines(outcome)[0]}, {since(info.ended_at, now)} ago"))
    told += [f"retried as {run_id}" for run_id in info.retried_as[-1:]]
    return "; ".join(told)


def workflows_table(workflows: Iterable[WorkflowSummary]) -> Table:
    """Return a table of workflows."""
    table = new_table("WORKFLOW", "VERSION", "STATUS", "DESCRIPTION")
    for summary in workflows:
        status = Text("served", style="green") if summary.pause is None else Text("paused", style="magenta")
        about = _text(summary.description)
        table.add_row(_text(summary.name), _text(short_version(summary.version)), status, about)
    return table


def snapshots_table(snapshots: Iterable[SnapshotInfo], now: datetime | None = None) -> Table:
    """Return a table of snapshots."""
    table = new_table("SEQUENCE", "AGE", "BYTES")
    for info in snapshots:
        table.add_row(str(info.sequence), since(info.created_at, now), str(info.size_bytes))
    return table


def keys_table(holders: Mapping[str, KeyHolder], now: datetime | None = None) -> Table:
    """Return a table of API keys by id."""
    table = new_table("ID", "NAME", "NAMESPACE", "SCOPES", "EXPIRES")
    at = (now or datetime.now(UTC)).timestamp()
    for key_id, holder in holders.items():
        expires = "never"
        if holder.expires is not None:
            expires = datetime.fromtimestamp(holder.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
            expires += " (expired)" if holder.expires <= at else ""
        scopes = ", ".join(holder.scopes) or "none"
        table.add_row(key_id, _text(holder.name), holder.namespace, _text(scopes), expires)
    return table


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _text(text: str) -> Text:
    return Text(clean(text, keep=""), overflow="fold")


def new_table(*columns: str) -> Table:
    """Return an empty table."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
