"""The events that steps exchange, and their plain JSON form.

An event's dynamic fields are pydantic's extra fields, so that construction, validation and JSON
stay in pydantic's compiled core; `_data` is the view of them that the 1.x model has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticSerializationError, SchemaSerializer, SchemaValidator, to_json

from stepwire.workflow.adopted_events import AdoptingMeta, EventForm, Subclasses
from stepwire.workflow.dynamic_fields import DynamicFields
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.jsonable import (
    MAX_INT_DIGITS,
    has_long_integer,
    may_hold_non_finite,
    non_finite,
    unserializable,
    with_long_integers,
)
from stepwire.workflow.wire_names import are_names, extra_forbidden, wire_names
from stepwire.workflow.wire_schemas import wire_serializer, wire_validator

__all__ = [
    "Event",
    "HumanResponseEvent",
    "InputRequiredEvent",
    "StartEvent",
    "StepFailedEvent",
    "StopEvent",
    "WorkflowCancelledEvent",
    "WorkflowFailedEvent",
    "WorkflowTimedOutEvent",
    "event_from_json",
    "event_to_json",
]

EventT = TypeVar("EventT", bound="Event")

_UNSET: Any = object()
_N, _I = b"NI"


class Event(DynamicFields, BaseModel, metaclass=AdoptingMeta):  # type: ignore[misc]  # both iterate, over other things
    """Carry data between steps: declared fields, and any further keyword argument as a dynamic field.

    A declared field that has an alias is given by the alias. Dynamic fields are kept in `_data`; they are attributes of
    the event, and items as in a dict. A dynamic field that has the name of a method can be reached as an item only.
    """

    model_config = ConfigDict(
        extra="allow",
        arbitrary_types_allowed=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        # `constants` so that event_to_json can see and refuse them: the default writes null.
        ser_json_inf_nan="constants",
    )

    # Computed once per class: nothing about the class is looked up when an event is made.
    # Fields that have to be given by their alias: their own names would become dynamic fields.
    __misnamed__: ClassVar[frozenset[str]] = frozenset()
    # Those, and names that are set and not validated.
    __private_names__: ClassVar[frozenset[str]] = frozenset({"_data"})
    __own_names__: ClassVar[frozenset[str]] = frozenset({"_data"})
    # True in StopEvents whose `result` is as inherited: they do not show it while it is None.
    __hides_result__: ClassVar[bool] = False
    # Whether no client may send events of this class, nor of its subclasses unless they say otherwise.
    __internal__: ClassVar[bool] = False
    # Names that this class had before, its bases' own not among them.
    __aliases__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, *, internal: bool | None = None, aliases: Sequence[str] = (), **kwargs: Any) -> None:
        """Declare an event.

        Args:
            internal: Whether only steps may send it. By default as its base; an Event may come from clients.
            aliases: Names that the class had before: what was saved or is sent under them is read as this class.
            **kwargs: The settings of pydantic.

        Raises:
            TypeError: `aliases` is no list of names.
        """
        super().__init_subclass__(**kwargs)
        if not are_names(aliases):
            raise TypeError(f"{cls.__name__}: aliases must be a list of the names that the class had before")
        if internal is not None:
            cls.__internal__ = internal
        cls.__aliases__ = tuple(aliases)

    # How an adopted event of another library is written and read; None for the engine's own.
    __stepwire_form__: ClassVar[EventForm | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        kwargs.pop("internal", None)
        kwargs.pop("aliases", None)
        super().__pydantic_init_subclass__(**kwargs)
        properties = {
            name
            for base in cls.__mro__
            for name, value in vars(base).items()
            if isinstance(value, property | cached_property)
        }
        private = frozenset(cls.__private_attributes__) | {"_data"}
        by_name = cls.model_config.get("populate_by_name") or cls.model_config.get("validate_by_name")
        cls.__misnamed__ = frozenset() if by_name else frozenset(wire_names(cls))
        cls.__private_names__ = private | cls.__misnamed__
        cls.__own_names__ = private | frozenset(cls.model_fields) | properties

    def __init__(self, /, **params: Any) -> None:
        if not params or self.__private_names__.isdisjoint(params):
            self.__pydantic_validator__.validate_python(params, self_instance=self)
            return
        misnamed = self.__misnamed__ & params.keys()
        names = (self.__private_names__ - misnamed) & params.keys()
        private = dict(zip(names, map(params.pop, names), strict=True))  # no comprehension: it would make a cell
        self.__pydantic_validator__.validate_python(params, self_instance=self)
        if misnamed and self.__pydantic_extra__ is not None:
            raise extra_forbidden(type(self).__name__, sorted(misnamed))
        for name, value in private.items():
            setattr(self, name, value)

    # Without this mark pydantic would validate nested events and JSON by calling __init__, which
    # is slower and no longer knows that its input is JSON (bytes would not be read as base64).
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    else:

        def __setattr__(self, name, value):
            extra = self.__pydantic_extra__  # None in a subclass that forbids dynamic fields
            if name in self.__own_names__ or extra is None or self.model_config.get("frozen"):
                super().__setattr__(name, value)
            else:
                extra[name] = value

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """Return the declared fields, and the dynamic ones under `_data` if there are any.

        Takes pydantic's arguments. An event inside the event is dumped with its dynamic fields beside the declared
        ones. `Event(**dump)` and `model_validate(dump)` accept both forms.
        """
        # A field declared as Event may hold any event: write it by its own type.
        kwargs.setdefault("polymorphic_serialization", True)
        dump = super().model_dump(**kwargs)
        dynamic = {name: dump.pop(name) for name in self._data if name in dump}
        if dynamic:
            dump["_data"] = dynamic
        return dump

    def model_dump_json(self, **kwargs: Any) -> str:
        """Return what `model_dump` returns, as JSON text; takes pydantic's arguments."""
        indent = kwargs.pop("indent", None)
        kwargs.setdefault("mode", "json")
        return to_json(self.model_dump(**kwargs), indent=indent).decode()

    @classmethod
    def model_validate(cls, obj: Any, **kwargs: Any) -> Self:
        """Validate like pydantic's; a `_data` key holds dynamic fields, as in `model_dump`."""
        return _unfold(super().model_validate(obj, **kwargs), obj)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **kwargs: Any) -> Self:
        """Validate like pydantic's; a `_data` key holds dynamic fields, as in `model_dump`."""
        return _unfold(super().model_validate_json(json_data, **kwargs), None)


