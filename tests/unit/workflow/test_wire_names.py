from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    create_model,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from stepwire.workflow.broker.ledger import has_fields
from stepwire.workflow.definition.schema import json_schema
from stepwire.workflow.events import Event, event_from_json, event_to_json
from stepwire.workflow.state.store import InMemoryStateStore
from stepwire.workflow.wire_names import field_name, misspelled, on_wire, wire_names
from stepwire.workflow.wire_schemas import wire_assigner, wire_validator


class Line(BaseModel):
    unit_price: int = Field(default=1, validation_alias="unitPrice")


class Order(Event):
    order_id: int = Field(alias="orderId")
    read_as: int = Field(default=1, validation_alias="readAs")
    written_as: int = Field(default=2, serialization_alias="writtenAs")
    either: int = Field(default=3, validation_alias=AliasChoices(AliasPath("deep", 0), "oneWay", "otherWay"))
    plain: int = 4
    lines: list[Line] = Field(default_factory=list)


class Generated(Event):
    model_config = ConfigDict(alias_generator=lambda name: name.upper())
    first: int = 1


@pytest.mark.parametrize("cls", [Order, Generated, Event])
def test_the_wire_has_the_names_of_the_schema(cls: type[Event]) -> None:
    event = event_from_json(cls, b'{"orderId":1,"lines":[{}]}' if cls is Order else b"{}")
    written = json.loads(event_to_json(event))
    schema = json_schema(cls)
    assert written.keys() == schema.get("properties", {}).keys()
    for line in written.get("lines", ()):
        assert line.keys() == schema["$defs"]["Line"]["properties"].keys()
    assert event_from_json(cls, event_to_json(event)) == event


def test_a_field_can_be_given_by_its_own_name_too() -> None:
    assert event_from_json(Order, b'{"order_id":1,"read_as":5,"lines":[{"unit_price":9}]}') == event_from_json(
        Order, b'{"orderId":1,"readAs":5,"lines":[{"unitPrice":9}]}'
    )


@pytest.mark.parametrize("name", ["orderid", "OrderId", "order-id", "ORDER_ID", "order_id"])
def test_another_spelling_is_refused_beside_the_field(name: str) -> None:
    data = json.dumps({"orderId": 1, name: 2}).encode()
    with pytest.raises(ValidationError) as caught:
        event_from_json(Order, data)
    assert [(each["type"], each["loc"]) for each in caught.value.errors()] == [("extra_forbidden", (name,))]


def test_fields_without_an_alias_leave_dynamic_fields_alone() -> None:
    event = event_from_json(Order, b'{"orderId":1,"Plain":2,"pla_in":3}')
    assert event.to_dict() == {"Plain": 2, "pla_in": 3}


def test_an_author_who_gives_an_aliased_field_by_name_is_told() -> None:
    class Reply(Event):
        is_ok: bool = Field(default=False, alias="isOk")

    class Either(Reply):
        model_config = ConfigDict(populate_by_name=True)

    assert Reply(isOk=True).is_ok
    with pytest.raises(ValidationError, match="is_ok"):
        Reply(is_ok=True)  # type: ignore[call-arg]
    assert Either(is_ok=True).is_ok
    assert Either(isOk=True).is_ok


def test_requirements_go_by_either_name() -> None:
    event = Order(orderId=7, extra="e")
    for fields in ({"orderId": 7}, {"order_id": 7}, {"orderId": 7, "extra": "e"}):
        assert has_fields(event, fields)
    for fields in ({"orderId": 8}, {"orderid": 7}, {"other": 1}):
        assert not has_fields(event, fields)
    assert on_wire(Order, {"order_id": 7, "plain": 1, "extra": 2}) == {"orderId": 7, "plain": 1, "extra": 2}


def test_names() -> None:
    assert wire_names(Order) == {"order_id": "orderId", "read_as": "readAs", "either": "oneWay"}
    assert [field_name(Order, key) for key in ("orderId", "order_id", "oneWay", "plain", "x")] == [
        "order_id",
        "order_id",
        "either",
        "plain",
        None,
    ]
    assert misspelled(Order, ["one-way", "plain", "x"]) == ["one-way"]
    nothing: dict[str, Any] = {}
    assert wire_names(Event) == nothing


# -- inside other values ------------------------------------------------------------------------------------------

T = TypeVar("T")


class Inside(BaseModel):
    unit_price: int = Field(default=1, alias="unitPrice")


class Allowing(Inside):
    model_config = ConfigDict(extra="allow")


class Tagged(Inside):
    kind: Literal["inside"] = "inside"


class Other(BaseModel):
    kind: Literal["other"] = "other"


class Box(BaseModel, Generic[T]):
    content: T


class Tree(BaseModel):
    unit_price: int = Field(default=1, alias="unitPrice")
    parts: list[Tree] = Field(default_factory=list)


class Many(RootModel[list[Inside]]):
    pass


class Derived(Event):
    unit_price: int = Field(default=1, alias="unitPrice")


@pydantic_dataclass
class Record:
    unit_price: int = Field(default=1, alias="unitPrice")


@dataclass
class Standard:
    unit_price: Annotated[int, Field(alias="unitPrice")] = 1


class Typed(TypedDict, total=False):
    unit_price: Annotated[int, Field(alias="unitPrice")]


def same(value: Any) -> Any:
    return value


