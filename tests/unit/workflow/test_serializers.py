from __future__ import annotations

import base64
import contextlib
import json
import pickle
from typing import Any

import pytest
from pydantic import BaseModel, Field

from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import SerializationError, SnapshotError, UnknownTypeError
from stepwire.workflow.events import Event, StartEvent, StopEvent
from stepwire.workflow.state.serializers import (
    BaseSerializer,
    JsonSerializer,
    PickleSerializer,
    RegistrySerializer,
)


class Model(BaseModel):
    x: int = 0
    aliased: str = Field(default="d", alias="Aliased")


class Ping(Event):
    n: int


class Component:
    """What 1.x takes for a component."""

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def class_name(cls) -> str:
        return "Component"

    def to_dict(self) -> dict[str, Any]:
        return {"text": self.text}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Component:
        return cls(data["text"])


class Picklable:
    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picklable) and other.n == self.n

    __hash__ = None  # type: ignore[assignment]


class Trap:
    """Something whose unpickling is noticed."""

    sprung = False

    @classmethod
    def spring(cls) -> None:
        cls.sprung = True

    def __reduce__(self) -> Any:
        return (Trap.spring, ())


REGISTRY = TypeRegistry([Model, Ping, StartEvent, StopEvent, Event])
ALL: list[BaseSerializer] = [JsonSerializer(), PickleSerializer(), RegistrySerializer(REGISTRY)]
VALUES = [
    None,
    {"a": [1, (2, 3)], "$tuple": 1},
    {"format": "stepwire-json/1", "data": 1},
    {"__is_pydantic": True, "value": {}, "qualified_name": f"{__name__}.Model"},
    Ping(n=1, dynamic={1: b"x"}),
    [Model(x=3), StopEvent(result={Model: 1}.values().__len__())],
]


@pytest.mark.parametrize("serializer", ALL, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_s21_round_trip(serializer: BaseSerializer, value: Any) -> None:
    text = serializer.serialize(value)
    assert json.loads(text)["format"] == "stepwire-json/1"
    assert serializer.deserialize(text) == value
    assert type(serializer.deserialize(text)) is type(value)


def test_s22_json_names_classes_by_module() -> None:
    assert f"{__name__}.Ping" in JsonSerializer().serialize(Ping(n=1))
    assert __name__ not in RegistrySerializer(REGISTRY).serialize(Ping(n=1))


@pytest.mark.parametrize("serializer", ALL, ids=lambda each: type(each).__name__)
def test_s21_json_of_1x_is_read(serializer: BaseSerializer) -> None:
    def model(name: str, value: Any) -> dict[str, Any]:
        return {"__is_pydantic": True, "value": value, "qualified_name": name}

    payload = {
        "plain": [1, None, {"x": "y"}],
        "model": model(f"{__name__}.Model", {"x": 3, "aliased": "a"}),
        "event": model(f"{__name__}.Ping", {"n": 1, "_data": {"k": "v"}}),
        "own": [model("llama_index.core.workflow.events.StopEvent", {"result": 5})],
    }
    back = serializer.deserialize(json.dumps(payload))
    if isinstance(serializer, RegistrySerializer):
        assert type(back["own"][0]) is StopEvent
    assert back == {
        "plain": [1, None, {"x": "y"}],
        "model": Model(x=3, Aliased="a"),
        "event": Ping(n=1, k="v"),
        "own": [StopEvent(result=5)],
    }
    assert serializer.deserialize("5") == 5


def test_components_in_process_only() -> None:
    payload = json.dumps(
        {
            "__is_component": True,
            "value": {"text": "t"},
            "qualified_name": f"{__name__}.Component",
        }
    )
    assert JsonSerializer().deserialize(payload).text == "t"
    again = JsonSerializer().serialize({"c": Component("u")})
    assert JsonSerializer().deserialize(again)["c"].text == "u"
    for text in (payload, again):
        with pytest.raises(SnapshotError):
            RegistrySerializer(REGISTRY).deserialize(text)
    with pytest.raises(SerializationError):
        RegistrySerializer(REGISTRY).serialize(Component("t"))


def test_s22_the_registry_serializer_never_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    serializer = RegistrySerializer(REGISTRY)

    def refuse(name: str, package: str | None = None) -> Any:
        raise AssertionError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    for name in ("antigravity.Thing", "subprocess.Popen", f"{__name__}.Component"):
        for payload in (
            {"__is_pydantic": True, "value": {}, "qualified_name": name},
            {"format": "stepwire-json/1", "data": {"$model": [name, {}]}},
            {"format": "stepwire-json/1", "data": {"$enum": [name, "X"]}},
        ):
            with pytest.raises(UnknownTypeError):
                serializer.deserialize(json.dumps(payload))


def test_s22_json_in_process_builds_models_only() -> None:
    for name in ("subprocess.Popen", "builtins.dict", f"{__name__}.Trap"):
        for payload in (
            {"__is_pydantic": True, "value": {}, "qualified_name": name},
            {"format": "stepwire-json/1", "data": {"$model": [name, {}]}},
        ):
            with pytest.raises(SnapshotError):
                JsonSerializer().deserialize(json.dumps(payload))


def test_s22_pickle_is_tagged_and_the_second_choice() -> None:
    serializer = PickleSerializer()
    value = {"p": Picklable(1), "m": Model(x=2)}
    text = serializer.serialize(value)
    assert text.startswith("stepwire-pickle/1:")
    assert serializer.deserialize(text) == value
    assert json.loads(serializer.serialize({"m": Model(x=2)}))
    with pytest.raises(SnapshotError):
        JsonSerializer().deserialize(text)
    with pytest.raises(SnapshotError):
        RegistrySerializer(REGISTRY).deserialize(text)
    with pytest.raises(SerializationError):
        serializer.serialize(lambda: None)


def test_s22_pickle_never_decodes_what_it_did_not_tag() -> None:
    raw = pickle.dumps(Trap())
    untagged = base64.b64encode(raw).decode()
    for text in (untagged, " stepwire-pickle/1:" + untagged, json.dumps(untagged)):
        with contextlib.suppress(SnapshotError):
            PickleSerializer().deserialize(text)
    assert not Trap.sprung
    PickleSerializer().deserialize("stepwire-pickle/1:" + untagged)
    assert Trap.sprung


@pytest.mark.parametrize("serializer", ALL, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "nope",
        "[" * 100_000,
        '{"format":"stepwire-json/9","data":1}',
        '{"format":"stepwire-json/1","data":{"$what":1}}',
        f'{{"__is_pydantic":true,"value":{{"x":"no"}},"qualified_name":"{__name__}.Model"}}',
        f'{{"__is_pydantic":true,"value":5,"qualified_name":"{__name__}.Model"}}',
        "stepwire-pickle/1:*",
        "stepwire-pickle/1:AAAA",
    ],
    ids=range(9),
)
def test_s21_other_text_is_a_snapshot_error(serializer: BaseSerializer, text: str) -> None:
    with pytest.raises(SnapshotError):
        serializer.deserialize(text)


def test_s21_what_cannot_be_saved_is_named() -> None:
    with pytest.raises(SerializationError) as caught:
        JsonSerializer().serialize({"a": {"b": object()}})
    assert caught.value.keys == ("a.b",)
