"""Read events of a log in this program, as a step reads the stream of a child."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from stepwire.workflow.events import Event, event_from_json

__all__ = ["logged_event"]


def logged_event(cls: type[Event], data: bytes) -> Event:
    """Return an event of a log as one of class `cls`; contract of `event_from_json`.

    An event of an adopted library may have held NaN or an infinity in a field that takes floats only, for which its
    JSON has null: it is NaN again.
    """
    try:
        return event_from_json(cls, data)
    except ValidationError as error:
        if cls.__stepwire_form__ is None:
            raise
        places = [each["loc"] for each in error.errors(include_url=False) if each["type"] == "float_type"]
        fields = from_json(data)
        if not any([_fill(fields, place) for place in places]):  # noqa: C419 - all of them
            raise
        return event_from_json(cls, fields)


def _fill(fields: Any, place: Sequence[int | str]) -> bool:
    """Put NaN in the place of a null; what a place has beyond it says which type of a union did not fit."""
    for key in place:
        try:
            found = fields[key]
        except (LookupError, TypeError):
            return False
        if found is None:
            fields[key] = math.nan
            return True
        fields = found
    return False
