"""Turn values into tags: one walk over a value, in the form that the encoder writes as text.

`stepwire.workflow.codec.encoder` describes the tags.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from math import isfinite
from types import NoneType
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, from_json

from stepwire.workflow.codec.clocks import UnsavedZoneError, write_clock
from stepwire.workflow.codec.libraries import OpaqueText, is_component, may_be_left_out, of_library
from stepwire.workflow.codec.library_json import library_json
from stepwire.workflow.codec.limits import MAX_DEPTH, MAX_INT_BITS, MAX_INT_DIGITS
from stepwire.workflow.codec.model_json import own_json
from stepwire.workflow.codec.names import Names
from stepwire.workflow.codec.records import attributes_of, is_dataclass_record, is_named_tuple
from stepwire.workflow.codec.refused import Refused, type_name
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.events import StepFailedEvent

__all__ = ["refuse_unwritable", "tagged", "to_text"]

_MOST_CLASSES: Final = 3
"""How many classes to ask for their JSON of one value: that of the field that holds it, and of two around it."""


_PLAIN: Final = 0
"""Tags only."""
_CAREFUL: Final = 1
"""Fields of models that have no tag are written in the JSON of their class."""
_THOROUGH: Final = 2
"""The same; and text and integers are looked at too, which otherwise the writer of JSON refuses without a path."""
_SHALLOW: Final = 3
"""Models are passed over: finds what has no tag in the containers of a field."""


def tagged(value: Any, names: Names) -> Any:
    """Return a value as what `json` can write, but for text and integers that no JSON holds.

    Raises:
        Refused: A part of the value cannot be saved.
    """
    try:
        return _Tagger(names, _PLAIN).value(value, 0)
    except Refused:
        # Most values have tags all the way down. Only the second walk asks classes for their own JSON: the first
        # would do so at one level, and then again for the same values at the level above.
        return _Tagger(names, _CAREFUL).value(value, 0)


def refuse_unwritable(value: Any, names: Names) -> None:
    """Find what the writer of JSON refused without saying where: text that is not Unicode, or a huge integer.

    Raises:
        Refused: With the path of the first such value.
    """
    _Tagger(names, _THOROUGH).value(value, 0)


to_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode
"""Write what a walk made as JSON text."""


class _Tagger:
    """Turn a value into what `json` can write, in one walk."""

    __slots__ = ("_atoms", "_mode", "_names")

    def __init__(self, names: Names, mode: int) -> None:
        self._names = names
        self._mode = mode
        # What json writes as it is.
        self._atoms: frozenset[type] = frozenset() if mode == _THOROUGH else _ATOMS

    def value(self, value: Any, depth: int) -> Any:
        cls = type(value)
        if cls in self._atoms:
            return value
        handler = _HANDLERS.get(cls)
        if handler is not None:
            return handler(self, value, depth)
        return self._other(value, cls, depth)

    def _list(self, value: Any, depth: int) -> list[Any]:
        if depth >= MAX_DEPTH:
            raise Refused(f"nested more than {MAX_DEPTH} deep, or containing itself")
        out: list[Any] = []
        walk, atoms = self.value, self._atoms
        depth += 1
        try:
            for item in value:
                out.append(item if type(item) in atoms else walk(item, depth))
        except Refused as refused:
            raise refused.at(len(out)) from None
        return out

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        if depth >= MAX_DEPTH:
            raise Refused(f"nested more than {MAX_DEPTH} deep, or containing itself")
        for key in value:
            if type(key) is not str:
                return self._pairs(value, depth)
        if len(value) == 1 and next(iter(value)).startswith("$"):
            return self._pairs(value, depth)
        return self._plain(value, depth)

    def _plain(self, value: dict[str, Any], depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        walk, atoms = self.value, self._atoms
        thorough = self._mode == _THOROUGH
        depth += 1
        key = ""
        try:
            for key, item in value.items():
                if thorough:
                    self._str(key, depth)
                out[key] = item if type(item) in atoms else walk(item, depth)
        except Refused as refused:
            raise refused.at(key) from None
        return out

    def _pairs(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        pairs = []
        depth += 1
        for key, item in value.items():
            try:
                pairs.append([self.value(key, depth), self.value(item, depth)])
            except Refused as refused:
                raise refused.at(key) from None
        return {"$dict": pairs}

    def _other(self, value: Any, cls: type, depth: int) -> Any:
        if BaseModel in cls.__mro__:  # `isinstance` of a model asks three functions
            return None if self._mode == _SHALLOW else self._model(value, depth)
        if isinstance(value, Enum):
            return self._enum(value, cls)
        if getattr(self._names, "components", False) and is_component(cls):
            return self._component(value, cls, depth)
        if is_dataclass_record(cls):
            return {"$dataclass": [self._name(cls), self._plain(attributes_of(value), depth + 1)]}
        if is_named_tuple(cls):
            return {"$namedtuple": [self._name(cls), self._list(value, depth)]}
        for base in cls.__mro__[1:]:
            if base in _HANDLERS:
                raise Refused(f"{type_name(cls)} is a subclass of {type_name(base)}")
        raise Refused(f"values of type {type_name(cls)} cannot be saved")

    def _name(self, cls: type) -> str:
        try:
            return self._names.name_of(cls)
        except SerializationError as error:
            raise Refused(str(error)) from None

    def _model(self, value: BaseModel, depth: int) -> dict[str, Any]:
        if depth >= MAX_DEPTH:
            raise Refused(f"nested more than {MAX_DEPTH} deep, or containing itself")
        cls = type(value)
        attributes = value.__dict__
        declared = cls.__pydantic_fields__
        if attributes.keys() != declared.keys():
            # The instance dict also holds cached properties.
            attributes = {key: value for key, value in attributes.items() if key in declared}
            for missing in declared.keys() - attributes.keys():
                raise Refused("a declared field has no value").at(missing)
        fields = self._plain(attributes, depth) if self._mode == _PLAIN else self._fields(cls, attributes, depth)
        rest: dict[str, Any] = {}
        extra = value.__pydantic_extra__
        if extra:
            rest["extra"] = self._dict(extra, depth)
        private = value.__pydantic_private__
        if private is not None:
            if isinstance(value, StepFailedEvent):
                private = {**private, "_exception": None}  # lives only in the process that failed
            rest["private"] = self._private(cls, private, depth)
        fields_set = value.__pydantic_fields_set__
        if fields_set != (declared.keys() | extra.keys() if extra else declared.keys()):
            rest["set"] = sorted(fields_set)
        name = self._name(cls)
        return {"$model": [name, fields, rest] if rest else [name, fields]}

    def _private(self, cls: type[BaseModel], private: dict[str, Any], depth: int) -> dict[str, Any]:
        """Return private attributes; of a library's model without those that have no tag and that the class makes.

        The data that an event of the library keeps in them is kept as far as possible.
        """
        if self._mode == _PLAIN or not of_library(cls):
            return self._plain(private, depth)
        form = getattr(cls, "__stepwire_form__", None)
        out: dict[str, Any] = {}
        for key, item in private.items():
            try:
                out[key] = self.value(item, depth + 1)
            except Refused as refused:
                if form is not None and key in form.data:
                    out[key] = _LossyTagger(self._names, _CAREFUL).value(item, depth + 1)
                    continue
                attribute = cls.__private_attributes__.get(key)
                if attribute is None or (attribute.default is PydanticUndefined and attribute.default_factory is None):
                    raise refused.at(key) from None
        return out

    def _fields(self, cls: type[BaseModel], attributes: dict[str, Any], depth: int) -> dict[str, Any]:
        """Return the declared fields of a model, those that have no tag in the JSON of their class.

        Each value is looked at a fixed number of times, however deep the model is: a field that needs its class's JSON
        is found before anything inside its models is walked.
        """
        out: dict[str, Any] = {}
        refusals: dict[str, Refused] = {}
        shallow = _Tagger(self._names, _SHALLOW)
        for key, item in attributes.items():
            try:
                if type(item) not in _ATOMS:
                    shallow.value(item, depth + 1)
                out[key] = self.value(item, depth + 1)
            except Refused as refused:
                if refused.tries == _MOST_CLASSES:
                    raise refused.at(key) from None
                refusals[key] = refused
                out[key] = None
        if refusals and of_library(cls):
            self._let_go(cls, attributes, out, refusals)
        written = own_json(cls, attributes, refusals) if refusals else {}
        for key, refusal in refusals.items():
            if key not in written:
                refusal.tries += 1
                raise refusal.at(key)
            try:
                out[key] = {"$json": self.value(written[key], depth + 1)}
            except Refused as refused:
                raise refused.at(key) from None
        return out

    def _let_go(
        self, cls: type[BaseModel], attributes: dict[str, Any], out: dict[str, Any], refusals: dict[str, Refused]
    ) -> None:
        """Leave out what the library itself never saves, and keep the text of what may be anything."""
        for key in list(refusals):
            field = cls.__pydantic_fields__[key]
            if may_be_left_out(field):
                del refusals[key], out[key]
            elif field.annotation is Any:
                out[key] = self._opaque(OpaqueText.of(attributes[key]), 0)
                del refusals[key]

    def _opaque(self, value: OpaqueText, depth: int) -> dict[str, Any]:
        return {"$opaque": [value.type_name, str(value).encode(errors="replace").decode()]}

    def _component(self, value: Any, cls: type, depth: int) -> dict[str, Any]:
        try:
            data = value.to_dict()
        except Exception as error:  # noqa: BLE001 - to_dict is the author's code
            raise Refused(f"to_dict fails with {type(error).__name__}") from None
        return {"$component": [self._name(cls), self.value(data, depth + 1)]}

    def _enum(self, value: Enum, cls: type[Enum]) -> dict[str, Any]:
        name = self._name(cls)
        if cls.__members__.get(value.name) is value:
            return {"$enum": [name, value.name]}
        if isinstance(value, Flag) and type(value.value) is int:
            return {"$flag": [name, value.value]}
        raise Refused(f"not a named member of {name}")

    def _atom(self, value: Any, depth: int) -> Any:
        return value

    def _str(self, value: str, depth: int) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused("text that is not valid Unicode") from None
        return value

    def _int(self, value: int, depth: int) -> int:
        if value.bit_length() > MAX_INT_BITS:
            raise Refused(f"an integer of more than {MAX_INT_DIGITS} digits")
        return value

    def _float(self, value: float, depth: int) -> float:
        if not isfinite(value):
            raise Refused("NaN and infinities cannot be saved")
        return value

    def _tuple(self, value: Any, depth: int) -> dict[str, Any]:
        return {"$tuple": self._list(value, depth)}

    def _deque(self, value: Any, depth: int) -> dict[str, Any]:
        return {"$deque": [self._list(value, depth), value.maxlen]}

    def _set(self, value: Any, depth: int) -> dict[str, Any]:
        return {"$set": self._items(value, depth)}

    def _frozenset(self, value: Any, depth: int) -> dict[str, Any]:
        return {"$frozenset": self._items(value, depth)}

    def _items(self, value: Any, depth: int) -> list[Any]:
        # Sorted, so that equal sets give equal bytes.
        return sorted(self._list(value, depth), key=to_text)

    def _bytes(self, value: bytes, depth: int) -> dict[str, Any]:
        return {"$bytes": base64.b64encode(value).decode()}

    def _bytearray(self, value: bytearray, depth: int) -> dict[str, Any]:
        return {"$bytearray": base64.b64encode(value).decode()}

    def _datetime(self, value: datetime, depth: int) -> dict[str, Any]:
        return {"$datetime": _clock(value)}

    def _time(self, value: time, depth: int) -> dict[str, Any]:
        return {"$time": _clock(value)}

    def _date(self, value: date, depth: int) -> dict[str, Any]:
        return {"$date": value.isoformat()}

    def _timedelta(self, value: timedelta, depth: int) -> dict[str, Any]:
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}

    def _decimal(self, value: Decimal, depth: int) -> dict[str, Any]:
        if not value.is_finite():
            raise Refused("NaN and infinities cannot be saved")
        return {"$decimal": str(value)}

    def _uuid(self, value: UUID, depth: int) -> dict[str, Any]:
        return {"$uuid": str(value)}


class _LossyTagger(_Tagger):
    """Keep data of an event of a library, which may be anything: a value that has no tag as clients see it."""

    __slots__ = ()

    def value(self, value: Any, depth: int) -> Any:
        cls = type(value)
        if cls is float and not isfinite(value):
            return {"$float": str(value)}
        # Inside of other values everything must be as its type wants it, so there it is all or nothing.
        try:
            return super().value(value, depth) if cls in _LOOSE else _Tagger(self._names, _CAREFUL).value(value, depth)
        except Refused:
            return self._seen(value, depth)

    def _pairs(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        strict = _Tagger(self._names, _CAREFUL)
        return {"$dict": [[strict.value(key, depth + 1), self.value(item, depth + 1)] for key, item in value.items()]}

    def _seen(self, value: Any, depth: int) -> Any:
        try:
            seen = from_json(library_json(value))
            if type(seen) is not str:
                return _Tagger(self._names, _PLAIN).value(seen, depth)
            text = OpaqueText(seen, type_name=OpaqueText.of(value).type_name)
        except (Refused, ValueError, RecursionError):
            text = OpaqueText.of(value)
        return self._opaque(text, depth)


_LOOSE: Final = frozenset({list, tuple, deque, dict})
_ATOMS: frozenset[type] = frozenset({str, int, bool, NoneType})
_HANDLERS: dict[type, Callable[[_Tagger, Any, int], Any]] = {
    str: _Tagger._str,
    int: _Tagger._int,
    bool: _Tagger._atom,
    NoneType: _Tagger._atom,
    float: _Tagger._float,
    dict: _Tagger._dict,
    list: _Tagger._list,
    tuple: _Tagger._tuple,
    deque: _Tagger._deque,
    set: _Tagger._set,
    frozenset: _Tagger._frozenset,
    bytes: _Tagger._bytes,
    bytearray: _Tagger._bytearray,
    datetime: _Tagger._datetime,
    date: _Tagger._date,
    time: _Tagger._time,
    timedelta: _Tagger._timedelta,
    Decimal: _Tagger._decimal,
    UUID: _Tagger._uuid,
    OpaqueText: _Tagger._opaque,
}


def _clock(value: datetime | time) -> Any:
    try:
        return write_clock(value)
    except UnsavedZoneError:
        raise Refused(f"a time zone of type {type_name(type(value.tzinfo))} cannot be saved") from None
