"""Tables of runs, workflows and snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from stepwire.cli.render.pages import short_version, waiter_text
from stepwire.cli.render.styles import STATUS_STYLES
from stepwire.cli.render.text import clean, since
from stepwire.client import RunInfo, SnapshotInfo, WorkflowSummary

__all__ = ["runs_table", "snapshots_table", "workflows_table"]


def runs_table(runs: Iterable[RunInfo], now: datetime | None = None) -> Table:
    """Return a table of runs."""
    table = _table("RUN", "WORKFLOW", "STATUS", "AGE", "QUESTIONS")
    for info in runs:
        questions = ", ".join(_one_line(waiter_text(waiter)) for waiter in info.pending_waiters)
        status = Text(str(info.status), style=STATUS_STYLES.get(info.status, ""))
        table.add_row(_text(info.run_id), _text(info.workflow), status, since(info.created_at, now), _text(questions))
    return table


def workflows_table(workflows: Iterable[WorkflowSummary]) -> Table:
    """Return a table of workflows."""
    table = _table("WORKFLOW", "VERSION", "DESCRIPTION")
    for summary in workflows:
        table.add_row(_text(summary.name), _text(short_version(summary.version)), _text(summary.description))
    return table


def snapshots_table(snapshots: Iterable[SnapshotInfo], now: datetime | None = None) -> Table:
    """Return a table of snapshots."""
    table = _table("SEQUENCE", "AGE", "BYTES")
    for info in snapshots:
        table.add_row(str(info.sequence), since(info.created_at, now), str(info.size_bytes))
    return table


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _text(text: str) -> Text:
    return Text(clean(text, keep=""), overflow="fold")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