def _unfold(event: EventT, source: object) -> EventT:
    """Make the items of a `_data` key dynamic fields: validation took it for one field."""
    if event is not source and isinstance(event._data.get("_data"), Mapping):
        event._data.update(event._data.pop("_data"))
    return event


class StartEvent(Event):
    """Begin a run."""


class StopEvent(Event):
    """End a run with `result`, which may be given as a positional argument.

    A subclass may declare `result` with another type, or override `_get_result` to compute it.
    """

    result: Any = None

    def __init__(self, result: Any = _UNSET, /, **params: Any) -> None:
        if result is not _UNSET:
            if "result" in params:
                raise TypeError(f"{type(self).__name__} got its result twice")
            params["result"] = result
        if self.__private_names__.isdisjoint(params):
            self.__pydantic_validator__.validate_python(params, self_instance=self)
        else:
            super().__init__(**params)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as in Event

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        result = cls.model_fields["result"]
        cls.__hides_result__ = result.annotation is Any and result.default is None
        if "_get_result" in vars(cls):
            type.__setattr__(cls, "__getattribute__", _computed_result)

    def _get_result(self) -> Any:
        """Return the value of `result`; a subclass may override this."""
        return self.__dict__.get("result")

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """Return the fields as `Event.model_dump` does, without an inherited `result` that is None."""
        dump = super().model_dump(**kwargs)
        if self.__hides_result__ and dump.get("result", self) is None:
            del dump["result"]
        return dump


def _computed_result(self: StopEvent, name: str) -> Any:
    # Only classes that override _get_result pay for this; `result` stays a plain field of all others.
    return self._get_result() if name == "result" else object.__getattribute__(self, name)


class InputRequiredEvent(Event):
    """Ask the outside for input; goes to the stream."""


class HumanResponseEvent(Event):
    """Answer an InputRequiredEvent from the outside."""


class WorkflowFailedEvent(StopEvent):
    """Close the stream of a run that failed (semantics.md#s12).

    Attributes:
        step: The step that failed; None if the failure is of no step.
        error_type: The class of its error.
        message: The text of its error.
        attempts: How often the step was executed.
        reference: An id that is logged with the failure.
    """

    step: str | None
    error_type: str
    message: str
    attempts: int
    reference: str = ""


class WorkflowCancelledEvent(StopEvent):
    """Close the stream of a run that was cancelled (semantics.md#s12)."""

    reason: str = ""


class WorkflowTimedOutEvent(StopEvent):
    """Close the stream of a run that took longer than its `timeout`, in seconds (semantics.md#s12)."""

    timeout: float
    active_steps: list[str] = Field(default_factory=list)


