"""Serializers of a context: they turn values into text and back.

The text names its format. Text that names none is read as the JSON of 1.x (semantics.md#s21, #s22).
"""

from __future__ import annotations

import base64
import json
import pickle
from abc import ABC, abstractmethod
from typing import Any

from pydantic import BaseModel, ValidationError

from stepwire.workflow import events as engine_events
from stepwire.workflow.codec.decoder import from_tagged
from stepwire.workflow.codec.encoder import encode
from stepwire.workflow.codec.names import Names, QualifiedNames
from stepwire.workflow.errors import SerializationError, SnapshotError, UnknownTypeError
from stepwire.workflow.events import Event
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.wire_names import on_wire

__all__ = ["BaseSerializer", "JsonPickleSerializer", "JsonSerializer", "PickleSerializer", "RegistrySerializer"]

_JSON_FORMAT = "stepwire-json/1"
_PICKLE_PREFIX = "stepwire-pickle/1:"

# The modules of 1.x with the classes that this package has too.
_MODULES_OF_1X = frozenset(
    {
        "workflows.events",
        "workflows.context.state_store",
        "llama_index.core.workflow.events",
        "llama_index.core.workflow.context.state_store",
    }
)
_OWN = {name: getattr(engine_events, name) for name in engine_events.__all__} | {"DictState": DictState}


class BaseSerializer(ABC):
    """Turn values into text and back."""

    @abstractmethod
    def serialize(self, value: Any) -> str:
        """Return `value` as text.

        Raises:
            SerializationError: The value cannot be saved.
        """

    @abstractmethod
    def deserialize(self, value: str) -> Any:
        """Return the value that `serialize` was given.

        Raises:
            SnapshotError: The text is not what `serialize` returned.
        """


class _TaggedSerializer(BaseSerializer):
    """Write tagged JSON in an envelope that names the format; read that, and the JSON of 1.x."""

    _names: Names
    _components = False

    def serialize(self, value: Any) -> str:
        """Return `value` as text.

        Raises:
            SerializationError: A part of the value cannot be saved; the error names its path.
        """
        data = encode(value, self._names).decode()
        return f'{{"format":"{_JSON_FORMAT}","data":{data}}}'

    def deserialize(self, value: str) -> Any:
        """Return the value that `serialize` was given, or that 1.x wrote.

        Raises:
            UnknownTypeError: The text names a type that cannot be found.
            SnapshotError: The text is neither.
        """
        try:
            payload = json.loads(value)
        except (ValueError, TypeError, RecursionError):
            raise SnapshotError("the text is not JSON, or was cut off") from None
        if isinstance(payload, dict) and payload.keys() == {"format", "data"}:
            if payload["format"] == _JSON_FORMAT:
                return from_tagged(payload["data"], self._names, validate=False)
            if str(payload["format"]).startswith("stepwire-"):
                raise SnapshotError("a format that this version does not know")
        try:
            return self._read_1x(payload)
        except RecursionError:
            raise SnapshotError("nested too deep") from None

    def _read_1x(self, data: Any) -> Any:
        if isinstance(data, list):
            return [self._read_1x(item) for item in data]
        if not isinstance(data, dict):
            return data
        name = data.get("qualified_name")
        if isinstance(name, str) and data.get("__is_pydantic"):
            return _build_model(self._lookup_1x(name), data.get("value"))
        if isinstance(name, str) and data.get("__is_component"):
            if not self._components:
                raise SnapshotError("a component: only a JsonSerializer in process reads those")
            return _build_component(self._lookup_1x(name), data.get("value"))
        return {key: self._read_1x(item) for key, item in data.items()}

    def _lookup_1x(self, name: str) -> type:
        module, _, short = name.rpartition(".")
        if module in _MODULES_OF_1X and short in _OWN:
            own: type = _OWN[short]
            return own
        return self._names.lookup(name)


class JsonSerializer(_TaggedSerializer):
    """Write JSON that names types `module.qualname`.

    Reading imports the modules that the text names, so read only text that you trust. A service uses
    RegistrySerializer.
    """

    _components = True

    def __init__(self) -> None:
        self._names = QualifiedNames()


class RegistrySerializer(_TaggedSerializer):
    """Write JSON that names types as a workflow's registry does; reading imports nothing."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def _lookup_1x(self, name: str) -> type:
        return self._names.lookup(name.rpartition(".")[2])


class PickleSerializer(JsonSerializer):
    """Write JSON if it holds the value exactly, else pickle with a tag.

    Unpickling runs code that the text chooses, so read only text that you trust. Text without the tag is never
    unpickled.
    """

    def serialize(self, value: Any) -> str:
        """Return `value` as text.

        Raises:
            SerializationError: Neither JSON nor pickle can hold the value.
        """
        try:
            return super().serialize(value)
        except SerializationError as refused:
            try:
                pickled = pickle.dumps(value)
            except Exception as error:  # noqa: BLE001 - __reduce__ is the author's code
                raise SerializationError(
                    f"{refused}, and pickle fails with {type(error).__name__}", keys=refused.keys
                ) from None
            return _PICKLE_PREFIX + base64.b64encode(pickled).decode()

    def deserialize(self, value: str) -> Any:
        """Return the value that `serialize` was given, or that 1.x wrote.

        Raises:
            SnapshotError: The text is neither, or cannot be unpickled.
        """
        if not value.startswith(_PICKLE_PREFIX):
            return super().deserialize(value)
        try:
            return pickle.loads(base64.b64decode(value[len(_PICKLE_PREFIX) :], validate=True))
        except Exception as error:  # any class may raise anything when it is put together
            raise SnapshotError(f"cannot unpickle: {type(error).__name__}") from error


JsonPickleSerializer = PickleSerializer
"""The other name that 1.x has for it."""


def _build_model(cls: type, value: Any) -> Any:
    if not issubclass(cls, BaseModel):
        raise SnapshotError(f"{cls.__name__} is not a model")
    try:
        if issubclass(cls, Event | DictState) and isinstance(value, dict):
            return cls(**on_wire(cls, value))  # by the names of its fields, `_data` among them, as 1.x dumps it
        return cls.model_validate(value, by_name=True, by_alias=False)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise SnapshotError(f"{cls.__name__} does not validate: {where}") from None
    except TypeError:
        raise SnapshotError(f"malformed {cls.__name__}") from None


def _build_component(cls: type, value: Any) -> Any:
    build = getattr(cls, "from_dict", None)
    if build is None:
        raise UnknownTypeError(f"{cls.__name__} is not a component", type_name=cls.__name__)
    try:
        return build(value)
    except Exception as error:  # from_dict is the author's code
        raise SnapshotError(f"{cls.__name__}.from_dict: {type(error).__name__}") from error
