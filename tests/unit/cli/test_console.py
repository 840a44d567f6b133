"""Text, fields, questions and pages for the terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from stepwire.cli.render import (
    Field,
    Progress,
    clean,
    compact,
    duration,
    error_text,
    event_line,
    event_record,
    fields_of,
    outcome_lines,
    parse,
    question_text,
    run_page,
    run_record,
    runs_table,
    send_command,
)
from stepwire.client import (
    EntryKind,
    EventMeta,
    EventRole,
    Failure,
    GenericEvent,
    InvalidArgumentError,
    Outcome,
    PendingWaiter,
    RunInfo,
    RunStatus,
    UnavailableError,
)
from stepwire.client._core.payload import to_payload
from stepwire.client.errors import FieldViolation

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


def test_clean_leaves_text_and_disarms_terminals() -> None:
    assert clean("Grüße, 世界 👩‍👧\u00a0!") == "Grüße, 世界 👩‍👧\u00a0!"
    assert clean("a\x1b[2Jb\x9bc\rd") == "a\\x1b[2Jb\\x9bc\\x0dd"
    assert clean("\u202eevil") == "\\u202eevil"
    assert clean("two\nlines") == "two\nlines"
    assert clean("two\nlines", keep="") == "two\\x0alines"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ada", "Ada"),
        ("two words", '"two words"'),
        ("", '""'),
        ("5", '"5"'),
        (5, "5"),
        (None, "null"),
        ({"a": [1, 2]}, '{"a":[1,2]}'),
        ("\x1b[31m", "\\x1b[31m"),
        ("x" * 100, "x" * 59 + "…"),
    ],
)
def test_compact(value: Any, expected: str) -> None:
    assert compact(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0.0s"), (3.21, "3.2s"), (125, "2m05s"), (3780, "1h03m"), (2 * 86400 + 4 * 3600, "2d04h")],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_event_line_is_one_line() -> None:
    line = event_line(event("Tick", 12, n=3, text="a\nb\x1b[2J")).plain
    assert "12" in line
    assert "Tick n=3" in line
    assert "(work)" in line
    assert "\n" not in line
    assert "\x1b" not in line
    assert event_line(event("Tick", kind=EntryKind.RECEIVED)).plain.count("→") == 1


def test_event_record() -> None:
    assert event_record(event("Tick", 12, n=3, sequence_=1)) == {
        "sequence": 12,
        "time": "2026-01-31T12:00:00Z",
        "kind": "stream",
        "type": "Tick",
        "role": "unspecified",
        "step": "work",
        "delivered": 0,
        "data": {"n": 3, "sequence_": 1},
    }


def test_error_is_one_line_and_its_fields() -> None:
    error = InvalidArgumentError(
        "The input\nis bad",
        reason="INVALID_INPUT",
        field_violations=[FieldViolation("name", "Field required")],
        reference_id="ab12",
    )
    assert error_text(error).splitlines() == [
        "error: INVALID_INPUT: The input\\x0ais bad",
        "  name: Field required",
        "  reference: ab12",
    ]
    assert error_text(UnavailableError("gone")) == "error: UnavailableError: gone"


def test_question_and_command() -> None:
    assert question_text(GenericEvent("Ask", question="Ship it?", total=3, note="")) == "Ship it? (total=3)"
    assert question_text(GenericEvent("Ask", prefix="Name: ")) == "Name:"
    assert question_text(GenericEvent("Ask", total=3)) == "Ask total=3"
    assert send_command("r1", "Approval", {"id": "7"}) == "stepwire send r1 Approval 'id=\"7\"' key=value"


def test_runs_table() -> None:
    table = runs_table([info(pending_waiters=(WAITER,)), info(run_id="r2", status=RunStatus.COMPLETED)], NOW)
    lines = shown(table).splitlines()
    assert lines[0].split() == ["RUN", "WORKFLOW", "STATUS", "AGE", "QUESTIONS"]
    assert lines[2].split() == ["r1", "orders", "waiting", "3m00s", "Ship", "it?", "(total=3)"]
    assert lines[3].split() == ["r2", "orders", "completed", "3m00s"]


def test_run_page() -> None:
    page = run_page(info(pending_waiters=(WAITER,), forked_from=("r0", 9)), NOW).plain
    assert "orders (aaaaaaaaaaaa)" in page
    assert "Ship it? (total=3)" in page
    assert "stepwire send r1 Approval" in page
    assert "r0 at 9" in page
    assert "outcome" not in page


def test_outcome() -> None:
    failure = Failure("work", "ValueError", "boom", 3, "ref1", "Traceback: …\n")
    failed = Outcome(RunStatus.FAILED, "WorkflowFailedEvent", to_payload(None), failure, "")
    assert outcome_lines(failed) == ["step work: ValueError: boom (attempts: 3)", "reference: ref1", "Traceback: …"]
    done = Outcome(RunStatus.COMPLETED, "StopEvent", to_payload({"a": 1}), None, "")
    assert outcome_lines(done) == ['StopEvent: {"a":1}']
    record = run_record(info(outcome=done))
    assert record["outcome"]["result"] == {"a": 1}
    assert record["created_at"] == "2026-01-31T11:57:00Z"


SCHEMA: dict[str, Any] = {
    "$defs": {"Colour": {"enum": ["red", "blue"], "type": "string"}, "Box": {"type": "object"}},
    "properties": {
        "id": {"type": "string"},
        "ok": {"type": "boolean"},
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "colour": {"$ref": "#/$defs/Colour"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "box": {"allOf": [{"$ref": "#/$defs/Box"}]},
        "list": {"type": "array"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "note": {"type": "string", "default": "none"},
    },
    "required": ["id", "ok", "n", "x", "colour", "maybe", "box", "list", "either"],
}


def test_fields_to_ask() -> None:
    fields = {field.name: field for field in fields_of(SCHEMA, {"id"})}
    assert {name: field.kind for name, field in fields.items()} == {
        "ok": "boolean",
        "n": "integer",
        "x": "number",
        "colour": "choice",
        "maybe": "integer",
        "box": "json",
        "list": "json",
        "either": "any",
    }
    assert fields["colour"].choices == ("red", "blue")
    assert fields["maybe"].nullable
    optional = fields_of(SCHEMA, SCHEMA["required"])
    assert [(field.name, field.required, field.default) for field in optional] == [("note", False, "none")]


def test_fields_of_events_without_any() -> None:
    assert fields_of({"type": "object"}) == [Field("response")]
    assert fields_of({"type": "object"}, {"id"}) == []
    node = {"$defs": {"Node": {"properties": {"n": {"$ref": "#/$defs/Node"}}}}, "$ref": "#/$defs/Node"}
    assert [field.name for field in fields_of(node)] == ["n"]
    endless = {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}
    assert fields_of(endless) == [Field("response")]


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        (Field("f"), "two words ", "two words "),
        (Field("f"), "5", "5"),
        (Field("f"), '""', ""),
        (Field("f", "boolean"), " Yes ", True),
        (Field("f", "boolean"), "0", False),
        (Field("f", "integer"), "-3", -3),
        (Field("f", "number"), "1.5", 1.5),
        (Field("f", "json"), "[1]", [1]),
        (Field("f", "any"), "x", "x"),
        (Field("f", "any"), "3", 3),
        (Field("f", "choice", choices=("red", "blue")), "b", "blue"),
        (Field("f", "choice", choices=(1, 2)), "2", 2),
        (Field("f", "integer", nullable=True), "", None),
    ],
)
def test_what_is_typed(field: Field, text: str, expected: Any) -> None:
    found = parse(field, text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (Field("f"), ""),
        (Field("f", "boolean"), "perhaps"),
        (Field("f", "integer"), "1.5"),
        (Field("f", "number"), "true"),
        (Field("f", "number"), "NaN"),
        (Field("f", "json"), "x"),
        (Field("f", "choice", choices=("red", "rose")), "r"),
    ],
)
def test_what_may_not_be_typed(field: Field, text: str) -> None:
    with pytest.raises(ValueError, match=r"type|needed"):
        parse(field, text)


def test_lines_wait_while_a_question_is_at_the_terminal() -> None:
    file = io.StringIO()
    with Progress(Console(file=file, width=100), live=False) as progress:
        progress.event(event("First"))
        with progress.pause():
            progress.event(event("Second", 2))
            assert "Second" not in file.getvalue()
        assert "Second" in file.getvalue()
    assert progress.events == 2


def test_live_line() -> None:
    progress = Progress(Console(file=io.StringIO(), width=100), live=False, clock=iter([10.0, 75.0]).__next__)
    progress.status, progress.events, progress.questions, progress.last = RunStatus.WAITING, 3, 1, "Tick"
    line = shown(progress)
    assert "waiting  1m05s  3 events  1 open question  last: Tick" in line
