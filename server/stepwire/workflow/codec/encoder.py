"""The tagged JSON of snapshots: what goes in comes back equal, or is refused by key path (S21).

None, bool, int, float, str, lists and dicts with string keys are themselves. Everything else is an
object with a single key that begins with ``$``; a dict that looks like one is written as ``$dict``:

======================================  =======================================================
``{"$tuple" | "$set" | "$frozenset"}``  list of items; sets in the order of their JSON text
``{"$bytes" | "$bytearray"}``           base64
``{"$datetime" | "$time"}``             ISO 8601, or ``[naive ISO, zone, fold]``
``{"$date"}``                           ISO 8601
``{"$timedelta"}``                      ``[days, seconds, microseconds]``
``{"$decimal" | "$uuid"}``              text
``{"$enum"}``                           ``[type name, member name]``
``{"$flag"}``                           ``[type name, int]``, for combined flags
``{"$dict"}``                           ``[[key, value], …]``
``{"$model"}``                          ``[type name, fields]`` or ``[type name, fields, rest]``
``{"$component"}``                      ``[type name, its to_dict()]``, in process only
``{"$json"}``                           a model's field as its class writes and reads it
======================================  =======================================================

The ``rest`` of a model: ``extra`` (undeclared fields, such as the dynamic ones of an Event),
``private`` (private attributes), ``set`` (the names set explicitly, when not all are).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from math import isfinite
from types import NoneType
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_json

from stepwire.workflow.codec.clocks import UnsavedZoneError, write_clock
from stepwire.workflow.codec.limits import MAX_DEPTH, MAX_INT_BITS, MAX_INT_DIGITS
from stepwire.workflow.codec.model_json import UNSAVED, own_json
from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.events import StepFailedEvent

__all__ = ["OwnJson", "encode", "encode_keys", "to_tagged"]

_TRIES = 5
"""How often to walk a value again that a sync step, in its thread, changes meanwhile."""


def encode(value: Any, names: Names) -> bytes:
    """Return `value` as tagged JSON in UTF-8; SerializationError naming the path of what cannot."""
    try:
        return _encode(value, names)
    except _Refused as refused:
        where = refused.path or "the value"
        if refused.path and isinstance(value, BaseModel):
            where = f"{refused.path} of {type(value).__name__}"
        raise SerializationError(
            f"cannot save {where}: {refused.reason}",
            keys=(refused.path,) if refused.path else (),
        ) from None


def encode_keys(mapping: Mapping[str, Any], names: Names, own: OwnJson | None = None) -> dict[str, bytes]:
    """Encode each top-level value; one SerializationError names every key that cannot be saved.

    `own` gives the JSON that a state's class has for a key, for values that have no tag.
    """
    encoded: dict[str, bytes] = {}
    failures: list[tuple[str, str]] = []
    for key, value in mapping.items():
        try:
            if type(key) is not str:
                raise _Refused(f"a top-level key of type {_type_name(type(key))}")
            encoded[key] = _encode(value, names)
        except _Refused as refused:
            data = UNSAVED if own is None else own(key)
            if data is UNSAVED:
                failures.append((refused.at(key).path, refused.reason))
            else:
                encoded[key] = b'{"$json":%b}' % encode(data, names)
    if failures:
        told = "; ".join(f"{path}: {reason}" for path, reason in failures)
        raise SerializationError(f"cannot save {told}", keys=tuple(path for path, _ in failures))
    return encoded


OwnJson = Callable[[str], Any]
"""Give what a state's class writes for a key in JSON, or UNSAVED."""


def to_tagged(value: Any, names: Names) -> Any:
    """Return `value` as what `json` can write; SerializationError as `encode`."""
    # Through the text: only writing it finds every text that UTF-8 cannot hold.
    return json.loads(encode(value, names))


class _Refused(Exception):
    """A value that cannot be saved; collects its path on the way up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._segments: list[str] = []

    def at(self, segment: object) -> _Refused:
        if type(segment) is str or type(segment) is int:
            self._segments.append(str(segment)[:100])
        else:
            self._segments.append(f"<{type(segment).__name__}>")
        return self

    @property
    def path(self) -> str:
        return ".".join(reversed(self._segments))


_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % MAX_INT_DIGITS)
"""Digits that Python may refuse to read; text can look like it, so only the slow writer decides."""
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def _encode(value: Any, names: Names) -> bytes:
    for _ in range(_TRIES):
        try:
            tagged = _Encoder(names).value(value, 0)
            data = _fast_json(tagged)
            return _to_json(tagged).encode() if data is None else data
        except RecursionError:
            raise _Refused("nested too deep") from None
        except ValueError:  # text that UTF-8, or an integer that json, cannot write: find out where
            _Encoder(names, strict=True).value(value, 0)
            raise _Refused("a value that JSON cannot hold") from None
        except RuntimeError:  # a sync step, in its thread, changed the size of what is walked
            continue
    raise _Refused("it changes while it is saved")


def _fast_json(tagged: Any) -> bytes | None:
    """Return JSON by pydantic's writer; None for what only the standard one can judge."""
    try:
        data = to_json(tagged)
    except ValueError:  # deeper than this writer goes, or not to be written at all
        return None
    return data if len(data) < MAX_INT_DIGITS or _LONG_NUMBER.search(data) is None else None


