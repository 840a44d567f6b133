"""Reading tagged JSON back: every tag checked, every type looked up, nothing imported here."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum, Flag
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticUndefined

from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SnapshotError

M = TypeVar("M", bound=BaseModel)

__all__ = ["Decoder", "load", "rebuild", "revive"]


class Decoder:
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
        return _clock(item, datetime.fromisoformat)

    def time_(self, item: Any) -> Any:
        return _clock(item, time.fromisoformat)

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
        fields_set = set(_list(rest["set"])) if "set" in rest else fields.keys() | extra.keys()
        if not self._validate and not own and _fits(cls, fields, extra, private):
            return rebuild(cls, fields, extra, private, set(fields_set))
        return revive(cls, fields, extra, private, set(fields_set))

    def fields(self, tagged: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return the declared fields of a model, and whether any is in the class's own JSON, for it to read."""
        own = False
        fields: dict[str, Any] = {}
        for key, item in tagged.items():
            if type(item) is dict and item.keys() == {"$json"}:
                fields[key], own = self.value(item["$json"]), True
            else:
                fields[key] = item if type(item) is str else self.value(item)
        return fields, own

    def _type(self, name: Any, base: type[Any]) -> Any:
        cls = self._names.lookup(_text(name))
        if not issubclass(cls, base):
            raise SnapshotError(f"{name} is not of the kind that the payload says")
        return cls


_READERS: dict[str, Callable[[Decoder, Any], Any]] = {
    "$tuple": Decoder.tuple_,
    "$set": Decoder.set_,
    "$frozenset": Decoder.frozenset_,
    "$dict": Decoder.dict_,
    "$bytes": Decoder.bytes_,
    "$bytearray": Decoder.bytearray_,
    "$datetime": Decoder.datetime_,
    "$time": Decoder.time_,
    "$date": Decoder.date_,
    "$timedelta": Decoder.timedelta_,
    "$decimal": Decoder.decimal_,
    "$uuid": Decoder.uuid_,
    "$enum": Decoder.enum_,
    "$flag": Decoder.flag_,
    "$component": Decoder.component_,
    "$model": Decoder.model_,
}


def rebuild(
    cls: type[BaseModel],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any] | None,
    fields_set: set[str],
) -> BaseModel:
    """Put an instance together from its parts; no validator and no `__init__` runs."""
    model = cls.__new__(cls)
    if private is None and cls.__private_attributes__:
        private = {}
    object.__setattr__(model, "__dict__", fields)
    object.__setattr__(model, "__pydantic_fields_set__", fields_set)
    allows_extra = cls.model_config.get("extra") == "allow"
    object.__setattr__(model, "__pydantic_extra__", extra if allows_extra else None)
    object.__setattr__(model, "__pydantic_private__", private)
    return model


def revive(
    cls: type[BaseModel],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any] | None,
    fields_set: set[str],
) -> BaseModel:
    """Build an instance through its validators; fields may have come or gone since.

    SnapshotError naming the fields that no longer validate.
    """
    given: Any = fields["root"] if issubclass(cls, RootModel) else {**extra, **fields}
    try:
        model: BaseModel = cls.__pydantic_validator__.validate_python(given, by_name=True, by_alias=False)
    except ValidationError as error:
        told = ", ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the model'} ({each['type']})"
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise SnapshotError(f"{cls.__name__} does not validate: {told}") from None
    except Exception as error:  # noqa: BLE001 - validators and __init__ are the author's code
        raise SnapshotError(f"{cls.__name__} cannot be built: {type(error).__name__}") from None
    object.__setattr__(model, "__pydantic_fields_set__", fields_set & model.__dict__.keys())
    if model.__pydantic_extra__:
        model.__pydantic_fields_set__.update(fields_set & model.__pydantic_extra__.keys())
    if private and model.__pydantic_private__ is not None:
        kept = {key: item for key, item in private.items() if key in cls.__private_attributes__}
        model.__pydantic_private__.update(kept)
    return model


def load(cls: type[M], values: dict[str, Any], *, validate: bool) -> M:
    """Build an instance from its declared and undeclared fields together.

    With `validate`, or when the fields are not those of `cls`, through its validators:
    SnapshotError naming what does not pass.
    """
    fields = {key: value for key, value in values.items() if key in cls.model_fields}
    extra = {key: value for key, value in values.items() if key not in fields}
    build = revive if validate or not _fits(cls, fields, extra, None) else rebuild
    model = build(cls, fields, extra, None, set(values))
    assert isinstance(model, cls)
    return model


def _fits(
    cls: type[BaseModel],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any] | None,
) -> bool:
    """Say whether the parts are those of today's class, so that they need no validator."""
    if fields.keys() != cls.model_fields.keys():
        return False
    if extra and cls.model_config.get("extra") != "allow":
        return False
    attributes = cls.__private_attributes__
    given = private or {}
    # A private attribute without a default may be unset; one with a default is there.
    return given.keys() <= attributes.keys() and all(
        name in given or (attribute.default is PydanticUndefined and attribute.default_factory is None)
        for name, attribute in attributes.items()
    )


def _list(item: Any, length: int | None = None) -> list[Any]:
    if type(item) is not list or (length is not None and len(item) != length):
        raise ValueError("not a list of the right length")
    return item


def _text(item: Any) -> str:
    if type(item) is not str:
        raise ValueError("not text")
    return item


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> ZoneInfo:
    # Looking for a zone opens a file, and imports a package, that the name chooses: only known names may.
    if name not in _zones():
        raise SnapshotError("a time zone that is not known here")
    return ZoneInfo(name)


def _clock(item: Any, parse: Callable[[str], Any]) -> Any:
    if type(item) is str:
        return parse(item)
    naive, zone, fold = _list(item, 3)
    value = parse(_text(naive)).replace(fold=fold)
    if zone is None:
        return value
    if type(zone) is str:
        return value.replace(tzinfo=_zone(zone))
    offset, name = _list(zone, 2)
    shift = timedelta(microseconds=offset)
    return value.replace(tzinfo=timezone(shift) if name is None else timezone(shift, _text(name)))
