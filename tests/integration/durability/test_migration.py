"""Upgrade: a migration that is killed at any of its statements leaves the old schema or the new one, and all data."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stepwire.server.store import DATABASE, StoreError
from stepwire.server.store.sqlite import connections, schema

CORPUS = Path(__file__).parents[1] / "corpus" / "v0.1.0" / DATABASE

TO_COME = """
    CREATE TABLE moved (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, delta BLOB NOT NULL, size INTEGER NOT NULL);
    INSERT INTO moved SELECT id, run, delta, length(delta) FROM commits;
    UPDATE moved SET size = size + 1;
    ALTER TABLE runs ADD COLUMN extra TEXT NOT NULL DEFAULT '';
    UPDATE runs SET extra = run_id;
    DROP INDEX runs_ended;
    DELETE FROM requests WHERE id < 0;
    CREATE INDEX runs_ended ON runs (ended_at, extra) WHERE ended_at IS NOT NULL
"""
"""A migration that copies, changes and drops much, as a later version may bring."""

DRIVER = """
import os, shutil, signal, sqlite3, sys
from pathlib import Path
from stepwire.server.store.sqlite import connections as _connections, schema as _schema

source, target, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if step:
    _schema.MIGRATIONS = (*_schema.MIGRATIONS, step)
connect = sqlite3.connect
left = 0

def traced(*args, **options):
    connection = connect(*args, **options)
    connection.set_trace_callback(statement)
    return connection

def statement(text):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

sqlite3.connect = traced
number, status = 0, signal.SIGKILL
while status == signal.SIGKILL:
    number += 1
    directory = target / str(number)
    directory.mkdir()
    if source.exists():
        shutil.copy(source, directory)
    child = os.fork()
    if not child:
        left = number
        _connections.connect_writer(directory / _schema.DATABASE).close()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
sys.exit(status)
"""


class Found(NamedTuple):
    """What a database is: its schema's version, the schema itself, and every row of the tables that version 1 has."""

    version: int
    schema: frozenset[tuple[Any, ...]]
    rows: tuple[tuple[Any, ...], ...]


def look(path: Path) -> Found:
    """Read a database as it lies there, with what its log holds."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        objects = frozenset(connection.execute("SELECT type, name, sql FROM sqlite_schema"))
        rows: list[tuple[Any, ...]] = []
        if any(name == "runs" for _, name, _ in objects):
            for table, columns in (("runs", "pk, namespace, run_id, status, info, began, checksum"), ("log", "*")):
                rows += connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1")
            for table in ("commits", "requests", "doomed"):
                rows += connection.execute(f"SELECT * FROM {table} ORDER BY 1")
    return Found(version, objects, tuple(rows))


def killed_at_each_statement(source: Path, target: Path, migration: str = "") -> Sequence[Path]:
    """Open copies of a database, each with SIGKILL at another statement; the last one is opened to the end."""
    subprocess.run([sys.executable, "-c", DRIVER, str(source), str(target), migration], check=True, timeout=60)
    return sorted((path / DATABASE for path in target.iterdir()), key=lambda path: int(path.parent.name))


@pytest.mark.parametrize("case", ["a new store", "from v0.1.0", "with one to come"])
def test_upgrade_killed_at_each_statement_leaves_the_old_or_the_new_schema_with_all_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    source = tmp_path / "source" / DATABASE
    source.parent.mkdir()
    migration = TO_COME if case == "with one to come" else ""
    if case != "a new store":
        shutil.copy(CORPUS, source)
    if migration:
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, migration))
    # What it is before each migration and after the last one: one at a time, undisturbed.
    steps = []
    clean = tmp_path / "clean.db"
    if source.exists():
        shutil.copy(source, clean)
        steps.append(look(clean))
    else:
        steps.append(Found(0, frozenset(), ()))
    every = schema.MIGRATIONS
    for number in range(steps[0].version + 1, len(every) + 1):
        with monkeypatch.context() as until:
            until.setattr(schema, "MIGRATIONS", every[:number])
            connections.connect_writer(clean).close()
        steps.append(look(clean))
    assert [step.version for step in steps] == list(range(steps[0].version, len(every) + 1))
    if source.exists():
        assert len(steps[0].rows) > 20
    (tmp_path / "killed").mkdir()
    opened = killed_at_each_statement(source, tmp_path / "killed", migration)
    seen = set()
    for path in opened:
        # The killed one lies there as its process left it, write-ahead log and all.
        left = look(path) if path.exists() else steps[0]
        assert left in steps
        seen.add(left.version)
        connections.connect_writer(path).close()
        assert look(path) == steps[-1]
    assert seen == {step.version for step in steps}
    assert len(opened) > 12


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", [pytest.param("pwrite64", marks=pytest.mark.slow), "fdatasync", "unlink"])
@pytest.mark.timeout(300)  # a kill at each write of each migration
def test_upgrade_killed_at_each_write_leaves_the_old_or_the_new_schema_with_all_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """SIGKILL when the process enters the n-th of these system calls."""
    shutil.copy(CORPUS, tmp_path / "clean.db")
    steps = [look(tmp_path / "clean.db")]
    every = schema.MIGRATIONS
    for number in range(steps[0].version + 1, len(every) + 1):
        with monkeypatch.context() as until:
            until.setattr(schema, "MIGRATIONS", every[:number])
            connections.connect_writer(tmp_path / "clean.db").close()
        steps.append(look(tmp_path / "clean.db"))
    code = (
        "from stepwire.server.store.sqlite.connections import connect_writer as c; import sys; c(sys.argv[1]).close()"
    )
    seen = set()
    for number in range(1, 1000):
        path = tmp_path / str(number) / DATABASE
        path.parent.mkdir()
        shutil.copy(CORPUS, path)
        fault = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
        traced = ["strace", "-f", "-qq", "-o", os.devnull, *fault, sys.executable, "-c", code, str(path)]
        if subprocess.run(traced, check=False, timeout=60).returncode == 0:
            break  # there are no more of them
        left = look(path)
        assert left in steps
        seen.add(left.version)
        connections.connect_writer(path).close()
        assert look(path) == steps[-1]
    assert {steps[0].version, steps[-1].version} <= seen  # nothing is unlinked between two migrations


def test_upgrade_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / DATABASE
    shutil.copy(CORPUS, path)
    connections.connect_writer(path).close()
    before = look(path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, f"{TO_COME}; INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(StoreError, match="cannot be opened"):
        connections.connect_writer(path)
    assert look(path) == before
