"""End the process in time, also when its event loop is blocked."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

from stepwire.server.process.child_processes import kill_children
from stepwire.server.telemetry import logs

__all__ = ["STOP_SECONDS", "Ending"]

logger = logging.getLogger("stepwire.server")

STOP_SECONDS: Final = 3.75
"""Seconds beyond the grace after which the process is ended whatever holds it up: it is gone within the 4 promised."""
_EXIT_SECONDS: Final = 1.0
"""How long the interpreter may take to exit once the server has stopped: threads of steps can hold it up for ever."""
_TELL_SECONDS: Final = 15.0
"""The same after a failure, of which the command has yet to write the reason, on a machine that is busy too."""
_LAST_RESORT_SECONDS: Final = 1.0
"""Seconds beyond the deadline after which the process ends without the interpreter: native code may never yield it."""
_FRAMES: Final = 3
"""Innermost frames of the blocked event loop that the log shows."""


class Ending:
    """Count the requests to stop and hold the deadline. All but `arm` and `finish` run on the thread of the signals."""

    def __init__(self, grace: float, *, extra: float, stop: Callable[[], None], hasten: Callable[[], None]) -> None:
        """Make an ending that nobody has asked for.

        Args:
            grace: Seconds that running steps get.
            extra: Further seconds that the stop may take, to export traces.
            stop: Asks the event loop to stop the server.
            hasten: Asks the event loop to cut the grace.
        """
        self._grace = grace
        self._after = STOP_SECONDS + extra
        self._stop = stop
        self._hasten = hasten
        self._asked = 0
        self._armed = 0
        self._code = 1
        self._deadline: float | None = None
        self._finished = False
        self._main = threading.main_thread().ident or 0
        self._nowhere = os.open(os.devnull, os.O_WRONLY)

    def ask(self) -> None:
        """Ask for the end: the first time with the grace, the second time without it, the third time at once."""
        self._asked += 1
        now = time.monotonic()
        if self._asked == 1:
            logger.info("stopping: running steps get %g seconds", self._grace)
            self._deadline = now + self._grace + self._after
            self._stop()
        elif self._asked == 2:
            logger.warning("a second signal: running steps get no more time")
            self._deadline = min(self._deadline or now, now + self._after)
            self._hasten()
        else:
            self.leave("a third signal: leaving at once")

    def remaining(self) -> float | None:
        """Return the seconds until `expire` is due; None when nothing ends the process."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def expire(self) -> None:
        """End the process when its deadline has come."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return
        if self._finished:
            self.leave()
        frames = traceback.extract_stack(sys._current_frames()[self._main])[: -_FRAMES - 1 : -1]
        place = ", called at ".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
        self.leave(f"the server did not stop in time and is ended; its event loop is at {place}")

    def arm(self) -> None:
        """Let a timer of the C library end the process if the interpreter never yields: `expire` could not run.

        It is called by the signal handler in the main thread, which native code like a regular expression lets run.
        """
        self._armed += 1
        seconds = _LAST_RESORT_SECONDS
        if self._armed <= 2:
            seconds += self._after
        if self._armed == 1:
            seconds += self._grace
        # To nowhere: a write to a full pipe would hold it up.
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._nowhere)

    def finish(self, code: int, *, to_tell: bool = False) -> None:
        """Say that the server has stopped; the interpreter gets a second to exit with this code.

        Args:
            code: The exit code.
            to_tell: Whether the caller has yet to say why the server failed; it gets the time for it.
        """
        self._code = code
        self._finished = True
        self._deadline = time.monotonic() + (_TELL_SECONDS if to_tell else _EXIT_SECONDS)

    def leave(self, why: str = "") -> None:
        """End the process now, with the code of `finish`; the interpreter waits for nothing any more."""
        if why:
            logger.error("%s", why)
        kill_children()
        logs.flush()
        os._exit(self._code)
