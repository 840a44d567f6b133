"""One run, its outcome, its questions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.unit.cli.render.things import NOW, WAITER, info

from stepwire.cli.render.pages import outcome_lines, question_text, run_page, send_command
from stepwire.cli.render.records import run_record
from stepwire.client import Failure, GenericEvent, Outcome, RunStatus
from stepwire.client._core.payload import to_payload


def test_question_and_command() -> None:
    assert question_text(GenericEvent("Ask", question="Ship it?", total=3, note="")) == "Ship it? (total=3)"
    assert question_text(GenericEvent("Ask", prefix="Name: ")) == "Name:"
    assert question_text(GenericEvent("Ask", total=3)) == "Ask total=3"
    assert send_command("r1", "Approval", {"id": "7"}) == "stepwire send r1 Approval 'id=\"7\"' FIELD=VALUE"


def test_the_command_knows_the_fields_of_the_answer() -> None:
    schema = {
        "properties": {
            "id": {"type": "string"},
            "yes": {"type": "boolean"},
            "size": {"enum": ["small", "large"]},
            "count": {"type": "integer"},
            "note": {"type": "string", "default": ""},
        },
        "required": ["id", "yes", "size", "count"],
    }
    command = send_command("r1", "Approval", {"id": "7"}, schema)
    assert command == "stepwire send r1 Approval 'id=\"7\"' yes=true/false size=small/large count=INTEGER"
    assert send_command("r1", "Note", {}, {"properties": {"note": {"type": "string"}}}).endswith(" Note note=TEXT")


def test_run_page() -> None:
    page = run_page(info(pending_waiters=(WAITER,), forked_from=("r0", 9)), NOW).plain
    assert "orders (aaaaaaaaaaaa)" in page
    assert "Ship it? (total=3)" in page
    assert "stepwire send r1 Approval" in page
    assert "r0 at 9" in page
    assert "outcome" not in page


def test_a_blocked_run_says_what_to_do_and_takes_no_answer() -> None:
    run = info(pending_waiters=(WAITER,), status=RunStatus.BLOCKED, blocked_reason="no step: ship")
    page = run_page(run, NOW).plain
    assert "no step: ship" in page
    assert "stepwire reload r1" in page
    assert "migrate()" in page
    assert "Ship it?" in page
    assert "stepwire send" not in page


def test_open_questions_show_until_when() -> None:
    until = replace(WAITER, deadline=NOW + timedelta(seconds=2000))
    assert "open until 2026-01-31 12:33:20+00:00" in run_page(info(pending_waiters=(until,)), NOW).plain
    assert "open until" not in run_page(info(pending_waiters=(WAITER,)), NOW).plain


def test_outcome() -> None:
    failure = Failure("work", "ValueError", "boom", 3, "ref1", "Traceback: …\n")
    failed = Outcome(RunStatus.FAILED, "WorkflowFailedEvent", to_payload(None), failure, "")
    assert outcome_lines(failed) == [
        "step work: ValueError: boom (after 3 attempts)",
        "reference: ref1",
        "Traceback: …",
    ]
    said = Failure("work", "Down", "bank is down (attempt 3)", 3, "", "")
    assert outcome_lines(Outcome(RunStatus.FAILED, "WorkflowFailedEvent", to_payload(None), said, "")) == [
        "step work: Down: bank is down (attempt 3)"
    ]
    done = Outcome(RunStatus.COMPLETED, "StopEvent", to_payload({"a": 1}), None, "")
    assert outcome_lines(done) == ['StopEvent: {"a":1}']
    record = run_record(info(outcome=done))
    assert record["outcome"]["result"] == {"a": 1}
    assert record["created_at"] == "2026-01-31T11:57:00Z"
