"""The lock that gives a data directory to one process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

from stepwire.server.store.errors import StoreError, StoreLockedError, StoreUnavailableError
from stepwire.server.store.sqlite.schema import DATABASE

if sys.platform == "win32":
    import msvcrt

    # Locks of Windows keep others from reading, so lock a byte far behind the text.
    _PLACE = 1 << 30

    def _lock(file: IO[Any]) -> None:
        file.seek(_PLACE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file: IO[Any]) -> None:
        file.seek(_PLACE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[Any]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: IO[Any]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


LOCK = "lock"
"""The name of the lock's file in a data directory."""

_MAX_TEXT = 4096
"""Characters that a lock's text never reaches."""


class DirectoryLock:
    """Lock `<directory>/lock`, and write into it who holds it. The system unlocks it when the process dies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[str] | None = None

    def acquire(self, advice: str = "--data names another") -> None:
        """Take the lock without waiting; make the directory when there is none. `advice` ends the refusal.

        Raises:
            StoreLockedError: Another process has it; the message says which.
            StoreUnavailableError: The directory cannot be used.
            StoreError: Its lock file belongs to something else.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (self._directory / LOCK).open("a+", encoding="utf-8")
        except OSError as error:
            file_there = isinstance(error, FileExistsError)
            why = "it is a file; --data names a directory" if file_there else error.strerror
            raise StoreUnavailableError(f"cannot use the data directory {self._directory}: {why}") from error
        try:
            _lock(file)
        except OSError as error:
            holder = _holder(file)
            file.close()
            raise StoreLockedError(f"the data directory {self._directory} is in use by {holder}; {advice}") from error
        if not self._is_lock(file):
            file.close()
            raise StoreError(
                f"{self._directory / LOCK} was not made by Stepwire: name a directory of its own with --data"
            )
        ours = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._file = file
        _held.add(self)
        # A full disk must not keep a server from its data. The holder is then named "another process".
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), json.dumps(ours).encode())

    def _is_lock(self, file: IO[str]) -> bool:
        """Return whether the file is a lock of Stepwire, so that overwriting it destroys nothing."""
        if (self._directory / DATABASE).exists():  # what a full disk cut off is one, too
            return True
        file.seek(0)
        try:
            text = file.read(_MAX_TEXT)
            return not text or "pid" in json.loads(text)
        except (ValueError, TypeError):
            return False

    def leave_to_parent(self) -> None:
        """Close the file in a forked child: otherwise the directory stays locked for as long as the child lives."""
        if self._file is not None:
            self._file.close()  # the parent's file keeps the lock
            self._file = None

    def release(self) -> None:
        """Unlock the directory. The file stays: were it removed, two processes could lock two files."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), 0)
            with contextlib.suppress(OSError):
                _unlock(self._file)  # to close is not enough: a child that was forked just now still has the file open
            self._file.close()
            self._file = None


def holder_of(directory: Path) -> str | None:
    """Return which process holds a directory, None when no process does. Changes nothing.

    Raises:
        OSError: The lock file cannot be opened.
    """
    try:
        file = (directory / LOCK).open("r+", encoding="utf-8")
    except FileNotFoundError:
        return None
    with file:
        try:
            _lock(file)
        except OSError:
            return _holder(file)
    return None


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # the holder is just writing it
        return "another process"


_held: WeakSet[DirectoryLock] = WeakSet()


def _leave_to_parent() -> None:
    for lock in list(_held):
        lock.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
