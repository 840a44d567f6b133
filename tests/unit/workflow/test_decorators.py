# mypy: disable-error-code="empty-body"
# The steps here are only looked at.

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from stepwire.workflow.decorators import StepConfig, catch_error, step, step_config_of
from stepwire.workflow.errors import SignatureError, WorkflowValidationError
from stepwire.workflow.events import Event, StartEvent, StepFailedEvent, StopEvent
from stepwire.workflow.retry_policy import ConstantDelayRetryPolicy


class Sub(StartEvent):
    pass


class Registry:
    """Stands in for a workflow class."""

    added: ClassVar[list[Callable[..., Any]]]

    @classmethod
    def add_step(cls, func: Callable[..., Any]) -> None:
        assert step_config_of(func) is not None
        cls.added.append(func)


def config(func: object) -> StepConfig:
    found = step_config_of(func)
    assert found is not None
    return found


def test_the_bare_decorator() -> None:
    class Flow:
        @step
        async def go(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ev.n)

    found = config(Flow.go)
    assert found.accepted_events == [StartEvent]
    assert found.return_types == [StopEvent]
    assert found.event_name == "ev"
    assert (found.num_workers, found.retry_policy, found.timeout) == (4, None, None)
    assert found.is_async
    assert found.catches is None
    assert not found.accept_subclasses
    assert config(Flow().go) is found
    assert getattr(Flow.go, "__step_config") is found  # a class body would mangle it


def test_options() -> None:
    policy = ConstantDelayRetryPolicy()

    class Flow:
        @step(num_workers=1, retry_policy=policy, accept_subclasses=True, timeout=2)
        def go(self, ev: StartEvent) -> list[StopEvent]:
            return []

    found = config(Flow.go)
    assert (found.num_workers, found.retry_policy, found.timeout) == (1, policy, 2)
    assert found.list_returns
    assert not found.is_async
    assert Flow().go(StartEvent()) == []


def test_s05_acceptance_is_by_exact_type_unless_opted_in() -> None:
    class Flow:
        @step
        def exact(self, ev: StartEvent) -> StopEvent: ...

        @step(accept_subclasses=True)
        def wide(self, ev: StartEvent) -> StopEvent: ...

    assert config(Flow.exact).accepts(StartEvent)
    assert not config(Flow.exact).accepts(Sub)
    assert config(Flow.wide).accepts(StartEvent)
    assert config(Flow.wide).accepts(Sub)
    assert not config(Flow.wide).accepts(Event)


@pytest.mark.parametrize("bad", [0, -1, 1.0, "4", True, None])
def test_num_workers_is_an_int_above_zero(bad: Any) -> None:
    with pytest.raises(WorkflowValidationError, match=r"'go'.*num_workers"):

        class Flow:
            @step(num_workers=bad)
            def go(self, ev: StartEvent) -> StopEvent: ...


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "1", True])
def test_timeout_is_seconds_above_zero(bad: Any) -> None:
    with pytest.raises(WorkflowValidationError, match=r"'go'.*timeout"):

        class Flow:
            @step(timeout=bad)
            def go(self, ev: StartEvent) -> StopEvent: ...


@pytest.mark.parametrize("bad", [3, ConstantDelayRetryPolicy])
def test_a_retry_policy_has_next(bad: Any) -> None:
    with pytest.raises(WorkflowValidationError, match=r"'go'.*retry_policy"):

        class Flow:
            @step(retry_policy=bad)
            def go(self, ev: StartEvent) -> StopEvent: ...


def test_a_free_function_needs_its_class() -> None:
    def go(ev: StartEvent) -> StopEvent: ...

    with pytest.raises(WorkflowValidationError, match=r"'go'.*workflow="):
        step(go)


def test_a_free_function_is_added_to_its_class() -> None:
    class Flow(Registry):
        added: ClassVar[list[Callable[..., Any]]] = []

    @step(workflow=Flow, num_workers=2)  # type: ignore[arg-type]  # a stand-in with add_step
    def go(ev: StartEvent) -> StopEvent: ...

    assert Flow.added == [go]
    assert config(go).num_workers == 2


