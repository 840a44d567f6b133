"""Types that the tests of the codec encode, and when two values are the same."""

from __future__ import annotations

import enum
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, field_validator

from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.events import Event, StepFailedEvent, StopEvent


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Inner(BaseModel):
    x: int = 0
    tags: set[str] = set()


class Box(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")
    name: str = Field(default="box", alias="boxName", validate_default=True)
    inner: Inner | None = None
    anything: Any = None
    _secret: Any = PrivateAttr(default=None)
    _unset: int

    model_config["populate_by_name"] = True

    @cached_property
    def loud(self) -> str:
        return self.name.upper()


class Numbers(RootModel[list[int]]):
    pass


class Ping(Event):
    number: int = 0
    payload: Any = None
    _private: Any = PrivateAttr(default=None)


class Doubled(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _double(cls, n: int) -> int:
        return 2 * n


NAMES = TypeRegistry([Colour, Level, Right, Inner, Box, Numbers, Ping, Doubled, Event, StopEvent, StepFailedEvent])


def canonical(value: Any) -> str:
    """Show a hashable value so that the order of a set does not matter."""
    if isinstance(value, tuple):
        return f"({', '.join(map(canonical, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(canonical, value)))}}}"
    return repr(value)


def identical(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down, and with the same zones and signs."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(identical(a, b) for a, b in zip(one.items(), other.items(), strict=True))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, set | frozenset):
        return one == other and sorted(map(canonical, one)) == sorted(map(canonical, other))
    if isinstance(one, BaseModel):
        return (
            {k: v for k, v in one.__dict__.items() if k in type(one).model_fields}.keys()
            == {k: v for k, v in other.__dict__.items() if k in type(one).model_fields}.keys()
            and all(identical(one.__dict__[k], other.__dict__[k]) for k in type(one).model_fields)
            and identical(one.__pydantic_extra__, other.__pydantic_extra__)
            and identical(one.__pydantic_private__, other.__pydantic_private__)
            and one.__pydantic_fields_set__ == other.__pydantic_fields_set__
        )
    return bool(one == other) and repr(one) == repr(other)
