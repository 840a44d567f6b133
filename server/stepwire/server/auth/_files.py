"""Files that may change while the server runs."""

from __future__ import annotations

import time
from pathlib import Path

_LOOK_EVERY = 0.25
"""Seconds between looks at a file: a change acts within this time, and a call costs no system call."""


class WatchedFile:
    """A file whose changes are noticed by looking at its time and size. OSError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._looked = 0.0

    def read(self) -> bytes:
        """Read it and remember what was read."""
        self._looked = time.monotonic()
        stat = self.path.stat()
        self._seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return self.path.read_bytes()

    def changed(self, every: float = _LOOK_EVERY) -> bool:
        """Tell whether it is another one than was read, looking at most each `every` seconds."""
        now = time.monotonic()
        if now - self._looked < every:
            return False
        self._looked = now
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino) != self._seen
