# mypy: disable-error-code="empty-body"
# The steps here are only looked at.

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Never, TypeVar, Union

import pytest
from pydantic import BaseModel

from stepwire.workflow.definition.signature import StepSignature, inspect_signature
from stepwire.workflow.errors import SignatureError, WorkflowValidationError
from stepwire.workflow.events import Event, StartEvent, StopEvent
from stepwire.workflow.resource import Resource

if TYPE_CHECKING:
    from collections import OrderedDict as Absent

S = TypeVar("S")


class Context(Generic[S]):
    """Is told by its name and module alone, as the real one imports what is tested here."""

    __module__ = "stepwire.workflow.context.context"


class A(Event):
    pass


class B(Event):
    pass


class State(BaseModel):
    n: int = 0


class Tool:
    pass


def make_tool() -> Tool:
    return Tool()


UNION = Union[A, B]  # noqa: UP007  # another object than A | B makes, before Python 3.14


def read(func: Callable[..., Any]) -> StepSignature:
    return inspect_signature(func)


def test_the_event_parameter_and_the_return_type() -> None:
    def step(self: Any, ev: StartEvent) -> StopEvent: ...

    found = read(step)
    assert found.event_name == "ev"
    assert found.accepted_events == [StartEvent]
    assert found.return_types == [StopEvent]
    assert not found.list_returns
    assert found.context_parameter is None
    assert found.resources == []


def test_self_needs_no_annotation_and_any_name_will_do() -> None:
    def step(this, message: A) -> None: ...  # type: ignore[no-untyped-def]

    found = read(step)
    assert (found.event_name, found.requested_services) == ("message", [])
    assert found.return_types == [NoneType]


@pytest.mark.parametrize("hint", [A | B, UNION, Annotated[A, "doc"] | B, A | B | None])
def test_unions_of_events(hint: Any) -> None:
    def step(self: Any, ev: Any) -> Any: ...

    step.__annotations__ = {"ev": hint, "return": hint}
    assert read(step).accepted_events == [A, B]
    assert [kind for kind in read(step).return_types if kind is not NoneType] == [A, B]


def test_an_optional_return() -> None:
    def step(ev: A) -> B | None: ...

    assert read(step).return_types == [B, NoneType]


@pytest.mark.parametrize(
    ("hint", "types"),
    [(list[A], [A]), (list[A | B], [A, B]), (list[A] | B | None, [A, B, NoneType])],
)
def test_a_list_is_a_fan_out_of_its_elements(hint: Any, types: list[type]) -> None:
    def step(ev: A) -> Any: ...

    step.__annotations__ = {"ev": A, "return": hint}
    assert read(step).list_returns
    assert read(step).return_types == types


def test_a_step_that_never_returns() -> None:
    def step(ev: A) -> Never: ...

    assert read(step).return_types == [NoneType]


@pytest.mark.parametrize("hint", [int, Any, list[int], list, A | str, list[A | None], dict[str, A]])
def test_other_return_types_are_refused(hint: Any) -> None:
    def publish(ev: A) -> Any: ...

    publish.__annotations__ = {"ev": A, "return": hint}
    with pytest.raises(SignatureError, match=r"'publish'.*return annotation"):
        read(publish)


def test_a_return_annotation_is_mandatory() -> None:
    def publish(ev: A): ...  # type: ignore[no-untyped-def]

    with pytest.raises(SignatureError, match="'publish' must have a return annotation") as caught:
        read(publish)
    assert caught.value.step == "publish"
    assert isinstance(caught.value, WorkflowValidationError)


def test_exactly_one_event_parameter() -> None:
    def none(self: Any) -> A: ...
    def unannotated(self, ev) -> A: ...  # type: ignore[no-untyped-def]
    def two(self: Any, first: A, second: B) -> A: ...
    def mixed(self: Any, ev: A | int) -> A: ...

    with pytest.raises(SignatureError, match="'none' must have exactly one parameter"):
        read(none)
    with pytest.raises(SignatureError, match=r"'unannotated'.*'ev' has no annotation"):
        read(unannotated)
    with pytest.raises(SignatureError, match=r"'two'.*'first' and 'second'"):
        read(two)
    with pytest.raises(SignatureError, match=r"'mixed'.*'ev'"):
        read(mixed)


def test_the_context_parameter() -> None:
    def bare(self: Any, ctx: Context, ev: A) -> None: ...  # type: ignore[type-arg]
    def typed(self: Any, ev: A, ctx: Context[State]) -> None: ...
    def loose(self: Any, ctx: Context[Any], ev: A) -> None: ...
    def optional(self: Any, ev: A, ctx: Context[State] | None = None) -> None: ...

    assert (read(bare).context_parameter, read(bare).context_state_type) == ("ctx", None)
    assert (read(typed).context_parameter, read(typed).context_state_type) == ("ctx", State)
    assert (read(loose).context_parameter, read(loose).context_state_type) == ("ctx", None)
    assert read(optional).context_state_type is State
    assert read(typed).requested_services == []


def test_wrong_context_parameters() -> None:
    def twice(one: Context[State], two: Context[State], ev: A) -> None: ...
    def number(ctx: Context[int], ev: A) -> None: ...

    with pytest.raises(SignatureError, match=r"'twice'.*Context"):
        read(twice)

    def listed(ctx: Context[list[int]], ev: A) -> None: ...

    with pytest.raises(SignatureError, match=r"'listed'.*list\[int\]"):
        read(listed)
    with pytest.raises(SignatureError, match=r"'number'.*int"):
        read(number)


