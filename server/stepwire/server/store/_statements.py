"""Apply commits inside a transaction: a few statements for many commits.

Each statement that Python runs gives up the interpreter lock and must win it back from the event
loop. With one statement per row and a busy loop that, not the disk, set the pace (measured: 30
times slower), so a group of commits takes one statement of many rows for each table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from stepwire.server.store._lists import find_start
from stepwire.server.store._rows import (
    RECORD_COLUMNS,
    RecordRow,
    began_checksum,
    chunk_checksum,
    delta_checksum,
    encode_request,
    record_checksum,
    request_checksum,
)
from stepwire.server.store.port import (
    Commit,
    RunExistsError,
    StaleClaimError,
    StartRequestExistsError,
    StoreError,
)

ROWS = 64
"""Rows of one statement at most; fewer come in powers of two, so few statements are prepared."""

Row = tuple[Any, ...]


class PreparedCommit:
    """A commit with its record's row; `handle` is the run's pk, 0 until a new run gets one."""

    __slots__ = ("commit", "handle", "row", "token")

    def __init__(self, commit: Commit, row: RecordRow) -> None:
        self.commit = commit
        self.row = row
        claim = commit.claim
        self.handle = 0 if claim is None else claim.handle
        self.token = 1 if claim is None else claim.token


class StaleError(Exception):
    """Not every commit of a group updated the run that it claims."""


_INSERT_RUNS = f"INSERT INTO runs (pk, token, {RECORD_COLUMNS}, began, checksum) VALUES "
_INSERT_COMMITS = "INSERT INTO commits (run, sequence, at, full, checksum, delta) VALUES "
_INSERT_LOG = "INSERT INTO log (run, first, last, checksum, public, internal) VALUES "
_INSERT_REQUESTS = "INSERT INTO requests (run, at, checksum, request) VALUES "

# What a run began with stays as its first commit said.
_KEPT = {"namespace", "run_id", "workflow", "created_at", "start_request_id", "start_digest"}
_UPDATED = [name for name in RecordRow._fields if name not in _KEPT]
_UPDATED_VALUES = itemgetter(*(RecordRow._fields.index(name) for name in _UPDATED))
_UPDATE_HEAD = (
    "UPDATE runs SET "
    + ", ".join(f"{name} = v.column{n}" for n, name in enumerate(["checksum", *_UPDATED], start=3))
    + " FROM (VALUES "
)
_UPDATE_TAIL = ") AS v WHERE runs.pk = v.column1 AND runs.token = v.column2"


@cache
def _statement(head: str, width: int, rows: int, tail: str) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return head + ", ".join([row] * rows) + tail


def _blocks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    start = 0
    while left := len(rows) - start:
        size = min(ROWS, 1 << (left.bit_length() - 1))
        yield rows[start : start + size]
        start += size


def _execute(
    connection: sqlite3.Connection, head: str, rows: Sequence[Row], tail: str = ""
) -> Iterator[tuple[int, int]]:
    for block in _blocks(rows):
        statement = _statement(head, len(block[0]), len(block), tail)
        values = [value for row in block for value in row]
        yield connection.execute(statement, values).rowcount, len(block)


def _insert(connection: sqlite3.Connection, head: str, rows: Sequence[Row]) -> None:
    for _ in _execute(connection, head, rows):
        pass


def apply(connection: sqlite3.Connection, group: Sequence[PreparedCommit]) -> None:
    """Write a group of commits, each to a run of its own.

    New ones have their `handle` set by the caller. Raises StaleError or an error of SQLite, and
    then some of the group is written: the caller rolls back.
    """
    created: list[Row] = []
    updated: list[Row] = []
    deltas: list[Row] = []
    chunks: list[Row] = []
    requests: list[Row] = []
    for item in group:
        run, commit, row = item.handle, item.commit, item.row
        if commit.claim is None:
            created.append((run, item.token, *row, began_checksum(run, row), record_checksum(run, row)))
        else:
            updated.append((run, item.token, record_checksum(run, row), *_UPDATED_VALUES(row)))
        sequence, full = row.last_sequence, commit.full
        checksum = delta_checksum(run, sequence, full, commit.delta)
        deltas.append((run, sequence, row.updated_at, full, checksum, commit.delta))
        for chunk in commit.chunks:
            chunks.append((run, chunk.first, chunk.last, chunk_checksum(run, chunk), *chunk[2:]))
        for request in commit.requests:
            text = encode_request(request)
            requests.append((run, request.at, request_checksum(run, text), text))
    _insert(connection, _INSERT_RUNS, created)
    for matched, given in _execute(connection, _UPDATE_HEAD, updated, _UPDATE_TAIL):
        if matched != given:  # also when a run comes twice: it is updated once
            raise StaleError
    _insert(connection, _INSERT_COMMITS, deltas)
    _insert(connection, _INSERT_LOG, chunks)
    _insert(connection, _INSERT_REQUESTS, requests)


def refusal(connection: sqlite3.Connection, item: PreparedCommit, error: Exception) -> StoreError | None:
    """Give the conflict because of which a commit met this error; None when there is none."""
    key = item.commit.record.key
    if isinstance(error, StaleError):
        return StaleClaimError(f"run {key.run_id} was claimed by another or deleted")
    if item.commit.claim is not None or not isinstance(error, sqlite3.IntegrityError):
        return None
    request_id = item.commit.record.start_request_id
    if request_id and (record := find_start(connection, key.namespace, request_id)):
        return StartRequestExistsError(record)
    statement = "SELECT 1 FROM runs WHERE namespace = ? AND run_id = ?"
    if connection.execute(statement, key).fetchone():
        return RunExistsError(f"run {key.run_id} exists")
    return None
