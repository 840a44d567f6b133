"""Pages about one run or one workflow, and the words of a question."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from stepwire.cli.render.schemas import signature
from stepwire.cli.render.styles import STATUS_STYLES
from stepwire.cli.render.text import clean, compact, fields_text, since
from stepwire.client import GenericEvent, Outcome, PendingWaiter, RunInfo, RunStatus, WorkflowInfo

__all__ = [
    "outcome_lines",
    "question_text",
    "run_page",
    "send_command",
    "short_version",
    "waiter_text",
    "workflow_page",
]

_ENGINE_EVENTS = frozenset({"InputRequiredEvent", "HumanResponseEvent"})
_DIGEST = re.compile(r"[0-9a-f]{32,}")
# Fields in which authors most likely put the question itself; `prefix` is that of the 1.x examples.
_QUESTIONS = ("question", "prompt", "prefix", "message", "text", "msg")


def run_page(info: RunInfo, now: datetime | None = None) -> Text:
    """Return everything about a run."""
    page = _Page()
    page.row("run", info.run_id)
    page.row("workflow", _versioned(info.workflow, info.workflow_version))
    page.row("status", str(info.status), STATUS_STYLES.get(info.status, ""))
    page.row("blocked", info.blocked_reason)
    page.row("labels", fields_text(info.labels))
    page.row("created", _moment(info.created_at, now))
    page.row("ended", _moment(info.ended_at, now))
    page.row("times out", info.timeout_at.isoformat(" ", "seconds") if info.timeout_at else "")
    page.row("log", f"{info.first_available} to {info.last_sequence}" if info.last_sequence else "empty")
    if info.forked_from:
        page.row("forked from", f"{info.forked_from[0]} at {info.forked_from[1]}")
    for waiter in info.pending_waiters:
        page.row("question", waiter_text(waiter), "yellow")
        page.row("", f"answer: {send_command(info.run_id, waiter.event_type, waiter.requirements)}")
    if info.outcome is not None:
        for line in outcome_lines(info.outcome):
            page.row("outcome", line)
    return page.text


def outcome_lines(outcome: Outcome) -> list[str]:
    """Return how a run ended, for people."""
    if outcome.status is RunStatus.COMPLETED:
        return [f"{outcome.event_type}: {compact(outcome.result, 1000)}"]
    failure = outcome.failure
    if failure is None:
        return [outcome.reason or str(outcome.status)]
    where = f"step {failure.step}: " if failure.step else ""
    what = ": ".join(filter(None, [failure.error_type, failure.message]))
    again = f" (attempts: {failure.attempts})" if failure.attempts > 1 else ""
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
    page = _Page()
    page.row("workflow", _versioned(info.name, info.version))
    page.row("about", info.description)
    page.row("timeout", f"{info.timeout.total_seconds():g}s" if info.timeout is not None else "none")
    page.row("state", info.state_type)
    for step in info.steps:
        page.row("step", f"{step.name}: {_names(step.accepts)} -> {_names(step.returns) or 'nothing'}")
    in_steps = {name for step in info.steps for name in (*step.accepts, *step.returns)}
    for item in info.types:
        # Every workflow has the engine's own events: list them only where a step names them.
        if item.is_event and (item.name in in_steps or (item.sendable and item.name not in _ENGINE_EVENTS)):
            notes = [note for note in (_role(info, item.name, str(item.role)), "sendable" * item.sendable) if note]
            page.row(
                "event", f"{item.name}({signature(item.json_schema)})" + (f"  [{', '.join(notes)}]" if notes else "")
            )
    return page.text


def send_command(run_id: str, event_type: str, fixed: Mapping[str, Any]) -> str:
    """Return the shell command that answers a question, for the person to complete."""
    given = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in fixed.items()]
    return shlex.join(["stepwire", "send", run_id, event_type, *given]) + " key=value"


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


class _Page:
    """Rows of `name  value`. Empty values are left out, and a repeated name is written once."""

    def __init__(self) -> None:
        self.text = Text()
        self._last = ""

    def row(self, name: str, value: str, style: str = "") -> None:
        if not value:
            return
        if self.text:
            self.text.append("\n")
        self.text.append(f"{'' if name == self._last else name:<12}", style="bold")
        self.text.append(clean(value).replace("\n", "\n" + " " * 12), style=style)
        self._last = name
