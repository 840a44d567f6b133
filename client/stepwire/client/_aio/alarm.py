"""Check a connection for silence from the event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from stepwire.client._core.heartbeats import Heartbeats, SilenceWatch
from stepwire.client.errors import StepwireError


class Alarm:
    """Cancel a call whose server has fallen silent. A context manager around the reading of the call."""

    def __init__(self, heartbeats: Heartbeats, call: Any) -> None:
        self._watch = SilenceWatch(heartbeats, call.cancel)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = self._watch.waiting

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def received(self) -> None:
        """Note that a frame was taken in."""
        if self._watch.received():
            self._check()

    def loss(self) -> StepwireError | None:
        """Return why the call was cancelled: the silence, or None when someone cancels the task that reads."""
        task = asyncio.current_task()
        return None if task is not None and task.cancelling() else self._watch.lost

    def _check(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._watch.check(), self._check)
