"""Files that may change while the server runs."""

from __future__ import annotations

from pathlib import Path


class WatchedFile:
    """A file whose changes are noticed by looking at its time and size. OSError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> bytes:
        """Read it and remember what was read."""
        stat = self.path.stat()
        self._seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return self.path.read_bytes()

    def changed(self) -> bool:
        """Tell whether it is another one than was read."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino) != self._seen
