"""Complete futures of whatever event loop: code of a step may await a run on an event loop of its own.

A sync step, a tool or a thread may call `asyncio.run`. What it awaits there is completed by the loop of the run, which
does not wake another loop by itself, and must not fail because that loop is closed meanwhile.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop  # None outside event loops, and no error
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["call_there", "complete"]

T = TypeVar("T")


def complete(future: asyncio.Future[T], result: T) -> None:
    """Set the result of a future, unless it is done or its event loop is closed; from any thread."""
    loop = future.get_loop()
    if loop is _get_running_loop():
        if not future.done():
            future.set_result(result)
    else:
        call_there(loop, _complete, future, result)


def call_there(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: Any) -> None:
    """Have an event loop call something soon, from any thread; nothing happens if the loop is closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _complete(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)