BAD: dict[str, Any] = {"UnitPrice": 5}
POSITIONS: list[tuple[Any, Any, tuple[str | int, ...]]] = [
    (Inside, BAD, ()),
    (Allowing, BAD, ()),
    (Inside | None, BAD, ()),
    (list[Inside], [{}, BAD], (1,)),
    (tuple[Inside, ...], [BAD], (0,)),
    (tuple[int, Inside], [1, BAD], (1,)),
    (dict[str, Inside], {"key": BAD}, ("key",)),
    (dict[str, list[Inside | None]], {"key": [None, BAD]}, ("key", 1)),
    (Annotated[Tagged | Other, Field(discriminator="kind")], {"kind": "inside", **BAD}, ("inside",)),
    (Box[Inside], {"content": BAD}, ("content",)),
    (Tree, {"parts": [{"parts": [BAD]}]}, ("parts", 0, "parts", 0)),
    (Many, [BAD], (0,)),
    (Derived, BAD, ()),
    (Record, BAD, ()),
    (Standard, BAD, ()),
    (Typed, BAD, ()),
    (Annotated[Inside, AfterValidator(same)], BAD, ()),
    (Annotated[Inside, BeforeValidator(same)], BAD, ()),
]

NAMES = [re.sub(r" at 0x\w+", "", str(kind)) for kind, _, _ in POSITIONS]
"""The tests' names: the same in every process, without addresses."""


def holder(kind: Any) -> tuple[type[Event], type[BaseModel]]:
    class Holds(Event):
        held: kind | None = None
        default: Inside = Field(default_factory=Inside)

    class State(BaseModel):
        held: kind | None = None

    return Holds, State


@pytest.mark.parametrize(("kind", "value", "path"), POSITIONS, ids=NAMES)
async def test_another_spelling_is_refused_wherever_the_field_is(
    kind: Any, value: Any, path: tuple[str | int, ...]
) -> None:
    cls, state = holder(kind)
    expected = [("extra_forbidden", ("held", *path, "UnitPrice"))]
    store: InMemoryStateStore[Any] = InMemoryStateStore(state())
    with pytest.raises(ValidationError) as of_event:
        event_from_json(cls, json.dumps({"held": value}))
    with pytest.raises(ValidationError) as of_state:
        wire_validator(state).validate_python({"held": value}, by_alias=True, by_name=True)
    with pytest.raises(ValidationError) as of_path:
        await store.set("held", value)
    for caught in (of_event, of_state, of_path):
        assert [(each["type"], each["loc"]) for each in caught.value.errors()] == expected


@pytest.mark.parametrize(("kind", "value", "path"), POSITIONS, ids=NAMES)
@pytest.mark.parametrize("name", ["unitPrice", "unit_price", "else"])
def test_what_is_no_misspelling_is_as_before(kind: Any, value: Any, path: tuple[str | int, ...], name: str) -> None:
    cls, _ = holder(kind)
    data = json.dumps({"held": value}).replace("UnitPrice", name)
    if name == "else" and kind is Typed:
        data = json.dumps({"held": {"else": 5}})
    read = event_from_json(cls, data)
    assert read == cls.__pydantic_validator__.validate_json(data, by_alias=True, by_name=True)
    assert type(read.held) is type(cls.__pydantic_validator__.validate_json(data, by_alias=True, by_name=True).held)


def test_a_union_takes_the_member_that_fits() -> None:
    class Spelled(BaseModel):
        UnitPrice: int

    class Holds(Event):
        held: Inside | Spelled

    assert event_from_json(Holds, b'{"held":{"UnitPrice":5}}').held == Spelled(UnitPrice=5)


def test_bytes_and_dates_inside_are_read_as_json() -> None:
    class Letter(BaseModel):
        model_config = ConfigDict(val_json_bytes="base64")
        sent_at: datetime = Field(alias="sentAt")
        body: bytes

    class Holds(Event):
        letter: Letter

    read = event_from_json(Holds, b'{"letter":{"sentAt":"2026-01-01T00:00:00Z","body":"aGk="}}').letter
    assert (read.body, read.sent_at.year) == (b"hi", 2026)


def test_a_model_without_aliases_is_validated_by_pydantics_own() -> None:
    class Plain(BaseModel):
        first: Box[int]

    assert wire_validator(Plain) is Plain.__pydantic_validator__
    assert wire_assigner(Plain) is Plain.__pydantic_validator__


async def test_dynamic_fields_that_are_there_already_do_not_hinder_a_set() -> None:
    state = Allowing(UNIT_PRICE=1)
    store: InMemoryStateStore[Any] = InMemoryStateStore(state)
    await store.set("unitPrice", 7)
    assert await store.get("unit_price") == 7


@pytest.mark.parametrize("name", ["default", "config", "type", "function", "cls"])
def test_fields_that_are_called_like_parts_of_a_schema(name: str) -> None:
    class Part(BaseModel):
        model_config = ConfigDict(protected_namespaces=())
        unit_price: int = Field(default=1, validation_alias="unitPrice", serialization_alias="price")

    fields: dict[str, Any] = {name: (Part, ...)}
    cls = create_model("Holds", __base__=Event, **fields)
    assert json.loads(event_to_json(event_from_json(cls, json.dumps({name: {"unitPrice": 2}})))) == {
        name: {"unitPrice": 2}
    }
    with pytest.raises(ValidationError):
        event_from_json(cls, json.dumps({name: BAD}))


def test_a_field_that_is_read_from_a_path_is_written_by_its_name() -> None:
    class Deep(Event):
        either: int = Field(default=3, validation_alias=AliasPath("deep", 0))

    assert json.loads(event_to_json(event_from_json(Deep, b'{"deep":[5]}'))) == {"either": 5}
