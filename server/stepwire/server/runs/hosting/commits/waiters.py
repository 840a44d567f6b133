"""Who waits for a commit of a run: callers for an answer, and the runner to go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

__all__ = ["CommitWaiters"]

logger = logging.getLogger("stepwire.runs")


class CommitWaiters:
    """Hold the futures of callers (`acks`) and the calls of the runner (`callbacks`) that wait for one commit."""

    __slots__ = ("acks", "callbacks")

    def __init__(self) -> None:
        self.acks: list[asyncio.Future[None]] = []
        self.callbacks: list[Callable[[], None]] = []

    def acknowledge(self) -> None:
        """Tell the callers that everything they wait for is durable."""
        for ack in self.acks:
            if not ack.done():
                ack.set_result(None)

    def refuse(self, error: Exception) -> None:
        """Tell the callers that it is not; the runner does not go on."""
        for ack in self.acks:
            if not ack.done():
                ack.set_exception(error)

    def call_back(self) -> None:
        """Let the runner go on. One that fails holds up neither the others nor the next commit."""
        for callback in self.callbacks:
            try:
                callback()
            except Exception as error:
                logger.error("what waited for a commit failed", exc_info=error)
