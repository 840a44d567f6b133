"""Whose data directory it is: its lock, and databases of other versions and programs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from stepwire.server.store import (
    SqliteStore,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
)


async def test_a_second_open_is_refused_and_names_the_holder(store: SqliteStore, tmp_path: Path) -> None:
    second = SqliteStore(tmp_path)
    async with asyncio.timeout(60):
        with pytest.raises(StoreLockedError, match=rf"process {os.getpid()} on "):
            await second.open()
    await second.close()  # which does not let go of what it does not hold
    script = """
        import asyncio, sys
        from pathlib import Path
        from stepwire.server.store import SqliteStore
        asyncio.run(SqliteStore(Path(sys.argv[1])).open())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    child = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert f"is in use by process {os.getpid()} on " in child.stderr
    await store.close()
    await second.open()
    await second.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_does_not_keep_the_directory_locked(store: SqliteStore, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)  # until the parent has gone on
        os._exit(0)
    os.close(reading)
    try:
        with pytest.raises(StoreLockedError):  # the parent still has it
            await SqliteStore(tmp_path).open()
        await store.close()
        second = SqliteStore(tmp_path)
        await second.open()
        await second.close()
    finally:
        os.close(writing)
        await asyncio.to_thread(os.waitpid, child, 0)


async def test_a_child_that_still_has_the_files_of_its_parent_does_not_keep_the_directory_locked(
    store: SqliteStore, tmp_path: Path
) -> None:
    copy = os.dup(store._lock._file.fileno())  # type: ignore[union-attr]  # what a fork gives a child until it closes it
    try:
        await store.close()
        second = SqliteStore(tmp_path)
        await second.open()
        await second.close()
    finally:
        os.close(copy)


async def test_a_lock_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("held by a package manager")
    with pytest.raises(StoreError, match="not made by Stepwire"):
        await SqliteStore(tmp_path).open()
    assert (tmp_path / "lock").read_text() == "held by a package manager"
    assert os.listdir(tmp_path) == ["lock"]


async def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="data directory"):
        await SqliteStore(tmp_path / "file" / "data").open()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("PRAGMA user_version = 99")
    content = store.path.read_bytes()
    with pytest.raises(StoreError, match="newer version of Stepwire"):
        await SqliteStore(tmp_path).open()
    assert store.path.read_bytes() == content
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    await store.open()  # the lock was let go
    await store.close()


async def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "stepwire.db")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="not a store"):
        await SqliteStore(tmp_path).open()
