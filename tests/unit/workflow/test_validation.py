# mypy: disable-error-code="empty-body"
# The steps here are only looked at.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from stepwire.workflow.decorators import StepConfig, catch_error, step, step_config_of
from stepwire.workflow.definition.validation import (
    context_state_type,
    start_event_class,
    steps_of,
    stop_event_class,
    validate_graph,
)
from stepwire.workflow.errors import WorkflowConfigurationError, WorkflowValidationError
from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)
from stepwire.workflow.service import ServiceDefinition

Steps = dict[str, Callable[..., Any]]


class A(Event):
    pass


class SubA(A):
    pass


class B(Event):
    pass


class Begin(StartEvent):
    pass


class Done(StopEvent):
    pass


class Ask(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    pass


class StateOne(BaseModel):
    pass


class StateTwo(BaseModel):
    pass


def fake(accepts: list[type[Event]], returns: list[type], **options: Any) -> Callable[..., Any]:
    """Make a step of a config alone."""

    def func() -> None: ...

    config = StepConfig(accepted_events=accepts, event_name="ev", return_types=returns, **options)
    setattr(func, "__step_config", config)  # a name with dunder, as the decorator sets it
    return func


def check(steps: Steps, services: tuple[str, ...] = (), stop: type[StopEvent] = StopEvent) -> bool:
    return validate_graph("Flow", steps, StartEvent, stop, services)


GO = fake([StartEvent], [StopEvent])


# --- steps_of ---------------------------------------------------------------------------------


def test_steps_come_in_order_of_definition_bases_first() -> None:
    class Base:
        @step
        def z(self, ev: StartEvent) -> A: ...

        def helper(self) -> None: ...

        @staticmethod
        @step
        def s(ev: A) -> B: ...

    class Flow(Base):
        @step
        def a(self, ev: B) -> StopEvent: ...

    steps = steps_of(Flow)
    assert list(steps) == ["z", "s", "a"]
    assert steps["s"] is Base.s
    assert list(steps_of(Base)) == ["z", "s"]


def test_a_subclass_replaces_or_removes_a_step() -> None:
    class Base:
        @step
        def one(self, ev: StartEvent) -> StopEvent: ...

        @step
        def two(self, ev: StartEvent) -> StopEvent: ...

    class Flow(Base):
        @step(num_workers=1)
        def one(self, ev: StartEvent) -> StopEvent: ...

        two = None  # type: ignore[assignment]

    steps = steps_of(Flow)
    assert list(steps) == ["one"]
    config = step_config_of(steps["one"])
    assert config is not None
    assert config.num_workers == 1


def test_added_functions_are_inherited_but_not_shared_upwards() -> None:
    class Base:
        _step_functions: ClassVar = {"free": GO}

    class Flow(Base):
        _step_functions: ClassVar = {"more": GO}

    assert list(steps_of(Flow)) == ["free", "more"]
    assert list(steps_of(Base)) == ["free"]


# --- start, stop and state types --------------------------------------------------------------


def test_one_start_and_one_stop_type_however_often() -> None:
    steps = {"a": fake([Begin, A], [A]), "b": fake([Begin], [Done, type(None)])}
    steps["c"] = fake([A], [Done])
    assert start_event_class("Flow", steps) is Begin
    assert stop_event_class("Flow", steps) is Done


def test_no_start_or_stop_type() -> None:
    steps = {"a": fake([A], [B])}
    with pytest.raises(WorkflowConfigurationError, match=r"'Flow'.*accept a StartEvent"):
        start_event_class("Flow", steps)
    with pytest.raises(WorkflowConfigurationError, match=r"'Flow'.*return a StopEvent"):
        stop_event_class("Flow", steps)


def test_two_start_or_stop_types_are_listed() -> None:
    steps = {"a": fake([StartEvent], [StopEvent]), "b": fake([Begin], [Done])}
    with pytest.raises(WorkflowConfigurationError, match="StartEvent, Begin"):
        start_event_class("Flow", steps)
    with pytest.raises(WorkflowConfigurationError, match="StopEvent, Done"):
        stop_event_class("Flow", steps)


def test_s20_conflicting_state_types_are_a_configuration_error() -> None:
    one = fake([StartEvent], [A], context_state_type=StateOne)
    two = fake([A], [StopEvent], context_state_type=StateTwo)
    with pytest.raises(WorkflowConfigurationError, match=r"StateOne \(step 'x'\).*StateTwo \(step 'y'\)"):
        context_state_type("Flow", {"x": one, "y": two})
    assert context_state_type("Flow", {"x": one, "y": GO, "z": one}) is StateOne
    assert context_state_type("Flow", {"y": GO}) is None


# --- validate_graph ---------------------------------------------------------------------------


def test_a_sound_graph() -> None:
    assert check({"go": GO}) is False
    assert check({"a": fake([StartEvent], [A, B]), "b": fake([A, B], [StopEvent])}) is False


def test_no_step_accepts_a_stop_event() -> None:
    with pytest.raises(WorkflowValidationError, match=r"'Flow'.*Done \(step 'end'\)"):
        check({"go": GO, "end": fake([Done], [type(None)])})


def test_something_produces_the_stop_event() -> None:
    with pytest.raises(WorkflowValidationError, match="no step produces Done"):
        check({"go": GO}, stop=Done)


def test_consumed_but_never_produced() -> None:
    with pytest.raises(WorkflowValidationError, match=r"consumed but never produced: A \(step 'x'\)"):
        check({"go": GO, "x": fake([A], [type(None)])})


def test_produced_but_never_consumed() -> None:
    with pytest.raises(WorkflowValidationError, match=r"produced but never consumed: B \(step 'go'\)"):
        check({"go": fake([StartEvent], [StopEvent, B])})


def test_the_checks_come_in_their_order() -> None:
    wrong = {
        "accepts_stop": fake([StopEvent], [type(None)]),
        "orphan": fake([A], [B], requested_services=[ServiceDefinition("svc", object)]),
    }
    with pytest.raises(WorkflowValidationError, match="may accept"):
        check(wrong)
    del wrong["accepts_stop"]
    with pytest.raises(WorkflowValidationError, match="no step produces"):
        check(wrong)
    wrong["go"] = GO
    with pytest.raises(WorkflowValidationError, match="never produced"):
        check(wrong)
    wrong["go"] = fake([StartEvent], [StopEvent, A])
    with pytest.raises(WorkflowValidationError, match="never consumed"):
        check(wrong)
    wrong["sink"] = fake([B], [type(None)])
    with pytest.raises(WorkflowValidationError, match=r"services are not available: svc \(step 'orphan'\)"):
        check(wrong)
    assert check(wrong, services=("svc",)) is False


def test_a_service_with_a_default_need_not_be_there() -> None:
    optional = ServiceDefinition("svc", object, None)
    check({"go": fake([StartEvent], [StopEvent], requested_services=[optional])})


def test_a_produced_subclass_is_consumed_only_by_who_opted_in() -> None:
    steps = {"a": fake([StartEvent], [SubA]), "b": fake([A], [StopEvent])}
    with pytest.raises(WorkflowValidationError, match="consumed but never produced: A"):
        check(steps)
    steps["b"] = fake([A], [StopEvent], accept_subclasses=True)
    check(steps)
    # The other way round nobody takes the base.
    steps = {"a": fake([StartEvent], [A, SubA]), "b": fake([SubA], [StopEvent])}
    with pytest.raises(WorkflowValidationError, match=r"produced but never consumed: A \(step 'a'\)"):
        check(steps)


@pytest.mark.parametrize("outside", [InputRequiredEvent, Ask, HumanResponseEvent, Answer])
def test_events_of_the_outside_need_no_other_end(outside: type[Event]) -> None:
    assert check({"go": fake([StartEvent], [StopEvent, outside])}) is True
    assert check({"go": GO, "x": fake([outside], [type(None)])}) is True


def test_a_stop_event_of_another_class_may_be_left_over() -> None:
    check({"go": fake([StartEvent], [Done, StopEvent])}, stop=Done)


def test_a_catch_error_step_has_its_event_produced() -> None:
    class Flow:
        @step
        def go(self, ev: StartEvent) -> StopEvent: ...

        @catch_error(steps=["go"])
        def rescue(self, ev: StepFailedEvent) -> StopEvent: ...

    assert check(steps_of(Flow)) is False


def test_an_ordinary_step_gets_no_step_failed_event() -> None:
    with pytest.raises(WorkflowValidationError, match="never produced: StepFailedEvent"):
        check({"go": GO, "x": fake([StepFailedEvent], [StopEvent])})


def test_catch_error_names_steps_that_exist() -> None:
    steps = {"go": GO, "rescue": fake([StepFailedEvent], [StopEvent], catches=("go", "gone"))}
    with pytest.raises(WorkflowValidationError, match=r"'rescue'.*unknown steps: gone"):
        check(steps)


def test_what_is_not_decorated_is_named() -> None:
    with pytest.raises(WorkflowValidationError, match="'go'"):
        check({"go": lambda: None})
