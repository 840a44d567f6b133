"""Read tagged JSON: every tag is checked, every type is looked up by name, nothing is imported.

`stepwire.workflow.codec.encoder` describes the format.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum, Flag
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from stepwire.workflow.codec.clocks import read_clock
from stepwire.workflow.codec.libraries import OpaqueText, add_defaults, of_library
from stepwire.workflow.codec.models import fits, load, rebuild
from stepwire.workflow.codec.names import Names
from stepwire.workflow.codec.records import make_dataclass_record, make_named_tuple
from stepwire.workflow.errors import SnapshotError

__all__ = ["decode", "fields_from_tagged", "from_tagged"]

_OWN = {"$json"}


def decode(data: bytes | str, names: Names, *, validate: bool = True) -> Any:
    """Read tagged JSON.

    Args:
        data: What `encode` returned.
        names: Finds the types that the payload names.
        validate: The classes may have changed since: values of models that their fields no longer hold pass today's
            validators. Without it that is done only for models that have other fields than were saved. Values that
            fit are never validated again.

    Raises:
        UnknownTypeError: `names` does not know a type.
        SnapshotError: The payload is malformed, or a value does not fit its class.
    """
    try:
        tagged = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, TypeError, RecursionError) as error:
        raise SnapshotError(f"not tagged JSON: {type(error).__name__}") from None
    return from_tagged(tagged, names, validate=validate)


def from_tagged(tagged: Any, names: Names, *, validate: bool = True) -> Any:
    """Read tagged JSON that `json` has parsed; contract as `decode`."""
    try:
        return _Decoder(names, validate=validate).value(tagged)
    except RecursionError:
        raise SnapshotError("nested too deep") from None


def fields_from_tagged(
    tagged: Mapping[str, Any], names: Names, *, validate: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read fields that `encode_keys` wrote; contract as `decode`.

    Returns:
        The values by name, and by name the JSON of fields that their class has to read itself.
    """
    try:
        return _Decoder(names, validate=validate).fields(tagged)
    except RecursionError:
        raise SnapshotError("nested too deep") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


