"""Check connections for silence from a thread."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from stepwire.client._core.heartbeats import Heartbeats, SilenceWatch
from stepwire.client.errors import StepwireError


class Alarms:
    """One thread that checks all streams of a client. It lives while there are streams."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watches: set[SilenceWatch] = set()
        self._thread: threading.Thread | None = None

    def add(self, watch: SilenceWatch) -> None:
        """Check a connection from now on."""
        with self._changed:
            self._watches.add(watch)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stepwire silence", daemon=True)
                self._thread.start()

    def remove(self, watch: SilenceWatch) -> None:
        """Check a connection no more."""
        with self._changed:
            self._watches.discard(watch)
            self._changed.notify()

    def look(self) -> None:
        """Check all connections now: a limit has changed."""
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while self._watches:
                self._changed.wait(min([watch.check() for watch in self._watches]))
            self._thread = None


class Alarm:
    """Cancel a call whose server has fallen silent. A context manager around the reading of the call."""

    def __init__(self, alarms: Alarms, heartbeats: Heartbeats, call: Any) -> None:
        self._alarms = alarms
        self._watch = SilenceWatch(heartbeats, call.cancel)
        self.waiting = self._watch.waiting

    def __enter__(self) -> Self:
        self._alarms.add(self._watch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._alarms.remove(self._watch)

    def received(self) -> None:
        """Note that a frame was taken in."""
        if self._watch.received():
            self._alarms.look()

    def loss(self) -> StepwireError | None:
        """Return why the call was cancelled: the silence, or None when the caller did it."""
        return self._watch.lost
