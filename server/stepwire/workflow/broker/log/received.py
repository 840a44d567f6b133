"""Events of clients, validated and encoded: large ones off the event loop.

A client decides how much work its event is. Validating and encoding one megabyte of tiny values takes half a second,
in which nothing else would run.
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import Final, NamedTuple

from stepwire.workflow.codec.encoder import encode
from stepwire.workflow.codec.names import Names
from stepwire.workflow.events import Event, event_from_json, event_to_json

__all__ = ["INLINE_VALUES", "Received", "prepare", "receive", "values_in"]

INLINE_VALUES: Final = 5_000
"""Values of a JSON document that are handled on the event loop: they take about 10 ms."""


class Received(NamedTuple):
    """An event of a client.

    Attributes:
        event: The event.
        wire: Its plain JSON, if it was made already.
        saved: What a snapshot holds of it, if that was made already.
    """

    event: Event
    wire: bytes | None = None
    saved: bytes | None = None


def values_in(data: bytes) -> int:
    """Return at least how many values a JSON document holds, and at most a few more; does not parse it."""
    return 1 + data.count(b",") + data.count(b"[") + data.count(b"{")


async def receive(cls: type[Event], data: bytes, names: Names) -> Received:
    """Validate an event that a client sends; with more than `INLINE_VALUES` values in a thread, and encode it there.

    The author's validators then run in that thread. Other tasks of the event loop go on meanwhile.

    Args:
        cls: The class of the event.
        data: Its fields as JSON.
        names: Names the types of values in snapshots.

    Raises:
        pydantic.ValidationError: The fields do not fit, or the text is not JSON.
        SerializationError: The event cannot be saved.
    """
    if values_in(data) <= INLINE_VALUES:
        return Received(event_from_json(cls, data))
    run = partial(contextvars.copy_context().run, prepare, cls, data, names)
    return await asyncio.get_running_loop().run_in_executor(None, run)


def prepare(cls: type[Event], data: bytes, names: Names) -> Received:
    """Validate and encode an event; contract of `receive`."""
    event = event_from_json(cls, data)
    return Received(event, event_to_json(event), encode(event, names))
