"""Terminal output: event lines, progress, tables, questions. Knows the client's answers, nothing of commands."""

from __future__ import annotations

from stepwire.cli.render._ask import Asker
from stepwire.cli.render._lines import LineReader
from stepwire.cli.render._lists import (
    outcome_lines,
    question_text,
    run_page,
    runs_table,
    send_command,
    snapshots_table,
    waiter_text,
    workflow_page,
    workflows_table,
)
from stepwire.cli.render._output import Output, error_text, to_json
from stepwire.cli.render._progress import Progress, event_line
from stepwire.cli.render._questions import Field, fields_of, parse
from stepwire.cli.render._records import (
    event_record,
    outcome_record,
    run_record,
    snapshot_record,
    workflow_record,
)
from stepwire.cli.render._text import clean, compact, duration, fields_text, since

__all__ = [
    "Asker",
    "Field",
    "LineReader",
    "Output",
    "Progress",
    "clean",
    "compact",
    "duration",
    "error_text",
    "event_line",
    "event_record",
    "fields_of",
    "fields_text",
    "outcome_lines",
    "outcome_record",
    "parse",
    "question_text",
    "run_page",
    "run_record",
    "runs_table",
    "send_command",
    "since",
    "snapshot_record",
    "snapshots_table",
    "to_json",
    "waiter_text",
    "workflow_page",
    "workflow_record",
    "workflows_table",
]
