"""Watch files that may change while the server runs."""

from __future__ import annotations

from pathlib import Path


class WatchedFile:
    """A file whose changes show in its modification time, size or inode."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> bytes:
        """Read the file, and remember which version was read. OSError if it cannot be read."""
        stat = self.path.stat()
        self._seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return self.path.read_bytes()

    def changed(self) -> bool:
        """Tell whether the file has changed since it was read. A file that is missing has not."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino) != self._seen
