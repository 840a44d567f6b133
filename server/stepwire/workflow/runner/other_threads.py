"""Calls of other threads: those of sync steps, and of programs, reach a run on its event loop only."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stepwire.workflow.broker.futures import complete
from stepwire.workflow.errors import DeadAttemptError

__all__ = ["await_on", "call_on"]

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


async def await_on(loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on an event loop of another thread, and await it on the running one.

    It is a task of the step that calls, with its context variables; cancelling the awaiting cancels it.

    Raises:
        DeadAttemptError: The other loop is closed, or is being closed.
    """
    if loop.is_closed():
        raise DeadAttemptError("the event loop of the run is closed")
    theirs = asyncio.run_coroutine_threadsafe(make(), loop)
    ours: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    theirs.add_done_callback(lambda _: complete(ours, None))
    try:
        await ours
    except asyncio.CancelledError:
        theirs.cancel()
        raise
    try:
        return theirs.result()
    except concurrent.futures.CancelledError:  # an Exception, unlike asyncio's
        raise DeadAttemptError("the event loop of the run is being closed") from None