def test_only_functions_become_steps() -> None:
    class Callee:
        def __call__(self, ev: StartEvent) -> StopEvent: ...

    things: list[Any] = [Callee(), Callee, 3]
    for thing in things:
        with pytest.raises(WorkflowValidationError, match="function"):
            step(thing)


def test_static_methods_in_either_order() -> None:
    class Flow:
        @step
        @staticmethod
        def outer(ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

        @staticmethod
        @step
        def inner(ev: StartEvent) -> StopEvent:
            return StopEvent(result=2)

    for func in (Flow.outer, Flow().outer, Flow.inner, Flow().inner, vars(Flow)["inner"]):
        assert config(func).accepted_events == [StartEvent]
    assert Flow().outer(StartEvent()).result == 1
    assert Flow.inner(StartEvent()).result == 2


def test_a_wrapped_step_reads_the_signature_underneath() -> None:
    def logged(func: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await func(*args, **kwargs)

        return wrapper

    class Flow:
        @step
        @logged
        async def go(self, ev: StartEvent) -> StopEvent: ...

    assert config(Flow.go).accepted_events == [StartEvent]
    assert config(Flow.go).is_async


def test_what_is_no_step_has_no_config() -> None:
    assert step_config_of(print) is None
    assert step_config_of(None) is None
    assert step_config_of(type("X", (), {"__step_config": 3})) is None


def test_postponed_annotations_find_classes_of_the_enclosing_scopes() -> None:
    class Outer(Event):
        pass

    def build() -> type:
        class Inner(Event):
            pass

        class Flow:
            class Own(Event):
                pass

            @step
            def go(self, ev: Outer | Inner | Own) -> Inner: ...

            @step(num_workers=1)
            def on(self, ev: Inner) -> Outer | None: ...

        return Flow

    flow: Any = build()
    accepted = [event.__name__ for event in config(flow.go).accepted_events]
    assert accepted == ["Outer", "Inner", "Own"]
    assert config(flow.on).return_types[0] is Outer


def test_the_inner_scope_hides_the_outer() -> None:
    class Local(Event):
        pass

    outer = Local

    def build() -> Any:
        class Local(Event):
            pass

        class Flow:
            @step
            def go(self, ev: Local) -> None: ...

        return Flow, Local

    flow, inner = build()
    assert config(flow.go).accepted_events == [inner]
    assert inner is not outer


def test_an_undefined_name_is_an_error_naming_step_and_name() -> None:
    with pytest.raises(SignatureError, match=r"'go'.*'Later'"):

        class Flow:
            @step
            def go(self, ev: Later) -> None: ...  # type: ignore[name-defined]  # noqa: F821


# --- catch_error ------------------------------------------------------------------------------


def test_catch_error_takes_failures_of_all_steps_or_of_some() -> None:
    class Flow:
        @catch_error
        def every(self, ev: StepFailedEvent) -> StopEvent: ...

        @catch_error(steps=["a", "b"])
        async def some(self, ev: StepFailedEvent) -> StopEvent: ...

        @catch_error()
        def also(self, ev: StepFailedEvent) -> StopEvent: ...

    assert config(Flow.every).catches == ()
    assert config(Flow.also).catches == ()
    assert config(Flow.some).catches == ("a", "b")
    assert config(Flow.some).accepted_events == [StepFailedEvent]


def test_catch_error_accepts_step_failed_event_only() -> None:
    with pytest.raises(WorkflowValidationError, match=r"'go'.*StepFailedEvent"):

        class Flow:
            @catch_error
            def go(self, ev: StepFailedEvent | StartEvent) -> StopEvent: ...


@pytest.mark.parametrize("bad", ["step", []])
def test_catch_error_steps_is_a_list_of_names(bad: Any) -> None:
    with pytest.raises(WorkflowValidationError, match="steps"):
        catch_error(steps=bad)
