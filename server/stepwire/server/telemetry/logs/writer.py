"""Write the lines of the log on a thread of its own, so that a log that nobody reads never stops the server."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable
from typing import Final, TextIO

__all__ = ["LineWriter"]

MOST_LINES: Final = 10_000
"""Lines that wait to be written; further ones are dropped."""
MOST_CHARACTERS: Final = 8 << 20
"""Characters that wait to be written: a few lines with tracebacks can be long."""


class LineWriter:
    """Write lines to a stream in the order in which they come; drop and count what does not fit."""

    def __init__(self, stream: TextIO, on_drop: Callable[[int], str]) -> None:
        """Make a writer.

        Args:
            stream: Where lines go. A stream with a descriptor is written to past its own buffer.
            on_drop: Makes the line that says how many lines were dropped.
        """
        self.dropped = 0
        """Lines that were dropped since the start."""
        self._told = 0
        self._stream = stream
        self._on_drop = on_drop
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError):  # kept in memory
            self._descriptor = -1
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._characters = 0
        self._lock = threading.Lock()
        self._process = os.getpid()
        threading.Thread(target=self._work, name="stepwire-log", daemon=True).start()

    def put(self, line: str) -> None:
        """Write a line, soon. From any thread; it never waits."""
        if os.getpid() != self._process:
            # A forked child has no thread that writes, and nobody else to keep going.
            self._write(line)
            return
        with self._lock:
            if self._lines.qsize() >= MOST_LINES or self._characters + len(line) > MOST_CHARACTERS:
                self.dropped += 1
                return
            self._characters += len(line)
        self._lines.put(line)

    def flush(self, seconds: float) -> bool:
        """Wait until what was put is written; return False when that takes longer than so many seconds."""
        if os.getpid() != self._process:
            return True
        written = threading.Event()
        self._lines.put(written)
        return written.wait(seconds)

    def _work(self) -> None:
        while True:
            item = self._lines.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._write(item)
            with self._lock:
                self._characters -= len(item)
                dropped, self._told = self.dropped - self._told, self.dropped
            if dropped:
                self._write(self._on_drop(dropped))

    def _write(self, line: str) -> None:
        """Write a line. One that cannot be written is lost: logging's own report would not be escaped."""
        try:
            if self._descriptor < 0:
                self._stream.write(f"{line}\n")
                self._stream.flush()
                return
            data = memoryview(f"{line}\n".encode(errors="backslashreplace"))
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # somebody made the descriptor non-blocking
                    select.select([], [self._descriptor], [])
        except (OSError, ValueError):
            pass