def test_a_class_of_the_authors_called_context_is_a_service() -> None:
    mine = type("Context", (), {"__module__": "stepwire.workflow.contextual"})

    def step(ev: A, ctx: Any) -> None: ...

    step.__annotations__ = {"ev": A, "ctx": mine, "return": None}
    assert read(step).context_parameter is None
    assert [service.name for service in read(step).requested_services] == ["ctx"]


def test_resources() -> None:
    def step(ev: A, tool: Annotated[Tool, "a doc", Resource(make_tool)]) -> None: ...

    (definition,) = read(step).resources
    assert definition.name == "tool"
    assert definition.resource.factory is make_tool
    assert read(step).requested_services == []


def test_everything_else_is_a_service() -> None:
    def step(ev: A, tool: Tool, spare: Tool | None = None, *args: int, **kwargs: int) -> None: ...

    tool, spare = read(step).requested_services
    assert (tool.name, tool.service, tool.has_default) == ("tool", Tool, False)
    assert (spare.name, spare.has_default, spare.default_value) == ("spare", True, None)


def test_an_unannotated_parameter_with_a_default_keeps_it() -> None:
    def step(self, ev: A, level=3) -> None: ...  # type: ignore[no-untyped-def]

    assert read(step).requested_services == []


def test_generators_are_refused() -> None:
    def gen(ev: A):  # type: ignore[no-untyped-def]
        yield B()

    async def agen(ev: A) -> AsyncIterator[B]:
        yield B()

    for func in (gen, agen):
        with pytest.raises(SignatureError, match="yield"):
            read(func)


def test_the_type_of_a_service_or_a_resource_may_be_there_for_type_checkers_only() -> None:
    def step(
        ev: A,
        tool: Absent[str, str],
        spare: Absent[str, str] | None = None,
        maker: Callable[[Absent[str, str]], int] = len,
        made: Annotated[Absent[str, str], Resource(make_tool)] = ...,  # type: ignore[assignment]
        *args: Absent[str, str],
    ) -> A | None: ...

    found = read(step)
    assert [(each.name, each.has_default) for each in found.requested_services] == [
        ("tool", False),
        ("spare", True),
        ("maker", True),
    ]
    assert [each.name for each in found.resources] == ["made"]
    assert found.accepted_events == [A]
    assert found.return_types == [A, NoneType]


def test_a_module_may_be_there_for_type_checkers_only() -> None:
    def step(ev: A, tool: Absent) -> None: ...  # type: ignore[type-arg]

    step.__annotations__["tool"] = "absent.tools.Tool[int] | None"
    assert [each.name for each in read(step).requested_services] == ["tool"]


def test_the_context_may_be_there_for_type_checkers_only() -> None:
    scope: dict[str, Any] = {"A": A, "State": State}
    source = "from __future__ import annotations\ndef step(ev: A, ctx: Context{}) -> None: ..."
    for written, state in ("", None), ("[State]", State), ("[State] | None", State):
        exec(source.format(written), scope)
        found = read(scope["step"])
        assert (found.context_parameter, found.context_state_type) == ("ctx", state)
        assert found.requested_services == []


def test_other_names_that_are_nowhere_are_named_with_their_place() -> None:
    def event(self: Any, ev: Absent[str, str]) -> A: ...  # type: ignore[type-var]
    def union(ev: A | Absent[str, str]) -> A: ...
    def state(ev: A, ctx: Context[Absent[str, str]]) -> A: ...
    def factory(ev: A, tool: Annotated[Tool, Resource(absent)]) -> A: ...  # type: ignore[name-defined]  # noqa: F821
    def returned(ev: A) -> list[Absent[str, str]] | None: ...
    def marker(ev: A, tool: Annotated[Tool, absent(make_tool)]) -> A: ...  # type: ignore[name-defined]  # noqa: F821

    for func, where in (
        (event, "the annotation of 'ev'"),
        (union, "the annotation of 'ev'"),
        (state, "the annotation of 'ctx'"),
        (factory, "the annotation of 'tool'"),
        (returned, "its return annotation"),
        (marker, "its annotations"),
    ):
        name = "absent" if func in (factory, marker) else "Absent"
        with pytest.raises(SignatureError) as caught:
            read(func)
        assert str(caught.value) == (
            f"Step {func.__name__!r}: the name {name!r} in {where} is not defined when the step is decorated:"
            " define or import it above, and not only under `if TYPE_CHECKING`"
        )
        assert caught.value.step == func.__name__


def test_what_typing_cached_for_another_module_is_not_taken() -> None:
    """`Optional["Name"]` is one object in all modules, and remembers what it was evaluated to."""
    source = "from typing import Optional\ndef step(ev: Optional['Same']) -> None: ..."
    found = []
    for _ in range(2):
        scope: dict[str, Any] = {"Same": type("Same", (Event,), {"__module__": __name__})}
        exec(source, scope)
        assert read(scope["step"]).accepted_events == [scope["Same"]]
        found.append(scope["Same"])
    assert found[0] is not found[1]


def test_a_broken_annotation_is_named() -> None:
    def broken(ev: A) -> A: ...

    broken.__annotations__["ev"] = "A ||"
    with pytest.raises(SignatureError, match="'broken'"):
        read(broken)
