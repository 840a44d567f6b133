"""Inspect a data directory without changing it, for `stepwire doctor`; its server may be running."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from stepwire.server.store.errors import StoreError
from stepwire.server.store.sqlite.connections import connect_reader
from stepwire.server.store.sqlite.schema import APPLICATION_ID, DATABASE, MIGRATIONS
from stepwire.server.store.sqlite.sqlite_errors import translate
from stepwire.server.store.sqlite.work_queries import counts

_DAMAGES = 5
"""Damages to look for: the first ones tell enough."""


@dataclass(kw_only=True)
class Inspection:
    """What a database holds.

    Attributes:
        size: Bytes, the write-ahead log included.
        version: The version of its schema.
        known: The newest version that this code knows.
        damages: The first damages that SQLite's quick check finds.
        runs: The number of runs by (workflow, status).
        last_change: When a run last changed, in seconds since the epoch.
    """

    size: int
    version: int
    known: int = len(MIGRATIONS)
    damages: list[str] = field(default_factory=list)
    runs: dict[tuple[str, str], int] = field(default_factory=dict)
    last_change: float | None = None


def inspect_directory(directory: Path) -> Inspection | None:
    """Inspect the database of a data directory; return None when there is none.

    Raises:
        StoreError: It cannot be read.
    """
    path = directory / DATABASE
    if not path.is_file():
        return None
    try:
        with closing(connect_reader(path)) as connection:
            return _inspect(connection, path)
    except sqlite3.Error as error:
        raise translate(error, "be read") from error


def _inspect(connection: sqlite3.Connection, path: Path) -> Inspection:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID and path.stat().st_size:
        raise StoreError("the database in the data directory is not a store of Stepwire")
    log = path.with_name(f"{path.name}-wal")
    size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    found = Inspection(size=size, version=version)
    found.damages = [
        str(row[0]).splitlines()[0] for row in connection.execute(f"PRAGMA quick_check({_DAMAGES})") if row[0] != "ok"
    ]
    if 0 < version <= len(MIGRATIONS):
        found.runs = counts(connection)
        (found.last_change,) = connection.execute("SELECT max(updated_at) FROM runs").fetchone()
    return found