def _type_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


class _Encoder:
    __slots__ = ("_atoms", "_names", "_strict")

    def __init__(self, names: Names, *, strict: bool = False) -> None:
        self._names = names
        self._strict = strict
        # What json writes as it is; a strict walk looks into those too.
        self._atoms: frozenset[type] = frozenset() if strict else _ATOMS

    def value(self, value: Any, depth: int) -> Any:
        cls = type(value)
        if cls in self._atoms:
            return value
        handler = _HANDLERS.get(cls)
        if handler is not None:
            return handler(self, value, depth)
        return self._other(value, cls, depth)

    def list_(self, value: Any, depth: int) -> list[Any]:
        if depth >= MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} deep, or containing itself")
        out: list[Any] = []
        walk, atoms = self.value, self._atoms
        depth += 1
        try:
            for item in value:
                out.append(item if type(item) in atoms else walk(item, depth))
        except _Refused as refused:
            raise refused.at(len(out)) from None
        return out

    def dict_(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        if depth >= MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} deep, or containing itself")
        for key in value:
            if type(key) is not str:
                return self._pairs(value, depth)
        if len(value) == 1 and next(iter(value)).startswith("$"):
            return self._pairs(value, depth)
        return self._plain(value, depth)

    def _plain(self, value: dict[str, Any], depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        walk, atoms = self.value, self._atoms
        depth += 1
        key = ""
        try:
            for key, item in value.items():
                if self._strict:
                    self.str_(key, depth)
                out[key] = item if type(item) in atoms else walk(item, depth)
        except _Refused as refused:
            raise refused.at(key) from None
        return out

    def _pairs(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        pairs = []
        depth += 1
        for key, item in value.items():
            try:
                pairs.append([self.value(key, depth), self.value(item, depth)])
            except _Refused as refused:
                raise refused.at(key) from None
        return {"$dict": pairs}

    def _other(self, value: Any, cls: type, depth: int) -> Any:
        if isinstance(value, BaseModel):
            return self._model(value, depth)
        if isinstance(value, Enum):
            return self._enum(value, cls)
        if getattr(self._names, "components", False) and _is_component(cls):
            return self._component(value, cls, depth)
        for base in cls.__mro__[1:]:
            if base in _HANDLERS:
                raise _Refused(f"{_type_name(cls)} is a subclass of {_type_name(base)}")
        raise _Refused(f"values of type {_type_name(cls)} cannot be saved")

    def _name(self, cls: type) -> str:
        try:
            return self._names.name_of(cls)
        except SerializationError as error:
            raise _Refused(str(error)) from None

    def _model(self, value: BaseModel, depth: int) -> dict[str, Any]:
        if depth >= MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} deep, or containing itself")
        cls = type(value)
        attributes = value.__dict__
        declared = cls.__pydantic_fields__
        if attributes.keys() != declared.keys():
            # The instance dict also holds cached properties.
            attributes = {key: value for key, value in attributes.items() if key in declared}
            for missing in declared.keys() - attributes.keys():
                raise _Refused("a declared field has no value").at(missing)
        fields = self.fields(cls, attributes, depth)
        rest: dict[str, Any] = {}
        extra = value.__pydantic_extra__
        if extra:
            rest["extra"] = self.dict_(extra, depth)
        private = value.__pydantic_private__
        if private:
            if isinstance(value, StepFailedEvent):
                private = {**private, "_exception": None}  # lives only in the process that failed
            rest["private"] = self._plain(private, depth)
        fields_set = value.__pydantic_fields_set__
        if fields_set != (declared.keys() | extra.keys() if extra else declared.keys()):
            rest["set"] = sorted(fields_set)
        name = self._name(cls)
        return {"$model": [name, fields, rest] if rest else [name, fields]}

    def fields(self, cls: type[BaseModel], attributes: dict[str, Any], depth: int) -> dict[str, Any]:
        """Return the declared fields of a model, those that have no tag by the class's own JSON."""
        try:
            return self._plain(attributes, depth)
        except _Refused:
            return {key: self.field(cls, attributes, key, depth + 1) for key in attributes}

    def field(self, cls: type[BaseModel], attributes: dict[str, Any], key: str, depth: int) -> Any:
        """Return one of them."""
        try:
            return self.value(attributes[key], depth)
        except _Refused as refused:
            data = own_json(cls, attributes, key)
            if data is UNSAVED:
                raise refused.at(key) from None
            try:
                return {"$json": self.value(data, depth)}
            except _Refused as other:
                raise other.at(key) from None

    def _component(self, value: Any, cls: type, depth: int) -> dict[str, Any]:
        try:
            data = value.to_dict()
        except Exception as error:  # noqa: BLE001 - to_dict is the author's code
            raise _Refused(f"to_dict fails with {type(error).__name__}") from None
        return {"$component": [self._name(cls), self.value(data, depth + 1)]}

    def _enum(self, value: Enum, cls: type[Enum]) -> dict[str, Any]:
        name = self._name(cls)
        if cls.__members__.get(value.name) is value:
            return {"$enum": [name, value.name]}
        if isinstance(value, Flag) and type(value.value) is int:
            return {"$flag": [name, value.value]}
        raise _Refused(f"not a named member of {name}")

    def atom_(self, value: Any, depth: int) -> Any:
        return value

    def str_(self, value: str, depth: int) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Refused("text that is not valid Unicode") from None
        return value

    def int_(self, value: int, depth: int) -> int:
        if value.bit_length() > MAX_INT_BITS:
            raise _Refused(f"an integer of more than {MAX_INT_DIGITS} digits")
        return value

    def float_(self, value: float, depth: int) -> float:
        if not isfinite(value):
            raise _Refused("NaN and infinities cannot be saved")
        return value

    def tuple_(self, value: Any, depth: int) -> dict[str, Any]:
        return {"$tuple": self.list_(value, depth)}

    def set_(self, value: Any, depth: int) -> dict[str, Any]:
        return {"$set": self._items(value, depth)}

    def frozenset_(self, value: Any, depth: int) -> dict[str, Any]:
        return {"$frozenset": self._items(value, depth)}

    def _items(self, value: Any, depth: int) -> list[Any]:
        # Sorted, so that equal sets give equal bytes.
        return sorted(self.list_(value, depth), key=_to_json)

    def bytes_(self, value: bytes, depth: int) -> dict[str, Any]:
        return {"$bytes": base64.b64encode(value).decode()}

    def bytearray_(self, value: bytearray, depth: int) -> dict[str, Any]:
        return {"$bytearray": base64.b64encode(value).decode()}

    def datetime_(self, value: datetime, depth: int) -> dict[str, Any]:
        return {"$datetime": _clock(value)}

    def time_(self, value: time, depth: int) -> dict[str, Any]:
        return {"$time": _clock(value)}

    def date_(self, value: date, depth: int) -> dict[str, Any]:
        return {"$date": value.isoformat()}

    def timedelta_(self, value: timedelta, depth: int) -> dict[str, Any]:
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}

    def decimal_(self, value: Decimal, depth: int) -> dict[str, Any]:
        if not value.is_finite():
            raise _Refused("NaN and infinities cannot be saved")
        return {"$decimal": str(value)}

    def uuid_(self, value: UUID, depth: int) -> dict[str, Any]:
        return {"$uuid": str(value)}


_ATOMS: frozenset[type] = frozenset({str, int, bool, NoneType})
_HANDLERS: dict[type, Callable[[_Encoder, Any, int], Any]] = {
    str: _Encoder.str_,
    int: _Encoder.int_,
    bool: _Encoder.atom_,
    NoneType: _Encoder.atom_,
    float: _Encoder.float_,
    dict: _Encoder.dict_,
    list: _Encoder.list_,
    tuple: _Encoder.tuple_,
    set: _Encoder.set_,
    frozenset: _Encoder.frozenset_,
    bytes: _Encoder.bytes_,
    bytearray: _Encoder.bytearray_,
    datetime: _Encoder.datetime_,
    date: _Encoder.date_,
    time: _Encoder.time_,
    timedelta: _Encoder.timedelta_,
    Decimal: _Encoder.decimal_,
    UUID: _Encoder.uuid_,
}


def _is_component(cls: type) -> bool:
    return all(callable(getattr(cls, name, None)) for name in ("class_name", "to_dict", "from_dict"))


def _clock(value: datetime | time) -> Any:
    try:
        return write_clock(value)
    except UnsavedZoneError:
        raise _Refused(f"a time zone of type {_type_name(type(value.tzinfo))} cannot be saved") from None
