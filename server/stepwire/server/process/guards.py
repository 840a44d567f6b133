"""Keep steps from taking the process of the server for their own.

Code that was written for a program of its own lists all tasks to cancel them, or sends itself a signal to stop. In a
server it would stop every run, and again after each restart, when the step begins again. This is no defence against an
author who wants to: a step can do what it likes to its process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Any, Final

from stepwire.workflow.hosting import in_step, own_tasks

__all__ = ["guard"]

logger = logging.getLogger("stepwire.server")

_STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})


def guard() -> None:
    """From now on, show steps their own tasks only, and refuse them the signals that stop this process."""
    _hide_tasks()
    _refuse_signals(os.getpid())


def _hide_tasks() -> None:
    listed = asyncio.all_tasks

    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
        return own_tasks(listed(loop))

    asyncio.all_tasks = asyncio.tasks.all_tasks = all_tasks


def _refuse_signals(server: int) -> None:
    kill, raise_signal = os.kill, signal.raise_signal

    def check(pid: int, number: int) -> None:
        step = in_step()
        if step and pid == server and number in _STOPS:
            name = signal.Signals(number).name
            logger.error("step %s sent %s to the server: refused", step, name)
            raise PermissionError(f"a step must not send {name} to the server that it runs in")

    def checked_kill(pid: int, number: int) -> None:
        check(pid, number)
        kill(pid, number)

    def checked_raise(number: int) -> None:
        check(os.getpid(), number)
        raise_signal(number)

    os.kill, signal.raise_signal = checked_kill, checked_raise
