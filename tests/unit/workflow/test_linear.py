"""Saving and loading cost what the size of a value says, whatever its shape: counted in calls, not in time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, GetCoreSchemaHandler, RootModel
from pydantic_core import core_schema

from stepwire.workflow.codec.decoder import decode
from stepwire.workflow.codec.encoder import encode
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.state.store import InMemoryStateStore


class Mark:
    """Has no tag: its class writes and reads it, in Python, so that what pydantic does is counted too."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mark) and other.name == self.name

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._read,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda mark: mark.name),
        )

    @classmethod
    def _read(cls, value: object) -> Mark:
        if isinstance(value, Mark):
            return value
        if not isinstance(value, str):
            raise ValueError("not a mark")
        return Mark(value)


class Unsaved:
    """Has neither tag nor JSON."""


class Before(BaseModel):
    children: list[Any] = Field(default_factory=list)
    mark: Mark


class After(BaseModel):
    mark: Mark
    children: list[Any] = Field(default_factory=list)


class Keyed(BaseModel):
    below: dict[Mark, Keyed] = Field(default_factory=dict)


class Beside(BaseModel):
    items: list[Beside | Mark] = Field(default_factory=list)


class Rooted(RootModel[list["Rooted | Mark"]]):
    pass


class Plain(BaseModel):
    inner: Any = None
    numbers: set[int] = Field(default_factory=lambda: {1, 2})


NAMES = TypeRegistry([Before, After, Keyed, Beside, Rooted, Plain])
MARK = Mark("m")
AROUND: dict[str, Callable[[Any], Any]] = {
    "before": lambda value: Before(children=[value], mark=Mark("b")),
    "after": lambda value: After(mark=Mark("a"), children=[value]),
    "plain": lambda value: Plain(inner=value),
    "list": lambda value: [value, 1],
    "pairs": lambda value: {1: value, (2, 3): None},
    "set": lambda value: Plain(inner=[value, {frozenset({1}), frozenset({2})}]),
}
WITHIN: dict[str, Callable[[Any], Any]] = {
    "keyed": lambda value: Keyed(below={MARK: value or Keyed()}),
    "beside": lambda value: Beside(items=[value or Beside(), MARK]),
    "beside before": lambda value: Beside(items=[MARK, value or Beside()]),
    "rooted": lambda value: Rooted([value or Rooted([]), MARK]),
}


def calls(function: Callable[[], Any]) -> int:
    """Return how many functions are called, in Python and in C."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def cost(value: Any) -> int:
    """Count the calls of saving and loading a value, or of refusing it. What is made once for each class is there."""

    def use() -> None:
        try:
            data = encode(value, NAMES)
        except SerializationError:
            return
        for validate in True, False:
            decode(data, NAMES, validate=validate)

    use()
    return calls(use)


def nested(around: list[Callable[[Any], Any]], times: int, innermost: Any) -> Any:
    value = innermost
    for _ in range(times):
        for each in around:
            value = each(value)
    return value


def assert_linear(build: Callable[[int], Any], small: int) -> None:
    one, two, four = (cost(build(small * factor)) for factor in (1, 2, 4))
    # Linear: the second step, which adds twice as much, costs twice as much.
    assert four - two <= 2.2 * (two - one) + 50


@settings(max_examples=60, deadline=None)
@given(
    around=st.lists(st.sampled_from(sorted(AROUND)), min_size=1, max_size=3),
    innermost=st.sampled_from([None, MARK, Unsaved()]),
)
def test_any_nesting_is_linear(around: list[str], innermost: Any) -> None:
    assert_linear(lambda times: nested([AROUND[name] for name in around], times, innermost), 2)


@pytest.mark.parametrize("name", ["keyed", "beside", "beside before", "rooted"])
def test_they_can_be_saved(name: str) -> None:
    value = nested([WITHIN[name]], 3, None)
    assert decode(encode(value, NAMES), NAMES) == value


@pytest.mark.parametrize("name", WITHIN)
@pytest.mark.parametrize("outer", ["list", "plain", "before"])
def test_classes_that_hold_themselves_beside_what_has_no_tag_are_linear(name: str, outer: str) -> None:
    assert_linear(lambda times: AROUND[outer](nested([WITHIN[name]], times, None)), 6)


@pytest.mark.parametrize("name", ["after", "before"])
def test_what_is_refused_deep_inside_is_refused_in_linear_time(name: str) -> None:
    def build(times: int) -> Any:
        return nested([AROUND[name]], times, Unsaved())

    with pytest.raises(SerializationError):
        encode(build(2), NAMES)
    assert_linear(build, 4)


@pytest.mark.parametrize("name", [*AROUND, *WITHIN])
def test_width_is_linear(name: str) -> None:
    make = {**AROUND, **WITHIN}[name]
    assert_linear(lambda times: [make(None) for _ in range(times)], 20)


def test_many_fields_without_a_tag_are_linear() -> None:
    def build(number: int) -> Any:
        fields = {f"f{n}": Mark(str(n)) for n in range(number)}
        cls = type("Wide", (BaseModel,), {"__annotations__": dict.fromkeys(fields, Mark)})
        wide = cls(**fields)
        names = TypeRegistry([cls])
        decode(encode(wide, names), names)
        return lambda: decode(encode(wide, names), names)

    one, two, four = (calls(build(number)) for number in (20, 40, 80))
    assert four - two <= 2.2 * (two - one) + 50


async def test_an_edit_is_linear() -> None:
    class Node(BaseModel):
        inner: Any = None
        tags: list[str] = Field(default_factory=list)

    class Tree(BaseModel):
        root: Any = None

    async def count(depth: int) -> int:
        leaf = tree = Node()
        for _ in range(depth):
            tree = Node(inner=[tree], tags=["a"])
        store = InMemoryStateStore(Tree(root=tree))
        edit = store.edit_state()
        state = await edit.__aenter__()
        node = state.root
        while node.inner:
            node = node.inner[0]
        node.tags.append("changed")
        total = 0

        def note(frame: object, event: str, argument: object) -> None:
            nonlocal total
            total += event in ("call", "c_call")

        sys.setprofile(note)
        try:
            await edit.__aexit__(None, None, None)
        finally:
            sys.setprofile(None)
        assert leaf.tags == []
        return total

    await count(1)
    one, two, four = [await count(depth) for depth in (10, 20, 40)]
    assert four - two <= 2.2 * (two - one) + 50
