"""How long to wait before what was refused, or what the store could not do, is tried again."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from typing import Final

from stepwire.server.runs.errors import (
    DamagedError,
    LimitError,
    RunElsewhereError,
    RunsError,
    StoreDownError,
    WorkflowNotFoundError,
)
from stepwire.server.store import Cluster, StoreCorruptError, StoreError

__all__ = ["HURRY", "Backoff", "Hurry", "is_damage", "may_be_served", "may_pass"]

logger = logging.getLogger("stepwire.runs")

_FIRST_SECONDS: Final = 0.5
_MOST_SECONDS: Final = 15.0
"""The longest pause: so much later than necessary a family goes on after a long outage."""


def may_pass(error: Exception) -> bool:
    """Tell whether what failed so may succeed later, with nothing changed but the time."""
    if isinstance(error, LimitError):
        return error.retry_after is not None
    if isinstance(error, StoreError):
        return not isinstance(error, StoreCorruptError)
    return isinstance(error, StoreDownError | RunElsewhereError)


def may_be_served(error: Exception, cluster: Cluster) -> bool:
    """Tell whether a workflow that is not served may be soon: the replica that serves it may be restarting."""
    return cluster.shared and getattr(error, "code_reason", "") == WorkflowNotFoundError.reason


def is_damage(error: Exception) -> bool:
    """Tell whether stored data is damaged: no repeat will mend that."""
    return isinstance(error, StoreCorruptError) or getattr(error, "code_reason", "") == DamagedError.reason


class Hurry:
    """Cut the pauses of what is under way: a caller waits for it."""

    def __init__(self) -> None:
        self._cut: asyncio.Future[None] | None = None

    def now(self) -> None:
        """End the pauses of this moment; later ones are as long as ever."""
        if self._cut is not None:
            self._cut.set_result(None)
            self._cut = None

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds, or until it is cut."""
        if self._cut is None:
            self._cut = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._cut], timeout=seconds)


HURRY: ContextVar[Hurry | None] = ContextVar("stepwire_hurry", default=None)
"""What may cut the pauses of the attempt that is being made."""


class Backoff:
    """Wait before each further try, longer each time; the log says once that something waits, and why.

    Attributes:
        waited: The seconds that were waited in all.
    """

    def __init__(self, what: str, run_id: str) -> None:
        """Say what waits: `what` is a sentence about the run."""
        self._what = what
        self._run_id = run_id
        self._seconds = _FIRST_SECONDS
        self._told = False
        self.waited = 0.0

    async def after(self, error: StoreError | RunsError) -> None:
        """Wait after a failure that may pass. A limit says itself after how long."""
        if isinstance(error, LimitError) and error.retry_after is not None:
            await self._pause(max(_FIRST_SECONDS, error.retry_after))
            return
        if not self._told:
            self._told = True
            logger.warning("run %s: %s: %s", self._run_id, self._what, error)
        self.waited += self._seconds
        await self._pause(self._seconds)
        self._seconds = min(_MOST_SECONDS, 2 * self._seconds)

    async def _pause(self, seconds: float) -> None:
        if (hurry := HURRY.get()) is not None:
            await hurry.pause(seconds)
        else:
            await asyncio.sleep(seconds)
