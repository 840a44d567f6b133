"""One run, its outcome, its questions."""

from __future__ import annotations

from tests.unit.cli.render.things import NOW, WAITER, info

from stepwire.cli.render.pages import outcome_lines, question_text, run_page, send_command
from stepwire.cli.render.records import run_record
from stepwire.client import Failure, GenericEvent, Outcome, RunStatus
from stepwire.client._core.payload import to_payload


def test_question_and_command() -> None:
    assert question_text(GenericEvent("Ask", question="Ship it?", total=3, note="")) == "Ship it? (total=3)"
    assert question_text(GenericEvent("Ask", prefix="Name: ")) == "Name:"
    assert question_text(GenericEvent("Ask", total=3)) == "Ask total=3"
    assert send_command("r1", "Approval", {"id": "7"}) == "stepwire send r1 Approval 'id=\"7\"' key=value"


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