class StepFailedEvent(Event):
    """Tell a `@catch_error` step that another step failed and is not retried.

    Attributes:
        step: The step that failed.
        error_type: The class of its error.
        message: The text of its error.
        attempts: How often it was executed.
        event: The event that it was given.
    """

    step: str
    error_type: str
    message: str
    attempts: int
    event: SerializeAsAny[Event]

    _exception: BaseException | None = PrivateAttr(default=None)

    @property
    def exception(self) -> BaseException | None:
        """Return the exception; None if the run was restored since."""
        return self._exception

    @exception.setter
    def exception(self, value: BaseException | None) -> None:
        self._exception = value


def event_to_json(event: Event) -> bytes:
    """Return the event as the plain JSON object that goes over the wire.

    Declared fields, by their alias, and dynamic fields stand side by side. Nested events and models are written by
    their own type. Bytes are URL-safe base64.

    Raises:
        SerializationError: A value has no JSON form, or is NaN or infinite; the error names the fields.
    """
    if (form := type(event).__stepwire_form__) is not None:
        return _readable(event, form.to_json(event))
    exclude = {"result"} if event.__hides_result__ and event.__dict__.get("result") is None else None
    try:
        serializer = type(event).__dict__.get("__wire_serializer__") or _wire_serializer(type(event))
        data = serializer.to_json(event, exclude=exclude, by_alias=True, polymorphic_serialization=True)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        keys = unserializable(event)
        raise SerializationError(
            f"{type(event).__name__} has no JSON form: cannot serialize {', '.join(keys)}", keys=keys
        ) from error
    # An author's model writes NaN as null, so null is a reason to look. `b"N" in data` makes an error before it looks.
    find = data.find
    if find(b"null") >= 0 or (_N in data and find(b"NaN") >= 0) or (_I in data and find(b"Infinity") >= 0):
        keys = non_finite(event)
        if keys:
            raise SerializationError(
                f"{type(event).__name__} has no JSON form: NaN or infinity in {', '.join(keys)}", keys=keys
            )
    return data if len(data) <= MAX_INT_DIGITS else _readable(event, data)


def _readable(event: Event, data: bytes) -> bytes:
    """Return JSON of an event unless an integer in it has more digits than readers take: SerializationError."""
    if not has_long_integer(data):
        return data
    keys = with_long_integers(event)
    told = f"an integer of more than {MAX_INT_DIGITS} digits in {', '.join(keys)}"
    raise SerializationError(f"{type(event).__name__} has no JSON form: {told}", keys=keys)


def event_from_json(cls: type[EventT], data: bytes | str | Mapping[str, Any]) -> EventT:
    """Validate plain JSON, as text or parsed, as an event of class `cls`; the inverse of `event_to_json`.

    Fields go by their alias or by their name. Unknown keys become dynamic fields.

    Raises:
        pydantic.ValidationError: The fields do not fit, a key is a misspelled field, the text is not JSON, or a value
            is NaN or infinite.
        SerializationError: `data` is a mapping that holds something other than JSON values.
    """
    if (form := cls.__stepwire_form__) is not None:
        read: EventT = form.from_json(cls, data)
        return read
    if not isinstance(data, bytes | str) and isinstance(data, Mapping):
        # Through text, so that validation follows JSON's rules (bytes are base64, not text).
        try:
            data = to_json(data)
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
            raise SerializationError(f"Input for {cls.__name__} is not JSON") from error
    validator = cls.__dict__.get("__wire_validator__") or _wire_validator(cls)
    event: EventT = validator.validate_json(data, by_alias=True, by_name=True)
    for value in (*event.__dict__.values(), *(event.__pydantic_extra__ or {}).values()):
        if type(value) not in _FINITE:
            break
    else:
        return event
    floats = (value for value in event.__dict__.values() if type(value) is float)  # also those of defaults
    keys = non_finite(event) if may_hold_non_finite(data) or not all(map(math.isfinite, floats)) else ()
    if keys:
        raise ValidationError.from_exception_data(
            cls.__name__,
            [InitErrorDetails(type="finite_number", loc=(key,), input=None) for key in keys],
            hide_input=True,
        )
    return event


_FINITE: Final = frozenset({str, int, bool, bytes, NoneType})
"""Types of values that are finite by themselves: those of most fields."""

EVENTS: Final = Subclasses(Event)
"""Tells by `EVENTS[cls]` whether a class is one of events; so do the next two."""
STOPPING: Final = Subclasses(StopEvent)
ASKING: Final = Subclasses(InputRequiredEvent)


def _wire_serializer(cls: type[Event]) -> SchemaSerializer:
    serializer = wire_serializer(cls)
    type.__setattr__(cls, "__wire_serializer__", serializer)
    return serializer


def _wire_validator(cls: type[Event]) -> SchemaValidator:
    validator = wire_validator(cls)
    type.__setattr__(cls, "__wire_validator__", validator)
    return validator
