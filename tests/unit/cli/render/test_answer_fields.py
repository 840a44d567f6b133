"""The fields of an answer, and what is typed for them."""

from __future__ import annotations

from typing import Any

import pytest

from stepwire.cli.render.answer_fields import Field, fields_of, parse

SCHEMA: dict[str, Any] = {
    "$defs": {"Colour": {"enum": ["red", "blue"], "type": "string"}, "Box": {"type": "object"}},
    "properties": {
        "id": {"type": "string"},
        "ok": {"type": "boolean"},
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "colour": {"$ref": "#/$defs/Colour"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "box": {"allOf": [{"$ref": "#/$defs/Box"}]},
        "list": {"type": "array"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "note": {"type": "string", "default": "none"},
    },
    "required": ["id", "ok", "n", "x", "colour", "maybe", "box", "list", "either"],
}


def test_fields_to_ask() -> None:
    fields = {field.name: field for field in fields_of(SCHEMA, {"id"})}
    assert {name: field.kind for name, field in fields.items()} == {
        "ok": "boolean",
        "n": "integer",
        "x": "number",
        "colour": "choice",
        "maybe": "integer",
        "box": "json",
        "list": "json",
        "either": "any",
    }
    assert fields["colour"].choices == ("red", "blue")
    assert fields["maybe"].nullable
    optional = fields_of(SCHEMA, SCHEMA["required"])
    assert [(field.name, field.required, field.default) for field in optional] == [("note", False, "none")]


def test_fields_of_events_without_any() -> None:
    assert fields_of({"type": "object"}) == [Field("response")]
    assert fields_of({"type": "object"}, {"id"}) == [Field("response", required=False)]
    assert fields_of({"type": "object"}, {"response"}) == []
    node = {"$defs": {"Node": {"properties": {"n": {"$ref": "#/$defs/Node"}}}}, "$ref": "#/$defs/Node"}
    assert [field.name for field in fields_of(node)] == ["n"]
    endless = {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}
    assert fields_of(endless) == [Field("response")]


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        (Field("f"), "two words ", "two words "),
        (Field("f"), "5", "5"),
        (Field("f"), '""', ""),
        (Field("f", "boolean"), " Yes ", True),
        (Field("f", "boolean"), "0", False),
        (Field("f", "integer"), "-3", -3),
        (Field("f", "number"), "1.5", 1.5),
        (Field("f", "json"), "[1]", [1]),
        (Field("f", "any"), "x", "x"),
        (Field("f", "any"), "3", 3),
        (Field("f", "choice", choices=("red", "blue")), "b", "blue"),
        (Field("f", "choice", choices=(1, 2)), "2", 2),
        (Field("f", "integer", nullable=True), "", None),
    ],
)
def test_what_is_typed(field: Field, text: str, expected: Any) -> None:
    found = parse(field, text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (Field("f"), ""),
        (Field("f", "boolean"), "perhaps"),
        (Field("f", "integer"), "1.5"),
        (Field("f", "number"), "true"),
        (Field("f", "number"), "NaN"),
        (Field("f", "json"), "x"),
        (Field("f", "choice", choices=("red", "rose")), "r"),
    ],
)
def test_what_may_not_be_typed(field: Field, text: str) -> None:
    with pytest.raises(ValueError, match=r"type|needed"):
        parse(field, text)
