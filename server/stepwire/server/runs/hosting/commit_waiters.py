"""Who waits for a commit of a run: callers for an answer, and the runner to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["CommitWaiters"]


class CommitWaiters:
    """Hold the futures of callers (`acks`) and the calls of the runner (`callbacks`), each in order."""

    __slots__ = ("acks", "callbacks")

    def __init__(self) -> None:
        self.acks: list[asyncio.Future[None]] = []
        self.callbacks: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self.acks or self.callbacks)

    def take(self) -> CommitWaiters:
        """Return those who have come so far; they wait for the commit that is made now."""
        taken = CommitWaiters()
        taken.acks, self.acks = self.acks, taken.acks
        taken.callbacks, self.callbacks = self.callbacks, taken.callbacks
        return taken

    def acknowledge(self) -> None:
        """Tell the callers that everything they wait for is durable."""
        for ack in self.acks:
            if not ack.done():
                ack.set_result(None)
        self.acks.clear()

    def refuse(self, error: Exception) -> None:
        """Tell the callers that it is not, and forget what the runner wanted."""
        for ack in self.acks:
            if not ack.done():
                ack.set_exception(error)
        self.acks.clear()
        self.callbacks.clear()

    def call_back(self) -> None:
        """Let the runner go on."""
        for callback in self.callbacks:
            callback()
