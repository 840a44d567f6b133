"""Copy the database of a store while its server writes to it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from stepwire.server.store.errors import StoreError, StoreUnavailableError
from stepwire.server.store.sqlite.connections import connect_reader, make_private
from stepwire.server.store.sqlite.schema import DATABASE
from stepwire.server.store.sqlite.sqlite_errors import translate


def backup_directory(directory: Path, target: Path, *, replace: bool = True) -> int:
    """Copy the database of a data directory, whose server may be running; return the bytes of the copy.

    Args:
        directory: The data directory.
        target: The file to write.
        replace: Whether to replace an existing file.

    Raises:
        StoreUnavailableError: The file cannot be written.
        StoreError: There is no database to copy, or there is a file that must not be replaced.
    """
    source = directory / DATABASE
    if not source.is_file():
        raise StoreError(f"{directory} holds no database of a server")
    backup(source, target, replace=replace)
    return target.stat().st_size


def backup(source: Path, target: Path, *, replace: bool = True) -> None:
    """Copy the database `source` to the file `target`, durably and all at once.

    With `replace` an existing file, and a write-ahead log beside it, are replaced.

    Raises:
        StoreUnavailableError: The file cannot be written.
        StoreError: It is `source` itself, or it exists and `replace` is false.
    """
    if target.exists() and target.samefile(source):
        raise StoreError("a store cannot be backed up onto itself")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        try:
            make_private(partial)
            with closing(connect_reader(source)) as old, closing(sqlite3.connect(partial)) as new:
                # In one step: copied in several, it would start again after each commit between them.
                old.backup(new)
            _sync(partial)
            # SQLite would apply the write-ahead log of an older copy to this one.
            for beside in (target.with_name(target.name + suffix) for suffix in ("-wal", "-shm")):
                if beside.exists() and not replace:
                    raise StoreError(f"{beside} exists: it would be taken for the log of the copy")
                beside.unlink(missing_ok=True)
            if replace:
                partial.replace(target)
            else:
                _link(partial, target)
            _sync(target.parent)
        finally:
            for suffix in ("", "-journal", "-wal", "-shm"):
                partial.with_name(partial.name + suffix).unlink(missing_ok=True)
    except sqlite3.Error as error:
        raise translate(error, "be backed up") from error
    except OSError as error:
        raise StoreUnavailableError(f"the backup cannot be written: {error.strerror}") from error


def _link(partial: Path, target: Path) -> None:
    """Give a file its name, unless the name is taken."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise StoreError(f"{target} exists") from None
    except OSError:  # a file system without hard links
        partial.replace(target)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # directories cannot be opened there
        return
    file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)
