"""What is written of a state, and read again."""

from __future__ import annotations

import json
import threading
import warnings
from typing import Any

import pytest
from tests.unit.workflow.stores import Hooks, Part, Required, Typed, plain

from stepwire.workflow.errors import (
    ContextSerdeError,
    SerializationError,
    SnapshotError,
)
from stepwire.workflow.state.serializers import JsonSerializer, PickleSerializer
from stepwire.workflow.state.store import (
    DictState,
    InMemoryStateStore,
    UnserializableKeyWarning,
)


def test_values_and_load_values_round_trip() -> None:
    typed = InMemoryStateStore(Typed(count=1, names=["a"], part=Part(n=2)))
    loaded = InMemoryStateStore(Typed())
    loaded.load_values(typed.values(), validate=True)
    assert loaded.values() == typed.values()
    required = InMemoryStateStore(Required(needed=1))
    required.load_values({"needed": "not a number", "other": 1}, validate=False)
    assert required.values()["needed"] == "not a number"
    for values in ({"needed": "x", "other": 1}, {"other": 1}):
        with pytest.raises(SnapshotError, match="needed"):
            required.load_values(values, validate=True)
    with pytest.raises(SnapshotError, match="needed"):
        required.load_values({"other": 1}, validate=False)
    dynamic = plain(old=1)
    hooks = Hooks(dynamic)
    dynamic.load_values({"items": [1], "$x": {1: 2}}, validate=True)
    assert dynamic.values() == {"items": [1], "$x": {1: 2}}
    assert (hooks.checks, hooks.changes) == ([], [])


@pytest.mark.parametrize("serializer", [JsonSerializer(), PickleSerializer()])
async def test_to_dict_and_from_dict(serializer: Any) -> None:
    store = plain(a={"b": (1, 2)}, items=Part(n=1))
    data = json.loads(json.dumps(store.to_dict(serializer)))
    assert (data["state_type"], data["state_module"]) == ("DictState", "stepwire.workflow.state.store")
    assert data["state_data"]["_data"].keys() == {"a", "items"}
    assert InMemoryStateStore.from_dict(data, serializer).values() == store.values()

    typed = InMemoryStateStore(Typed(count=1, names=["a"]))
    data = json.loads(json.dumps(typed.to_dict(serializer)))
    assert (data["state_type"], data["state_module"]) == ("Typed", Typed.__module__)
    back = InMemoryStateStore.from_dict(data, serializer)
    assert await back.get_state() == await typed.get_state()
    assert InMemoryStateStore.from_dict({}, serializer).state_type is DictState


def test_s21_to_dict_names_every_key_that_cannot_be_saved() -> None:
    store = plain(ok=1, first=threading.Lock(), second={"x": threading.Lock()})
    for serializer in (JsonSerializer(), PickleSerializer()):
        with pytest.raises(SerializationError) as caught:
            store.to_dict(serializer)
        assert caught.value.keys == ("first", "second")
        assert isinstance(caught.value, ValueError)


def test_known_unserializable_keys_are_left_out_with_a_warning() -> None:
    store = plain(memory=threading.Lock(), ok=1)
    with pytest.warns(UnserializableKeyWarning, match="memory"):
        data = store.to_dict(JsonSerializer())
    assert data["state_data"]["_data"].keys() == {"ok"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "memory" in plain(memory=[1]).to_dict(JsonSerializer())["state_data"]["_data"]


def test_state_of_1x_is_read() -> None:
    data = {
        "state_data": {"_data": {"a": "1", "b": '{"x": [null]}'}},
        "state_type": "DictState",
        "state_module": "workflows.context.state_store",
    }
    store = InMemoryStateStore.from_dict(data, JsonSerializer())
    assert store.values() == {"a": 1, "b": {"x": [None]}}
    typed = {
        "state_data": json.dumps(
            {
                "__is_pydantic": True,
                "value": {"count": 3},
                "qualified_name": f"{Typed.__module__}.Typed",
            }
        ),
        "state_type": "Typed",
        "state_module": Typed.__module__,
    }
    assert InMemoryStateStore.from_dict(typed, JsonSerializer()).values()["count"] == 3


@pytest.mark.parametrize(
    "data",
    [
        {"state_type": "DictState"},
        {"state_data": {"_data": []}, "state_type": "DictState"},
        {"state_data": {"_data": {"a": 1}}, "state_type": "DictState"},
        {"state_data": "5", "state_type": "Typed"},
        {"state_data": "nope", "state_type": "Typed"},
    ],
)
def test_malformed_state_is_a_serde_error(data: dict[str, Any]) -> None:
    with pytest.raises(ContextSerdeError):
        InMemoryStateStore.from_dict(data, JsonSerializer())
