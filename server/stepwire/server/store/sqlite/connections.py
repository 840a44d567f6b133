"""Connect to the database of a SQLite store: for writing, which makes or migrates it, and for reading."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from stepwire.server.store.errors import StoreError, StoreUnavailableError
from stepwire.server.store.sqlite import schema
from stepwire.server.store.sqlite.schema import APPLICATION_ID
from stepwire.server.store.sqlite.sqlite_errors import translate


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read, unless the file exists.

    The states of runs are stored in the clear. SQLite gives the files beside a database its mode.

    Raises:
        OSError: The file cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the database for writing; make or migrate it first when necessary.

    Raises:
        StoreError: It is of a newer version or not a store, cannot be opened, or is damaged.
    """
    try:
        make_private(path)
        connection = sqlite3.connect(
            path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=256
        )
    except OSError as error:
        raise StoreUnavailableError(f"cannot make the database {path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise translate(error, "be opened") from error
    try:
        _migrate(connection)
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, "be opened") from error
    except StoreError:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the database for reading. The writer must have opened it before.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=5.0,
        isolation_level=None,
        check_same_thread=False,
    )
    # Damaged text must be readable up to the check of its checksum.
    connection.text_factory = lambda data: data.decode(errors="replace")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (tables or version or application):
        raise StoreError("the database in the data directory is not a store of Stepwire")
    if version > len(schema.MIGRATIONS):
        raise StoreError(
            "the store was written by a newer version of Stepwire"
            f" (schema {version}, this one knows up to {len(schema.MIGRATIONS)})"
        )
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError("the file system of the data directory cannot hold a write-ahead log")
    for pragma in (
        "synchronous = FULL",
        "fullfsync = ON",  # where fsync alone leaves data in the drive's cache (macOS)
        "foreign_keys = OFF",  # what belongs to a run is deleted explicitly, in batches
        "temp_store = MEMORY",
        "cache_size = -65536",  # KiB
        "journal_size_limit = 67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")
    for number, script in enumerate(schema.MIGRATIONS[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {number}; COMMIT;"
        )
