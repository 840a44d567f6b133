"""Pages about one run or one workflow, and the words of a question."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from stepwire.cli.render.activity import activity_rows
from stepwire.cli.render.answer_fields import fields_of
from stepwire.cli.render.schemas import signature
from stepwire.cli.render.styles import STATUS_STYLES
from stepwire.cli.render.text import clean, compact, fields_text, since
from stepwire.client import ChildSummary, GenericEvent, Outcome, Pause, PendingWaiter, RunInfo, RunStatus, WorkflowInfo

__all__ = [
    "Page",
    "Schemas",
    "children_text",
    "outcome_lines",
    "pause_text",
    "question_text",
    "run_page",
    "schema_of",
    "send_command",
    "short_version",
    "waiter_text",
    "workflow_page",
]

Schemas = dict[tuple[str, str], Mapping[str, Any]]
"""The JSON Schemas of answers, by the child that asks (empty for the run itself) and the event type."""

_ENGINE_EVENTS = frozenset({"InputRequiredEvent", "HumanResponseEvent"})
_DIGEST = re.compile(r"[0-9a-f]{32,}")
# Fields in which authors most likely put the question itself; `prefix` is that of the 1.x examples.
_QUESTIONS = ("question", "prompt", "prefix", "message", "text", "msg")


def run_page(info: RunInfo, now: datetime | None = None, schemas: Schemas | None = None, untaken: str = "") -> Text:
    """Return everything about a run.

    Args:
        info: The run.
        now: What time it is; None for the time of the machine.
        schemas: They tell which fields the answers to its questions have.
        untaken: The type of the event that nothing took, if the run may have stalled because of it.
    """
    page = Page()
    page.row("run", info.run_id)
    page.row("workflow", _versioned(info.workflow, info.workflow_version))
    page.row("status", str(info.status), STATUS_STYLES.get(info.status, ""))
    page.row("blocked", info.blocked_reason)
    if info.status is RunStatus.BLOCKED:
        page.row("", "serve code that can read it: aliases, defaults or migrate() (docs/workflows.md), then")
        page.row("", f"stepwire reload {info.run_id}")
    page.row("paused", pause_text(info.pause, now), "magenta")
    if info.schedule is not None:
        by_hand = ", by hand" if info.schedule.manual else ""
        page.row("schedule", f"{info.schedule.schedule_id}, due {_moment(info.schedule.due_time, now)}{by_hand}")
    page.row("labels", fields_text(info.labels))
    page.row("created", _moment(info.created_at, now))
    page.row("started by", info.started_by if info.started_by != "anonymous" else "")
    page.row("ended", _moment(info.ended_at, now))
    page.row("times out", info.timeout_at.isoformat(" ", "seconds") if info.timeout_at else "")
    page.row("log", f"{info.first_available} to {info.last_sequence}" if info.last_sequence else "empty")
    if info.forked_from:
        page.row("forked from", f"{info.forked_from[0]} at {info.forked_from[1]}")
    if info.retried_from:
        page.row("retries", f"{info.retried_from[0]} at {info.retried_from[1]}")
    for retry in info.retried_as:
        page.row("retried as", retry, again=True)
    if info.parent is not None:
        page.row("parent", f"{info.parent.run_id}, step {info.parent.step}")
    page.row("children", children_text(info.children))
    for child in info.blocked_children:
        page.row("blocked", f"child {child.run_id} of {clean(child.workflow, keep='')}: {clean(child.reason)}", "red")
    for row in activity_rows(info, now, untaken):
        page.row(*row)
    stuck = {child.run_id for child in info.blocked_children}
    for waiter in info.pending_waiters:
        page.row("question", waiter_text(waiter), "yellow")
        if waiter.run_id:
            page.row("", f"asked by run {waiter.run_id}")
        if waiter.deadline is not None:
            page.row("", f"open until {waiter.deadline.isoformat(' ', 'seconds')}")
        if info.status is RunStatus.BLOCKED or waiter.run_id in stuck:
            continue  # it takes no answer
        schema = (schemas or {}).get((waiter.run_id, waiter.event_type))
        command = send_command(waiter.run_id or info.run_id, waiter.event_type, waiter.requirements, schema)
        page.row("", f"answer: {command}")
    if info.outcome is not None:
        for line in outcome_lines(info.outcome):
            page.row("outcome", line)
        if info.outcome.status is not RunStatus.COMPLETED and not info.retried_as:
            page.row("", f"go on from there: stepwire retry {info.run_id}")
    return page.text


def children_text(children: ChildSummary | None) -> str:
    """Return how many children a run has: `12: 2 unfinished, 9 completed, 1 failed`."""
    if children is None:
        return ""
    counts = {
        "unfinished": children.unfinished,
        "queued": children.queued,
        "completed": children.completed,
        "failed": children.failed,
        "cancelled": children.cancelled,
        "timed out": children.timed_out,
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{children.total}: {told}" if told else str(children.total)


def outcome_lines(outcome: Outcome) -> list[str]:
    """Return how a run ended, for people."""
    if outcome.status is RunStatus.COMPLETED:
        return [f"{outcome.event_type}: {compact(outcome.result, 1000)}"]
    failure = outcome.failure
    if failure is None:
        return [outcome.reason or str(outcome.status)]
    where = f"step {failure.step}: " if failure.step else ""
    what = ": ".join(filter(None, [failure.error_type, failure.message]))
    told = re.search(rf"\battempts?:? {failure.attempts}\b|\b{failure.attempts} (attempts|tries)\b", failure.message)
    again = f" (after {failure.attempts} attempts)" if failure.attempts > 1 and not told else ""
    lines = [f"{where}{what}{again}"]
    if failure.reference_id:
        lines.append(f"reference: {failure.reference_id}")
    if failure.traceback:
        lines.append(failure.traceback.rstrip())
    return lines


def question_text(prompt: GenericEvent) -> str:
    """Return what a prompt asks: its words, then its other fields in brackets."""
    fields = prompt.to_dict()
    words = next((name for name in _QUESTIONS if isinstance(fields.get(name), str) and fields[name].strip()), None)
    if words is None:
        return " ".join(filter(None, [prompt.type, fields_text(fields)]))
    text = fields.pop(words).strip()
    rest = fields_text({name: value for name, value in fields.items() if value not in (None, "")})
    return f"{text} ({rest})" if rest else text


def waiter_text(waiter: PendingWaiter) -> str:
    """Return what a waiter asks, or the event that it waits for when it has no prompt."""
    if waiter.prompt is not None:
        return question_text(waiter.prompt)
    return " ".join(filter(None, [waiter.event_type, fields_text(waiter.requirements), "is awaited"]))


def workflow_page(info: WorkflowInfo) -> Text:
    """Return a workflow: its steps, and its events with their fields."""
    page = Page()
    page.row("workflow", _versioned(info.name, info.version))
    page.row("about", info.description)
    page.row("timeout", f"{info.timeout.total_seconds():g}s" if info.timeout is not None else "none")
    page.row("state", info.state_type)
    page.row("paused", pause_text(info.pause, None), "magenta")
    for step in info.steps:
        page.row(
            "step", f"{step.name}: {_names(step.accepts)} -> {_names(step.returns) or 'nothing'}{_was(step.aliases)}"
        )
    named = {name for step in info.steps for name in (*step.accepts, *step.returns)}
    named |= {edge.event_type for edge in info.edges if edge.event_type not in _ENGINE_EVENTS}
    others = []
    for item in info.types:
        if item.is_event and item.name in named:
            marks = ("sendable" * item.sendable, "internal" * item.internal)
            notes = [note for note in (_role(info, item.name, str(item.role)), *marks) if note]
            shown = f"  [{', '.join(notes)}]" if notes else ""
            page.row("event", f"{item.name}({signature(item.json_schema)}){shown}{_was(item.aliases)}")
        elif item.is_event and item.sendable and item.name not in _ENGINE_EVENTS:
            others.append(item.name)
    # Those of the module: a step may wait for one of them, but they may belong to another workflow.
    page.row("others", f"{', '.join(others)}  [sendable, but no step names them]" if others else "")
    return page.text


def _was(aliases: Sequence[str]) -> str:
    return f"  (was {', '.join(aliases)})" if aliases else ""


def schema_of(workflow: WorkflowInfo | None, event_type: str) -> Mapping[str, Any] | None:
    """Return the JSON Schema of an event type; None when it is not known."""
    types = workflow.types if workflow is not None else ()
    return next((item.json_schema for item in types if item.name == event_type), None)


def send_command(
    run_id: str, event_type: str, fixed: Mapping[str, Any], schema: Mapping[str, Any] | None = None
) -> str:
    """Return the shell command that answers a question, for the person to complete.

    Args:
        run_id: The run.
        event_type: The type of the answer.
        fixed: The fields that the answer must have.
        schema: The JSON Schema of the type, which tells the other fields; None when it is not known.
    """
    given = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in fixed.items()]
    command = shlex.join(["stepwire", "send", run_id, event_type, *given])
    if schema is None:
        return f"{command} FIELD=VALUE"
    return " ".join([command, *(f"{field.name}={field.placeholder}" for field in fields_of(schema, fixed))])


def pause_text(pause: Pause | None, now: datetime | None) -> str:
    """Return since when, by whom and why something is paused; empty if it is not."""
    if pause is None:
        return ""
    since = f"{'the workflow, ' if pause.workflow else ''}{_moment(pause.time, now)} by {pause.by}"
    return f"{since}: {pause.reason}" if pause.reason else since


def _versioned(name: str, version: str) -> str:
    return f"{name} ({short_version(version)})" if version else name


def short_version(version: str) -> str:
    """Return a version for people: the first 12 characters of a digest, anything else whole."""
    return version[:12] if _DIGEST.fullmatch(version) else version


def _role(info: WorkflowInfo, name: str, role: str) -> str:
    if name == info.start_event:
        return "starts the run"
    if name == info.stop_event:
        return "ends the run"
    return {"input_required": "question", "human_response": "answer"}.get(role, "")


def _names(names: Sequence[str]) -> str:
    return " | ".join(names)


def _moment(time: datetime | None, now: datetime | None) -> str:
    return f"{time.isoformat(' ', 'seconds')} ({since(time, now)} ago)" if time is not None else ""


class Page:
    """Rows of `name  value`. Empty values are left out, and a repeated name is written once."""

    def __init__(self) -> None:
        self.text = Text()
        self._last = ""

    def row(self, name: str, value: str, style: str = "", *, again: bool = False) -> None:
        """Add a row; `again` writes its name though the row before has the same."""
        if not value:
            return
        if self.text:
            self.text.append("\n")
        self.text.append(f"{'' if name == self._last and not again else name:<12}", style="bold")
        self.text.append(clean(value).replace("\n", "\n" + " " * 12), style=style)
        self._last = name