class _Decoder:
    """Turn what `json.loads` returned back into values, one walk."""

    __slots__ = ("_names", "_validate")

    def __init__(self, names: Names, *, validate: bool) -> None:
        self._names = names
        self._validate = validate

    def value(self, tagged: Any) -> Any:
        """Return the value of one tagged node; SnapshotError or UnknownTypeError."""
        cls = type(tagged)
        if cls is dict:
            if len(tagged) == 1:
                ((key, item),) = tagged.items()
                if key.startswith("$"):
                    return self._tag(key, item)
            return self._dict(tagged)
        if cls is list:
            walk = self.value
            return [walk(item) for item in tagged]
        return tagged

    def _dict(self, tagged: dict[str, Any]) -> dict[str, Any]:
        walk = self.value
        return {key: item if type(item) is str else walk(item) for key, item in tagged.items()}

    def _tag(self, tag: str, item: Any) -> Any:
        reader = _READERS.get(tag)
        if reader is None:
            raise SnapshotError("a tag that this version does not know")
        try:
            return reader(self, item)
        except SnapshotError:
            raise
        except (ValueError, TypeError, KeyError, ArithmeticError, InvalidOperation, OSError):
            raise SnapshotError(f"malformed {tag}") from None

    def tuple_(self, item: Any) -> Any:
        return tuple(self._items(item))

    def deque_(self, item: Any) -> Any:
        items, most = _list(item, 2)
        return deque(self._items(items), most)

    def set_(self, item: Any) -> Any:
        return set(self._items(item))

    def frozenset_(self, item: Any) -> Any:
        return frozenset(self._items(item))

    def _items(self, item: Any) -> list[Any]:
        return [self.value(each) for each in _list(item)]

    def dict_(self, item: Any) -> Any:
        pairs = [_list(pair, 2) for pair in _list(item)]
        return {self.value(key): self.value(each) for key, each in pairs}

    def bytes_(self, item: Any) -> Any:
        return base64.b64decode(_text(item), validate=True)

    def bytearray_(self, item: Any) -> Any:
        return bytearray(base64.b64decode(_text(item), validate=True))

    def datetime_(self, item: Any) -> Any:
        return read_clock(item, datetime.fromisoformat)

    def time_(self, item: Any) -> Any:
        return read_clock(item, time.fromisoformat)

    def date_(self, item: Any) -> Any:
        return date.fromisoformat(_text(item))

    def timedelta_(self, item: Any) -> Any:
        days, seconds, microseconds = _list(item, 3)
        return timedelta(days, seconds, microseconds)

    def decimal_(self, item: Any) -> Any:
        value = Decimal(_text(item))
        if not value.is_finite():
            raise ValueError("not finite")
        return value

    def uuid_(self, item: Any) -> Any:
        return UUID(_text(item))

    def enum_(self, item: Any) -> Any:
        name, member = _list(item, 2)
        members = self._type(name, Enum).__members__
        if member not in members:
            raise SnapshotError(f"{name} has no longer a member of that name")
        return members[member]

    def flag_(self, item: Any) -> Any:
        name, number = _list(item, 2)
        if type(number) is not int:
            raise SnapshotError("malformed $flag")
        return self._type(name, Flag)(number)

    def dataclass_(self, item: Any) -> Any:
        name, attributes = _list(item, 2)
        if type(attributes) is not dict:
            raise SnapshotError("malformed $dataclass")
        return make_dataclass_record(self._names.lookup(_text(name)), self._dict(attributes))

    def namedtuple_(self, item: Any) -> Any:
        name, items = _list(item, 2)
        return make_named_tuple(self._names.lookup(_text(name)), self._items(items))

    def opaque_(self, item: Any) -> Any:
        type_name, text = _list(item, 2)
        return OpaqueText(_text(text), type_name=_text(type_name))

    def float_(self, item: Any) -> Any:
        if item not in ("nan", "inf", "-inf"):
            raise SnapshotError("malformed $float")
        return float(item)

    def component_(self, item: Any) -> Any:
        if not getattr(self._names, "components", False):
            raise SnapshotError("a component: only a JsonSerializer in process reads those")
        name, data = _list(item, 2)
        cls = self._names.lookup(_text(name))
        data = self.value(data)
        try:
            return cls.from_dict(data)  # type: ignore[attr-defined]
        except Exception as error:  # noqa: BLE001 - from_dict is the author's code
            raise SnapshotError(f"{name}.from_dict fails with {type(error).__name__}") from None

    def model_(self, item: Any) -> Any:
        name, tagged, *more = _list(item)
        if len(more) > 1 or type(tagged) is not dict:
            raise SnapshotError("malformed $model")
        rest = more[0] if more else {}
        if type(rest) is not dict or not rest.keys() <= {"extra", "private", "set"}:
            raise SnapshotError("malformed $model")
        cls = self._type(name, BaseModel)
        fields, own = self.fields(tagged)
        extra = self.value(rest["extra"]) if "extra" in rest else {}
        private = self._dict(rest["private"]) if "private" in rest else None
        fields_set = set(_list(rest["set"])) if "set" in rest else fields.keys() | own.keys() | extra.keys()
        validate = self._validate
        if of_library(cls):
            # A library may put into its models what their fields do not declare: take them as they were.
            validate = False
            add_defaults(cls, fields, own)
        if not (own or validate or cls.__private_attributes__) and fits(cls, fields, extra):
            return rebuild(cls, fields, extra, private, fields_set)
        return load(cls, fields, extra, private, fields_set, own=own, validate=validate)

    def fields(self, tagged: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return fields by name, and the JSON of those that their class reads itself."""
        fields: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, item in tagged.items():
            if type(item) is str:
                fields[key] = item
            elif type(item) is dict and item.keys() == _OWN:
                own[key] = self.value(item["$json"])
            else:
                fields[key] = self.value(item)
        return fields, own

    def _type(self, name: Any, base: type[Any]) -> Any:
        cls = self._names.lookup(_text(name))
        if not issubclass(cls, base):
            raise SnapshotError(f"{name} is not of the kind that the payload says")
        return cls


_READERS: dict[str, Callable[[_Decoder, Any], Any]] = {
    "$tuple": _Decoder.tuple_,
    "$deque": _Decoder.deque_,
    "$set": _Decoder.set_,
    "$frozenset": _Decoder.frozenset_,
    "$dict": _Decoder.dict_,
    "$bytes": _Decoder.bytes_,
    "$bytearray": _Decoder.bytearray_,
    "$datetime": _Decoder.datetime_,
    "$time": _Decoder.time_,
    "$date": _Decoder.date_,
    "$timedelta": _Decoder.timedelta_,
    "$decimal": _Decoder.decimal_,
    "$uuid": _Decoder.uuid_,
    "$enum": _Decoder.enum_,
    "$flag": _Decoder.flag_,
    "$dataclass": _Decoder.dataclass_,
    "$namedtuple": _Decoder.namedtuple_,
    "$component": _Decoder.component_,
    "$opaque": _Decoder.opaque_,
    "$float": _Decoder.float_,
    "$model": _Decoder.model_,
}


def _list(item: Any, length: int | None = None) -> list[Any]:
    if type(item) is not list or (length is not None and len(item) != length):
        raise ValueError("not a list of the right length")
    return item


def _text(item: Any) -> str:
    if type(item) is not str:
        raise ValueError("not text")
    return item
