"""Commits, and looks at the database, for the tests of the SQLite store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from stepwire.server.store import (
    Chunk,
    Claim,
    Commit,
    RunKey,
    RunRecord,
    SqliteStore,
    Status,
)


def record(run_id: str = "r1", sequence: int = 0, **fields: Any) -> RunRecord:
    values: dict[str, Any] = {"workflow": "orders", "status": Status.RUNNING}
    values |= {"created_at": 1.0, "updated_at": 1.0, "last_sequence": sequence}
    return RunRecord(key=RunKey("default", run_id), **(values | fields))


def first(run_id: str = "r1", **fields: Any) -> Commit:
    return Commit(record(run_id, **fields), None, b"full", full=True)


def later(claim: Claim, sequence: int, data: bytes = b"delta") -> Commit:
    chunk = Chunk(sequence, sequence, b"public " + data, b"internal " + data)
    run = record(claim.key.run_id, sequence)
    return Commit(run, claim, data, full=False, chunks=[chunk])


async def write_on(store: SqliteStore, statement: str) -> Any:
    """Run a statement on the writer's connection."""
    return await store._writer.run(lambda connection: connection.execute(statement).fetchall())


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)
