"""Claim runs, and probe whether writing works. Each function is one job of the writer."""

from __future__ import annotations

import sqlite3

from stepwire.server.store.records import Claim, RunKey


def probe(connection: sqlite3.Connection) -> None:
    """Write the schema's version again: SQLite writes it to its log as any change."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def claim(connection: sqlite3.Connection, key: RunKey) -> Claim | None:
    """Raise the token of a run; return None when there is no such run."""
    row = connection.execute(
        "UPDATE runs SET token = token + 1 WHERE namespace = ? AND run_id = ? RETURNING token, pk",
        key,
    ).fetchone()
    return Claim(key, *row) if row else None
