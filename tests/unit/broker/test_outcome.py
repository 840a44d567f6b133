"""How a run ends."""

from __future__ import annotations

from stepwire.workflow.broker.outcome import FAILED, damage, result_of
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.events import StopEvent, WorkflowFailedEvent


class Report(StopEvent):
    pages: int = 0


def test_results() -> None:
    assert result_of(StopEvent(result=5)) == 5
    report = Report(pages=3)
    assert result_of(report) is report


def test_damage_names_the_keys_and_no_values() -> None:
    outcome = damage(["b", "a"])
    assert outcome.status == FAILED
    assert isinstance(outcome.error, SerializationError)
    assert outcome.error.keys == ("a", "b")
    assert isinstance(outcome.event, WorkflowFailedEvent)
    assert outcome.event.message == "The state cannot be saved any more: a, b"
