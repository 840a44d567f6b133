"""Events that the tests of events share."""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, Field, PrivateAttr

from stepwire.workflow.events import (
    Event,
)


class Point(Event):
    x: int
    y: int = 0


class WithPrivate(Event):
    name: str
    _secret: str = PrivateAttr(default="none")


class Holder(Event):
    inner: Event
    more: list[Event] = Field(default_factory=list)


class Note(BaseModel):
    text: str
    weight: float = 1.0


class Colour(Enum):
    RED = "red"


class Opaque:
    """Has no JSON form."""
