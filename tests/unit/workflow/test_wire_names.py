from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, ValidationError

from stepwire.workflow.broker.ledger import has_fields
from stepwire.workflow.definition.schema import json_schema
from stepwire.workflow.events import Event, event_from_json, event_to_json
from stepwire.workflow.wire_names import field_name, misspelled, on_wire, wire_names


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
