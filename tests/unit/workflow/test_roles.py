"""The one table of event roles."""

from __future__ import annotations

from stepwire.v1 import types_pb2
from stepwire.workflow.definition.roles import PLAIN, ROLES, role_of
from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)


class Answer(HumanResponseEvent):
    pass


def test_the_numbers_are_those_of_the_contract() -> None:
    for base, name in (
        (StartEvent, "START"),
        (StopEvent, "STOP"),
        (InputRequiredEvent, "INPUT_REQUIRED"),
        (HumanResponseEvent, "HUMAN_RESPONSE"),
        (StepFailedEvent, "UNSPECIFIED"),
        (Event, "UNSPECIFIED"),
    ):
        assert role_of(base).number == types_pb2.EventRole.Value(f"EVENT_ROLE_{name}"), base


def test_a_subclass_has_the_role_of_its_base() -> None:
    assert role_of(Answer) is role_of(Answer) is ROLES[HumanResponseEvent]
    assert role_of(Event) is PLAIN
