"""Calls of other threads on an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from stepwire.workflow.errors import DeadAttemptError
from stepwire.workflow.runner.other_threads import call_on


async def test_a_call_runs_on_the_loop_and_its_result_comes_back() -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(call_on, loop, threading.get_ident) == threading.get_ident()


async def test_an_error_comes_back_as_it_is() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(call_on, loop, lambda: 1 / 0)


def test_a_closed_loop_is_refused() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(DeadAttemptError, match="is closed"):
        call_on(loop, list)
