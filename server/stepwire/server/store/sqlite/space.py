"""Keep space on the disk in reserve, so that a full disk can be healed from inside.

Healing needs space: a checkpoint copies the write-ahead log into the database before the log can be
cut, and deleting runs writes to the log. So a file holds some of the disk's space, and is emptied when
that space is needed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from pathlib import Path

from stepwire.server.store.sqlite.connections import make_private

log = logging.getLogger(__name__)

RESERVE = "reserve"
"""The name of the file in a data directory."""

LEAST = 256 * 1024
"""Bytes in reserve for an empty database."""

MOST = 17 << 20
"""Bytes in reserve at most: what a checkpoint of 4,000 pages can add to the database, and some more."""

LEFT = 64 * 1024
"""Bytes that stay free on a disk that cannot give the whole reserve: SQLite's index of the log may grow."""

_BLOCK = bytes(1 << 20)


class ReservedSpace:
    """The reserve of a data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / RESERVE
        self._size = 0
        self.most = MOST
        """Bytes that are kept at most: half of what is free on a small disk."""

    def free(self) -> int:
        """Return the bytes that are free on the disk, the reserve not counted."""
        return shutil.disk_usage(self._directory).free

    def total(self) -> int:
        """Return the bytes of the disk."""
        return shutil.disk_usage(self._directory).total

    def open(self) -> None:
        """Find what an earlier process kept, and give it back for the opening of the database."""
        kept = self.release()
        # What was kept stays, or each restart on a full disk would halve it.
        self.most = min(MOST, max(kept, self.free() // 2))

    def keep(self, database: int) -> bool:
        """Allocate the reserve, or as much of it as there is; return whether the disk is full.

        Returns False on a disk that cannot hold a reserve for another reason: the store does without.

        Args:
            database: The bytes of the database, with what is only in its log: a checkpoint adds no more.
        """
        wanted = min(LEAST + database, self.most)
        if self._size >= wanted:
            return False
        size = min(wanted, self._size + max(0, self.free() - LEFT))
        try:
            make_private(self._path)
            with self._path.open("ab") as file:
                _allocate(file.fileno(), self._size, size)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self._path, self._size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return True
            log.debug("no space is kept in reserve: %s", error.strerror)
            return False
        self._size = size
        return size < wanted

    def release(self) -> int:
        """Give the reserve back to the disk; return how many bytes it was."""
        size, self._size = self._size, 0
        with contextlib.suppress(OSError):
            size = self._path.stat().st_size
            os.truncate(self._path, 0)
        return size


def _allocate(file: int, start: int, end: int) -> None:
    if end <= start:
        return
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, start, end - start)
        return
    while start < end:  # pragma: no cover - systems without fallocate
        start += os.write(file, _BLOCK[: end - start])
