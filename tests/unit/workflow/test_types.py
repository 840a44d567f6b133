from __future__ import annotations

import dataclasses
import enum
import json
import sys
import types
from collections.abc import Iterator
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from stepwire.workflow import events as engine_events
from stepwire.workflow.codec.names import QualifiedNames
from stepwire.workflow.decorators import step
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import (
    SerializationError,
    UnknownTypeError,
    WorkflowConfigurationError,
)
from stepwire.workflow.events import Event, StartEvent, StopEvent

T = TypeVar("T")


class Opaque:
    pass


class Deep(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    opaque: Opaque | None = None


class Kind(enum.Enum):
    A = 1


class Shape(TypedDict):
    deep: Deep


class Tree(BaseModel):
    kind: Kind
    children: list[Tree] = []
    shapes: dict[str, Annotated[Shape | None, "note"]] = {}
    literal: Literal["x"] = "x"


class Go(StartEvent):
    tree: Tree


class Done(StopEvent):
    pass


class Middle(Event):
    pass


class Flow:
    @step
    async def first(self, ev: Go | Middle) -> Done | Middle | None:
        return None


def steps_of(cls: type) -> dict[str, Any]:
    return {name: value for name, value in vars(cls).items() if hasattr(value, "__step_config")}


def flow_class(module: str, **attributes: Any) -> type:
    return type("Other", (), {"__module__": module, **attributes})


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module of its own for the workflow class, so that its globals are the test's to choose."""
    made = types.ModuleType("tests_types_module")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def test_types_of_signatures_and_their_fields(module: types.ModuleType) -> None:
    registry = TypeRegistry.of(flow_class(module.__name__), steps_of(Flow))
    for cls in (Go, Done, Middle, Tree, Kind, Deep):
        assert registry.lookup(cls.__name__) is cls
        assert registry.name_of(cls) == cls.__name__
    assert "Opaque" not in registry
    assert "Unused" not in registry


def test_the_engines_own_events_are_always_there(module: types.ModuleType) -> None:
    registry = TypeRegistry.of(flow_class(module.__name__), {})
    own = {name for name in engine_events.__all__ if name[0].isupper()}
    assert own | {"DictState"} == set(registry)
    assert registry.lookup("StopEvent") is StopEvent
    assert set(registry.events()) == own


def test_globals_of_the_workflows_module(module: types.ModuleType) -> None:
    class Found(BaseModel):
        inner: Deep

    vars(module).update(
        Found=Found,
        _Private=Tree,
        BaseModel=BaseModel,
        Enum=enum.Enum,
        IntEnum=enum.IntEnum,
        alias=Kind,
        function=lambda: None,
        value=Found(inner=Deep()),
        generic=list[int],
    )
    registry = TypeRegistry.of(flow_class(module.__name__), {})
    assert {"Found", "Deep", "Kind"} <= set(registry)
    assert not {"Tree", "BaseModel", "Enum", "IntEnum", "_Private", "alias"} & set(registry)


def test_types_attribute(module: types.ModuleType) -> None:
    registry = TypeRegistry.of(flow_class(module.__name__, types=[Tree]), {})
    assert {"Tree", "Kind", "Deep"} <= set(registry)
    with pytest.raises(WorkflowConfigurationError, match="types"):
        TypeRegistry.of(flow_class(module.__name__, types=[int]), {})


def test_parametrized_generics_have_a_name_each(module: types.ModuleType) -> None:
    class Crate(BaseModel, Generic[T]):
        item: T

    class Carry(Event):
        one: Crate[int]
        two: Crate[Deep]

    registry = TypeRegistry.of(flow_class(module.__name__, types=[Carry]), {})
    assert registry.lookup("Crate[int]") is Crate[int]
    assert registry.lookup("Deep") is Deep


def test_a_clash_names_both_classes(module: types.ModuleType) -> None:
    class Kind(BaseModel):
        pass

    module.Kind = Kind  # type: ignore[attr-defined]
    with pytest.raises(WorkflowConfigurationError) as caught:
        TypeRegistry.of(flow_class(module.__name__), steps_of(Flow))
    assert f"{__name__}.Kind" in str(caught.value)
    assert "<locals>.Kind" in str(caught.value)


class Invoice(Event):
    class Line(BaseModel):
        cents: int = 0

    lines: list[Line]


class Delivery(Event):
    class Line(BaseModel):
        pieces: int = 0

    lines: list[Line]


class Invoicing:
    @step
    async def work(self, ev: Go | Invoice) -> Done | None:
        return None


class Both:
    @step
    async def work(self, ev: Go | Invoice | Delivery) -> Done | None:
        return None


def test_nested_classes_of_one_name_matter_only_where_both_are_used(module: types.ModuleType) -> None:
    vars(module).update(Invoice=Invoice, Delivery=Delivery)
    neither = TypeRegistry.of(flow_class(module.__name__), steps_of(Flow))
    assert neither.name_of(Invoice.Line) == "Invoice.Line"
    assert neither.name_of(Delivery.Line) == "Delivery.Line"
    one = TypeRegistry.of(flow_class(module.__name__), steps_of(Invoicing))
    assert one.name_of(Invoice.Line) == "Line"
    assert one.name_of(Delivery.Line) == "Delivery.Line"
    for registry in neither, one:
        for cls in Invoice.Line, Delivery.Line:
            assert registry.lookup(registry.name_of(cls)) is cls
    with pytest.raises(WorkflowConfigurationError, match=r"'Line'.*Invoice\.Line.*Delivery\.Line|'Line'.*Delivery"):
        TypeRegistry.of(flow_class(module.__name__), steps_of(Both))


def test_a_class_of_the_module_does_not_take_the_name_of_one_that_is_used(module: types.ModuleType) -> None:
    Line = type("Line", (BaseModel,), {"__module__": module.__name__, "__qualname__": "Line"})  # noqa: N806
    vars(module).update(Line=Line)
    registry = TypeRegistry.of(flow_class(module.__name__), steps_of(Invoicing))
    assert registry.lookup("Line") is Invoice.Line
    assert registry.lookup(f"{module.__name__}.Line") is Line


@dataclasses.dataclass
class Seat:
    kinds: list[Kind]


class Row(NamedTuple):
    seats: list[Seat]


class Booked(Event):
    rows: dict[str, Row]


@dataclasses.dataclass
class Loose:
    pass


def test_dataclasses_and_named_tuples_have_names_that_no_client_sees(module: types.ModuleType) -> None:
    other = type("Seat", (Seat,), {"__module__": module.__name__, "__qualname__": "Seat"})
    vars(module).update(Loose=Loose, Seat=other)
    registry = TypeRegistry.of(flow_class(module.__name__, types=[Booked]), {})
    for cls in Seat, Row, Loose, other:
        assert registry.lookup(registry.name_of(cls)) is cls
    assert registry.name_of(Seat) == "@Seat"
    assert registry.name_of(other) == f"@{module.__name__}.Seat"
    assert not {"Seat", "Row", "Loose", "@Seat"} & set(registry)
    assert "Kind" in registry
    with pytest.raises(UnknownTypeError):
        registry.lookup("Seat")


def test_unknown_names_and_classes() -> None:
    registry = TypeRegistry([Deep])
    with pytest.raises(UnknownTypeError) as caught:
        registry.lookup("os.system")
    assert caught.value.type_name == "os.system"
    with pytest.raises(SerializationError, match="Tree"):
        registry.name_of(Tree)


def test_schema_digest_follows_the_shapes() -> None:
    def make(annotation: Any, default: Any) -> type[BaseModel]:
        return type(
            "Made",
            (BaseModel,),
            {
                "__annotations__": {"x": annotation},
                "x": default,
                "model_config": ConfigDict(arbitrary_types_allowed=True),
            },
        )

    digest = TypeRegistry([make(int, 1)]).schema_digest()
    assert digest == TypeRegistry([make(int, 1)]).schema_digest()
    assert len(bytes.fromhex(digest)) == 32
    others = {
        TypeRegistry([make(str, "1")]).schema_digest(),
        TypeRegistry([make(int, 2)]).schema_digest(),
        TypeRegistry([make(Opaque, Opaque())]).schema_digest(),
        TypeRegistry([make(int, 1), Kind]).schema_digest(),
        digest,
    }
    assert len(others) == 5
    assert TypeRegistry([Deep, Tree, Kind]).schema_digest() == TypeRegistry([Kind, Tree, Deep]).schema_digest()


def test_json_schema() -> None:
    registry = TypeRegistry([Tree, Kind, Deep])
    schema = registry.json_schema("Tree")
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$ref"] == "#/$defs/Tree"
    assert registry.json_schema("Kind") == {"title": "Kind", "enum": [1]}
    assert "opaque" in registry.json_schema("Deep")["properties"]


def test_s22_qualified_names_lead_back_or_are_refused() -> None:
    names = QualifiedNames()
    assert names.lookup(names.name_of(Tree)) is Tree
    assert names.name_of(Tree) == f"{__name__}.Tree"

    class Local(BaseModel):
        pass

    with pytest.raises(SerializationError, match="Local"):
        names.name_of(Local)
    for name in ("", ".", "Tree", "no_such_module.Tree", f"{__name__}.Nope", f"{__name__}.steps_of"):
        with pytest.raises(UnknownTypeError):
            names.lookup(name)


class Outer(BaseModel):
    class Nested(BaseModel):
        x: int


def test_qualified_names_of_nested_classes() -> None:
    names = QualifiedNames()
    assert names.lookup(names.name_of(Outer.Nested)) is Outer.Nested
