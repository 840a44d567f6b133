"""The tables of the SQLite store, how they came to be, and how connections to them are set up."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from stepwire.server.store.port import LONG_LOG, StoreError, StoreUnavailableError
from stepwire.server.store.sqlite.errors import translate

DATABASE = "stepwire.db"
"""The name of the database in a data directory."""

APPLICATION_ID = 0x53545057  # "STPW": tells a store from any other SQLite file

UNFINISHED = "status IN ('QUEUED', 'RUNNING', 'WAITING')"
"""Unfinished and unblocked; in a query word for word as in the index, so that SQLite uses it."""

LONG = f"last_sequence - first_available >= {LONG_LOG}"
"""Having a long log; in a query word for word as in the index."""

MIGRATIONS: tuple[str, ...] = (
    # 1. Everything a run appends goes to the end of a table, found again through a narrow index:
    # clustered by run instead, each commit would rewrite pages of its own (half the throughput).
    # A pk is never used again (AUTOINCREMENT), or the claim of a deleted run might fit a new one.
    f"""
    CREATE TABLE runs (
        pk INTEGER PRIMARY KEY AUTOINCREMENT,
        token INTEGER NOT NULL,
        namespace TEXT NOT NULL,
        run_id TEXT NOT NULL,
        workflow TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        ended_at REAL,
        wake_at REAL,
        last_sequence INTEGER NOT NULL,
        first_available INTEGER NOT NULL,
        labels TEXT NOT NULL,
        start_request_id TEXT NOT NULL,
        start_digest TEXT NOT NULL,
        info TEXT NOT NULL,
        began INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX runs_key ON runs (namespace, run_id);
    CREATE UNIQUE INDEX runs_start ON runs (namespace, start_request_id)
        WHERE start_request_id != '';
    CREATE INDEX runs_status ON runs (namespace, status, created_at, run_id);
    CREATE INDEX runs_workflow ON runs (namespace, workflow, status, created_at, run_id);
    CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX runs_wake ON runs (wake_at) WHERE wake_at IS NOT NULL AND {UNFINISHED};

    CREATE TABLE commits (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        at REAL NOT NULL,
        full INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        delta BLOB NOT NULL
    );
    CREATE INDEX commits_run ON commits (run, sequence);
    CREATE INDEX commits_full ON commits (run, sequence) WHERE full = 1;

    CREATE TABLE log (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        public BLOB,
        internal BLOB
    );
    CREATE UNIQUE INDEX log_run ON log (run, first);

    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        at REAL NOT NULL,
        checksum INTEGER NOT NULL,
        request TEXT NOT NULL
    );
    CREATE INDEX requests_run ON requests (run);

    -- Runs that are deleted, while rows of theirs are still to be removed.
    CREATE TABLE doomed (run INTEGER PRIMARY KEY);
    """,
    # 2. Logs can be trimmed: an earlier version would take what is left for damaged.
    f"""
    CREATE INDEX runs_long ON runs (workflow) WHERE {LONG};
    """,
)
"""Each brings the schema from the version of its index to the next; never changed, only added to."""


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read, unless it is there; SQLite's files beside it are as it. OSError.

    The states of runs are in it, in the clear.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the database for writing, making or migrating it. Raises StoreError and its kin."""
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
    """Open the database for reading; the writer has opened it before. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=5.0,
        isolation_level=None,
        check_same_thread=False,
    )
    # Damaged text must come as far as its checksum.
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
    if version > len(MIGRATIONS):
        raise StoreError(
            "the store was written by a newer version of Stepwire"
            f" (schema {version}, this one knows up to {len(MIGRATIONS)})"
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
        "wal_autocheckpoint = 4000",  # pages
        "journal_size_limit = 67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {number}; COMMIT;"
        )
