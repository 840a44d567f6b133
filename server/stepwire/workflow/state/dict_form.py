"""A state as the dict that 1.x saves it in: `store.to_dict` and `from_dict`."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from stepwire.workflow.errors import ContextSerdeError, SerializationError, SnapshotError
from stepwire.workflow.state.copying import values_of
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.serializers import BaseSerializer

__all__ = ["UnserializableKeyWarning", "state_from_dict", "state_to_dict"]


class UnserializableKeyWarning(UserWarning):
    """Tell that a key known not to be serializable was left out of `to_dict`."""


def state_to_dict(state: BaseModel, serializer: BaseSerializer, known: Collection[str]) -> dict[str, Any]:
    """Return a state in the form of 1.x.

    Args:
        state: The state.
        serializer: Turns values into text.
        known: Keys of a DictState that are left out, with a warning, if they cannot be serialized.

    Raises:
        SerializationError: Other values cannot be serialized; the error names every such key.
    """
    cls = type(state)
    state_data: Any
    if cls is DictState:
        state_data = {"_data": _serialize_keys(values_of(state), serializer, known)}
    else:
        state_data = serializer.serialize(state)
    return {"state_data": state_data, "state_type": cls.__name__, "state_module": cls.__module__}


def state_from_dict(data: Mapping[str, Any], serializer: BaseSerializer) -> BaseModel:
    """Return the state that `state_to_dict` was given.

    Raises:
        ContextSerdeError: The dict is not in that form, or a value cannot be read.
    """
    if not data:
        return DictState()
    try:
        state_data = data["state_data"]
        state_type = data.get("state_type", "DictState")
        if state_type == "DictState" and isinstance(state_data, dict):
            texts = state_data.get("_data", {}).items()
            return DictState(_data={str(key): _deserialized(key, text, serializer) for key, text in texts})
        state = serializer.deserialize(state_data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ContextSerdeError(f"malformed state: {type(error).__name__}") from error
    if not isinstance(state, BaseModel):
        raise ContextSerdeError(f"the state is no model but a {type(state).__name__}")
    return state


def _serialize_keys(values: Mapping[str, Any], serializer: BaseSerializer, known: Collection[str]) -> dict[str, str]:
    data: dict[str, str] = {}
    failed: list[tuple[str, str]] = []
    for key, value in values.items():
        try:
            data[key] = serializer.serialize(value)
        except Exception as error:  # noqa: BLE001 - a serializer may be the author's own
            if key in known:
                told = f"state key {key!r} is not serializable and was left out"
                warnings.warn(told, UnserializableKeyWarning, stacklevel=5)
                continue
            told = str(error) if isinstance(error, SerializationError) else type(error).__name__
            failed.append((key, f"state key {key!r}: {told or type(error).__name__}"))
    if failed:
        raise SerializationError("; ".join(told for _, told in failed), keys=tuple(key for key, _ in failed))
    return data


def _deserialized(key: object, text: str, serializer: BaseSerializer) -> Any:
    try:
        return serializer.deserialize(text)
    except SnapshotError as error:
        error.args = (f"state key {key!r}: {error}",)
        raise
