"""Protect the files that a command is asked to write: nothing that exists or is in use is replaced by accident."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["TargetError", "check_target", "writing"]

_DATABASE, _LOCK = "stepwire.db", "lock"
"""The files that tell a data directory; named here because the client's install does not import the store."""

_SQLITE_LOCK_START, _SQLITE_LOCK_SIZE = 0x40000002, 510
"""The bytes of a database that each connection of SQLite locks for reading, as long as it is open in WAL mode."""


class TargetError(Exception):
    """The file must not be written; the message says why and what to do."""


def check_target(target: Path, *, force: bool) -> Path:
    """Return the file to write, its symbolic links resolved.

    Args:
        target: What the user named.
        force: Whether the user allows to replace an existing file. It never allows to replace a file in
            a data directory, one that is in use, or what is no regular file, such as /dev/null.

    Raises:
        TargetError: The file must not be written.
    """
    try:
        path = target.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise TargetError(f"{target} cannot be resolved: {error}") from None
    for directory in path.parents:
        if (directory / _DATABASE).exists() and (directory / _LOCK).exists():
            raise TargetError(f"{target} is in the data directory {directory} of a server: write it elsewhere")
    if not path.exists():
        return path
    if path.is_dir():
        raise TargetError(f"{target} is a directory: name a file")
    if not path.is_file():
        raise TargetError(f"{target} is a pipe, socket or device: name a file")
    if not force:
        raise TargetError(f"{target} exists: name another file, or replace it with --force")
    if _open_in_sqlite(path):
        raise TargetError(f"{target} is a database in use: name another file")
    return path


@contextlib.contextmanager
def writing(target: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Write a file that appears complete or not at all. A pipe or device is written directly.

    Raises:
        TargetError: The file must not be written.
        OSError: The file cannot be written.
    """
    with contextlib.suppress(OSError):
        mode = target.stat().st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            with target.open("wb") as file:
                yield file
            return
    path = check_target(target, force=force)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        place(partial, path, force=force)
    finally:
        partial.unlink(missing_ok=True)


def place(partial: Path, path: Path, *, force: bool) -> None:
    """Give a complete file its name. Without `force` a file that appeared meanwhile is not replaced either.

    Raises:
        TargetError: The name is taken now.
        OSError: The file system refuses.
    """
    if force:
        partial.replace(path)
        return
    try:
        os.link(partial, path)
    except FileExistsError:
        raise TargetError(f"{path} exists: name another file, or replace it with --force") from None
    except OSError:  # a file system without hard links
        partial.replace(path)


def _open_in_sqlite(path: Path) -> bool:
    """Return whether a process has the file open as a SQLite database."""
    if sys.platform == "win32":  # an open file cannot be replaced there
        return False
    import fcntl

    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SQLITE_LOCK_SIZE, _SQLITE_LOCK_START)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
