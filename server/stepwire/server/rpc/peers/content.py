"""Read what other replicas send. What is not as it must be is their fault, and refused with INVALID_ARGUMENT."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

__all__ = ["drop", "fits", "json_of", "texts"]

_DROP_SECONDS: Final = 1.0
"""How long what still comes of a refused stream is received."""


def json_of(data: bytes) -> Any:
    """Return the JSON in some bytes. ValueError if there is none, or if it is nested too deeply."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("this is nested too deeply") from error


def texts(value: Any, count: int) -> tuple[str, ...]:
    """Return a list of so many texts. ValueError if the value is none."""
    if not isinstance(value, list) or len(value) != count or not all(isinstance(each, str) for each in value):
        raise ValueError(f"this is no list of {count} texts")
    return tuple(value)


def fits(function: Callable[..., Any], given: Any) -> bool:
    """Tell whether a function takes some arguments, which must be a dict by their names."""
    try:
        inspect.signature(function).bind(**given)
    except TypeError:
        return False
    return True


async def drop(requests: AsyncIterator[bytes]) -> None:
    """Receive and drop what still comes of a stream that is about to be refused, for a moment.

    gRPC's asyncio client takes a call that ends while it sends for INTERNAL, whatever the call was refused with.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DROP_SECONDS):
            async for _ in requests:
                pass
