"""Tables of runs, workflows and snapshots."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from rich import box
from rich.table import Table
from rich.text import Text

from stepwire.cli.render.activity import activity_text
from stepwire.cli.render.pages import outcome_lines, short_version, waiter_text
from stepwire.cli.render.styles import STATUS_STYLES
from stepwire.cli.render.text import clean, compact, since
from stepwire.client import RunInfo, RunStatus, SnapshotInfo, WorkflowSummary

__all__ = [
    "keys_table",
    "new_table",
    "replicas_table",
    "runs_table",
    "snapshots_table",
    "table_width",
    "workflows_table",
]


_GAP: Final = 3
"""Columns between two columns of a table."""
_ABOUT_WIDTH: Final = 60
"""Columns that ABOUT needs to be read with ease."""
_ABOUT_LINES: Final = 4
"""Lines that ABOUT has at most at a terminal, about: the page of a run has all of it."""
_SHORT_ID: Final = 12
_CHOSEN_BY_SERVER: Final = re.compile("[0-9a-f]{32}")
"""Such ids are random: 12 digits are as good as all, but for one in a thousand servers with a million runs."""


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


def runs_table(runs: Iterable[RunInfo], now: datetime | None = None, width: int | None = None) -> Table:
    """Return a table of runs.

    Args:
        runs: The runs.
        now: What time it is; None for the time of the machine.
        width: The width of the terminal; None elsewhere. In a narrow one the ids that a server chose are cut to a
            beginning, which every command takes, and ABOUT is cut after a few lines.
    """
    table = new_table("RUN", "WORKFLOW", "STATUS", "AGE", "ABOUT")
    rows = [(info, since(info.created_at, now)) for info in runs]
    about_width = _ABOUT_WIDTH
    if width is not None:
        columns = zip(*((info.run_id, info.workflow, str(info.status), age) for info, age in rows), strict=True)
        fixed = sum(max(map(len, column)) + _GAP for column in columns)
        about_width = width - fixed
        for column in table.columns[2:4]:
            column.no_wrap = True
    short = about_width < _ABOUT_WIDTH
    for info, age in rows:
        status = Text(str(info.status), style=STATUS_STYLES.get(info.status, ""))
        run_id = _short_id(info.run_id) if short else info.run_id
        most = None
        if width is not None:
            most = _ABOUT_LINES * max(about_width + len(info.run_id) - len(run_id), _ABOUT_WIDTH // 2)
        about = _about(info, now, most, short=short)
        table.add_row(_text(run_id), _text(info.workflow), status, age, _text(about))
    return table


def _short_id(run_id: str) -> str:
    """Return the beginning of an id that a server chose, and all of another one."""
    return run_id[:_SHORT_ID] if _CHOSEN_BY_SERVER.fullmatch(run_id) else run_id


def _about(info: RunInfo, now: datetime | None, most: int | None, *, short: bool) -> str:
    """Return what a run asks or repeats, its result, why it is blocked, or why and since when it failed or is paused.

    Where that has more than `most` characters its longest part is cut: when it was, and the retry, remain.
    """
    told: list[tuple[str, str]] = []
    if info.status is RunStatus.BLOCKED:
        told.append((info.blocked_reason, ""))
    elif not info.ended:
        told += [(waiter_text(waiter), "") for waiter in info.pending_waiters]
        told.append((activity_text(info, now), ""))
    if info.pause is not None:
        what = "workflow paused" if info.pause.workflow else "paused"
        why = f": {info.pause.reason}" if info.pause.reason else ""
        told.append((f"{what} {since(info.pause.time, now)} ago{why}", ""))
    outcome = info.outcome
    if outcome is not None and outcome.status is RunStatus.COMPLETED:
        told.append((compact(outcome.result) if outcome.result is not None else "", ""))
    elif outcome is not None:
        told.append((outcome_lines(outcome)[0], f", {since(info.ended_at, now)} ago"))
    told += [("", f"retried as {_short_id(run_id) if short else run_id}") for run_id in info.retried_as[-1:]]
    parts = [(" ".join(text.split()), tail) for text, tail in told if text or tail]
    excess = sum(len(text) + len(tail) + 2 for text, tail in parts) - 2 - most if most is not None else 0
    if excess > 0:
        longest = max(range(len(parts)), key=lambda place: len(parts[place][0]))
        text, tail = parts[longest]
        parts[longest] = (f"{text[: max(0, len(text) - excess - 1)]}…", tail)
    return "; ".join(f"{text}{tail}" for text, tail in parts)


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


def _text(text: str) -> Text:
    return Text(clean(text, keep=""), overflow="fold")


def new_table(*columns: str) -> Table:
    """Return an empty table."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def table_width(table: Table, rows: Iterable[Sequence[Text]]) -> int:
    """Return how many columns of a terminal a table with these rows takes if no cell is wrapped."""
    headers = [Text(str(column.header)) for column in table.columns]
    widths: list[int] = [max(cell.cell_len for cell in column) for column in zip(headers, *rows, strict=True)]
    return sum(widths) + _GAP * (len(widths) - 1)
