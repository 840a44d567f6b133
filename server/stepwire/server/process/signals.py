"""Take the signals of the process on a thread of its own, whatever its main thread does.

Python runs signal handlers in the main thread, between two of its instructions: a step that blocks the event loop in a
library would hold them up. The interpreter also writes the number of each signal to a wake-up descriptor, at once and
from C. A thread reads that.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from stepwire.server.process import os_fork
from stepwire.server.process.ending import Ending

__all__ = ["Signals"]

logger = logging.getLogger("stepwire.server")

_STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_RELOADS: Final = frozenset({signal.SIGHUP}) if hasattr(signal, "SIGHUP") else frozenset()


class Signals:
    """Handle SIGTERM and SIGINT, which stop, and SIGHUP, which reloads. Made and attached in the main thread."""

    def __init__(self, ending: Ending, reload: Callable[[], None]) -> None:
        """Handle the signals from now on.

        Args:
            ending: Is asked for the end by SIGTERM and SIGINT, and ends the process when its deadline comes.
            reload: Called on SIGHUP, on the thread of the signals.
        """
        self._ending = ending
        self._reload = reload
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._others = -1
        """The wake-up descriptor that was there before: the event loop's."""
        for number in _STOPS | _RELOADS:
            signal.signal(number, self._in_main_thread)
        self.attach()
        os_fork.in_child(self._restore)
        threading.Thread(target=self._watch, name="stepwire-signals", daemon=True).start()

    def attach(self) -> bool:
        """Take the wake-up descriptor; return False when it was taken already.

        An event loop takes it when it starts, so call this on the loop then.
        """
        before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        if before == self._writer.fileno():
            return False
        self._others = before
        return True

    def wake(self) -> None:
        """Have the thread look at the deadline again."""
        self._writer.send(b"\0")

    def _in_main_thread(self, number: int, _: FrameType | None) -> None:
        if number in _STOPS:
            self._ending.arm()
        if self.attach():
            # A step gave the event loop a signal handler, and with it the descriptor: this signal went there.
            self._writer.send(bytes((number,)))

    def _watch(self) -> None:
        while True:
            self._reader.settimeout(self._ending.remaining())
            try:
                numbers = self._reader.recv(64)
            except TimeoutError:
                numbers = b""
            for number in numbers:
                self._take(number)
            self._ending.expire()

    def _take(self, number: int) -> None:
        try:
            if number in _STOPS:
                self._ending.ask()
            elif number in _RELOADS:
                self._reload()
            elif number and self._others >= 0:
                os.write(self._others, bytes((number,)))  # a handler that a step gave the event loop
        except Exception:  # the thread must live: without it no later signal would stop the server
            logger.exception("signal %d could not be handled", number)

    def _restore(self) -> None:
        """In a forked child: its signals are its own, and its parent must not get them."""
        signal.set_wakeup_fd(-1)
        for number in _STOPS | _RELOADS:
            if signal.getsignal(number) == self._in_main_thread:
                signal.signal(number, signal.SIG_DFL)
