"""Online backups of the SQLite store."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.integration.sqlite.support import first, later

from stepwire.server.store import (
    RunQuery,
    SqliteStore,
    StoredSnapshot,
    StoreError,
    StoreUnavailableError,
)


async def test_a_backup_under_load_restores(store: SqliteStore, tmp_path: Path) -> None:
    stop = False

    async def run(number: int) -> None:
        claim = await store.commit(first(f"r{number}"))
        sequence = 0
        while not stop:
            sequence += 1
            await store.commit(later(claim, sequence, b"%d" % sequence))

    claims = [await store.commit(first(f"before{n}")) for n in range(10)]
    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(run(number))
        await store.commit(later(claims[0], 1))
        target = tmp_path / "restored" / "stepwire.db"
        target.parent.mkdir()
        target.write_bytes(b"an older backup")
        target.with_name("stepwire.db-wal").write_bytes(b"and its log")
        await store.backup(target)
        stop = True
    assert [path.name for path in target.parent.iterdir()] == ["stepwire.db"]

    restored = SqliteStore(target.parent)
    await restored.open()
    assert await restored.load(claims[0].key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])
    for run_ in await restored.list(RunQuery(namespace="default")):
        snapshot = await restored.load(run_.key)
        assert snapshot is not None
        assert snapshot.sequence == run_.last_sequence
        assert len(await restored.entries(run_.key, 0, limit=10_000)) == run_.last_sequence
    await restored.commit(first("new"))
    await restored.close()


async def test_a_backup_that_cannot_be_written_leaves_nothing(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        await store.backup(tmp_path / "missing" / "copy.db")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_text("")
    with pytest.raises(StoreUnavailableError):
        await store.backup(tmp_path / "directory")
    with pytest.raises(StoreError, match="onto itself"):
        await store.backup(store.path)
    left = set(os.listdir(tmp_path))
    assert left <= {"directory", "lock", "reserve", "stepwire.db", "stepwire.db-wal", "stepwire.db-shm"}
    await store.commit(first())
