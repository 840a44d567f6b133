"""Calls of other threads: those of sync steps, and of programs, reach a run on its event loop only."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import TypeVar

from stepwire.workflow.errors import DeadAttemptError

__all__ = ["call_on"]

T = TypeVar("T")


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> T:
    """Call a function on an event loop of another thread; return its result, or raise its error.

    Raises:
        DeadAttemptError: The loop is closed.
    """
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed to the calling thread, whatever it is
            done.set_exception(error)

    if loop.is_closed():
        raise DeadAttemptError("the event loop of the run is closed")
    loop.call_soon_threadsafe(call)
    return done.result()
