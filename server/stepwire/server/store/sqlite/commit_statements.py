"""Write many commits with one statement, which is a transaction of its own.

Python releases the interpreter lock for each statement and then has to win it back from the event loop. With one
statement per row, that and not the disk set the pace (measured: 30 times slower). So a group of commits is inserted as
rows of one view, `incoming`, and triggers of the connection write them to the tables.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from stepwire.server.store.encoding import (
    RecordRow,
    began_checksum,
    chunk_checksum,
    delta_checksum,
    encode_request,
    question_checksum,
    record_checksum,
    request_checksum,
)
from stepwire.server.store.errors import (
    RunExistsError,
    StaleClaimError,
    StartRequestExistsError,
    StoreError,
)
from stepwire.server.store.records import Commit
from stepwire.server.store.sqlite.list_queries import find_start

ROWS = 64
"""The most rows of one statement. Each number of rows makes a statement, which is prepared once and kept."""

Row = tuple[Any, ...]


class PreparedCommit:
    """A commit, with its record and questions encoded. `handle` is the run's pk: 0 until a new run gets one."""

    __slots__ = ("commit", "handle", "pending", "row", "token")

    def __init__(self, commit: Commit, row: RecordRow, pending: Mapping[int, str | None]) -> None:
        self.commit = commit
        self.row = row
        self.pending = pending
        claim = commit.claim
        self.handle = 0 if claim is None else claim.handle
        self.token = 1 if claim is None else claim.token


class StaleError(Exception):
    """A commit of a group found no run with its claim, or its request_id had started a run that was pruned."""


_NEW_RUN = ("pk", "token", *RecordRow._fields, "began", "checksum")

# Later commits do not change how a run began. Only trimming changes where its log begins.
_KEPT = {"namespace", "run_id", "workflow", "created_at", "start_request_id", "start_digest", "first_available"}
_UPDATED = ("checksum", *(name for name in RecordRow._fields if name not in _KEPT))

# What indexes are made of: SQLite writes every index anew whose column an UPDATE sets, also to the same value.
_FOUND_BY = ("status", "ended_at", "wake_at", "labels", "terms")
_OTHERS = tuple(name for name in _UPDATED if name not in _FOUND_BY)

_COMMIT = ("run", "sequence", "at", "full", "checksum", "delta")
_LOG = ("run", "first", "last", "checksum", "public", "internal")
_REQUEST = ("run", "at", "checksum", "request")
_QUESTION = ("run", "number", "checksum", "question")

_MOST = (
    *_NEW_RUN,
    *("full", "delta_checksum", "delta"),
    *("first", "last", "chunk_checksum", "public", "internal"),
)
"""The columns of `incoming` that every commit has: the run's record, its delta, and its first chunk, if any."""
_INCOMING = (
    *_MOST,
    *("request_at", "request_checksum", "request"),
    *("number", "question_checksum", "question"),
)
"""The columns of `incoming`: also the commit's first answered request and question, if any.

A question is None when it was answered or withdrawn.
"""


def _new(*names: str) -> str:
    return ", ".join(f"NEW.{name}" for name in names)


def _set(names: Sequence[str]) -> str:
    return ", ".join(f"{name} = NEW.{name}" for name in names)


_TRIGGERS = (
    f"CREATE TEMP VIEW incoming AS SELECT {', '.join(f'NULL AS {name}' for name in _INCOMING)}",
    f"""CREATE TEMP TRIGGER incoming_new_run INSTEAD OF INSERT ON incoming WHEN NEW.began IS NOT NULL BEGIN
        SELECT RAISE(ABORT, 'pruned') WHERE NEW.start_request_id != '' AND EXISTS (SELECT 1 FROM pruned_starts
            WHERE namespace = NEW.namespace AND request_id = NEW.start_request_id);
        INSERT INTO runs ({", ".join(_NEW_RUN)}) VALUES ({_new(*_NEW_RUN)});
        INSERT INTO commits ({", ".join(_COMMIT)}, again)
            VALUES ({_new("pk", "last_sequence", "updated_at", "full", "delta_checksum", "delta")}, 0);
    END""",
    f"""CREATE TEMP TRIGGER incoming_run INSTEAD OF INSERT ON incoming WHEN NEW.began IS NULL BEGIN
        INSERT INTO commits ({", ".join(_COMMIT)}, again)
            SELECT {_new("pk", "last_sequence", "updated_at", "full", "delta_checksum", "delta")},
            last_sequence = NEW.last_sequence FROM runs WHERE pk = NEW.pk AND token = NEW.token;
        SELECT RAISE(ABORT, 'stale') WHERE changes() = 0;
        UPDATE runs SET {_set(_OTHERS)}
            WHERE pk = NEW.pk AND {" AND ".join(f"{name} IS NEW.{name}" for name in _FOUND_BY)};
        UPDATE runs SET {_set(_UPDATED)} WHERE pk = NEW.pk AND changes() = 0;
    END""",
    f"""CREATE TEMP TRIGGER incoming_chunk INSTEAD OF INSERT ON incoming WHEN NEW.first IS NOT NULL BEGIN
        INSERT INTO log ({", ".join(_LOG)})
            VALUES ({_new("pk", "first", "last", "chunk_checksum", "public", "internal")});
    END""",
    f"""CREATE TEMP TRIGGER incoming_request INSTEAD OF INSERT ON incoming WHEN NEW.request IS NOT NULL BEGIN
        INSERT INTO requests ({", ".join(_REQUEST)})
            VALUES ({_new("pk", "request_at", "request_checksum", "request")});
    END""",
    f"""CREATE TEMP TRIGGER incoming_question INSTEAD OF INSERT ON incoming WHEN NEW.question IS NOT NULL BEGIN
        INSERT OR REPLACE INTO questions ({", ".join(_QUESTION)})
            VALUES ({_new("pk", "number", "question_checksum", "question")});
    END""",
    """CREATE TEMP TRIGGER incoming_answer INSTEAD OF INSERT ON incoming
        WHEN NEW.number IS NOT NULL AND NEW.question IS NULL BEGIN
        DELETE FROM questions WHERE run = NEW.pk AND number = NEW.number;
    END""",
    """CREATE TEMP TRIGGER incoming_end INSTEAD OF INSERT ON incoming WHEN NEW.ended_at IS NOT NULL BEGIN
        DELETE FROM questions WHERE run = NEW.pk;
    END""",
)

_INSERT_INCOMING = f"INSERT INTO incoming ({', '.join(_INCOMING)}) VALUES "
_INSERT_MOST = f"INSERT INTO incoming ({', '.join(_MOST)}) VALUES "
_INSERT_LOG = f"INSERT INTO log ({', '.join(_LOG)}) VALUES "
_INSERT_REQUESTS = f"INSERT INTO requests ({', '.join(_REQUEST)}) VALUES "
_INSERT_QUESTIONS = f"INSERT OR REPLACE INTO questions ({', '.join(_QUESTION)}) VALUES "
_DELETE_QUESTIONS = "DELETE FROM questions WHERE run = ? AND number IN (SELECT value FROM json_each(?))"

_NO_CHUNK = (None,) * 5
_NO_REQUEST = (None,) * 3
_NO_QUESTION: Row = (None,) * 3


def prepare(connection: sqlite3.Connection) -> None:
    """Make a connection ready to apply commits."""
    for statement in _TRIGGERS:
        connection.execute(statement)


@cache
def _statement(head: str, width: int, rows: int) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return head + ", ".join([row] * rows)


def _inserts(head: str, rows: Sequence[Row]) -> list[tuple[str, Sequence[Any]]]:
    if len(rows) == 1:
        return [(_statement(head, len(rows[0]), 1), rows[0])]
    found: list[tuple[str, Sequence[Any]]] = []
    for start in range(0, len(rows), ROWS):
        block = rows[start : start + ROWS]
        found.append((_statement(head, len(block[0]), len(block)), [value for row in block for value in row]))
    return found


def statements(group: Sequence[PreparedCommit]) -> list[tuple[str, Sequence[Any]]]:
    """Return the statements, with their values, that write a group of commits; each needs its `handle`.

    There is one statement, unless there are more than ROWS commits, or one has several chunks, requests
    or questions. Pass each to `execute`.
    """
    incoming: list[Row] = []
    chunks: list[Row] = []
    requests: list[Row] = []
    questions: list[Row] = []
    closed: list[tuple[str, Sequence[Any]]] = []
    # To bind None costs sqlite3 as much as ten numbers: it looks for an adapter of its type, in vain.
    wide = any(item.commit.requests or item.pending for item in group)
    for item in group:
        run, commit, row = item.handle, item.commit, item.row
        began = began_checksum(run, row) if commit.claim is None else None
        full = commit.full
        checksum = delta_checksum(run, row.last_sequence, full, commit.delta)
        chunk = [(chunk.first, chunk.last, chunk_checksum(run, chunk), *chunk[2:]) for chunk in commit.chunks]
        chunks += [(run, *more) for more in chunk[1:]]
        most = (
            *(run, item.token, *row, began, record_checksum(run, row)),
            *(full, checksum, commit.delta),
            *(chunk[0] if chunk else _NO_CHUNK),
        )
        if not wide:
            incoming.append(most)
            continue
        request = []
        for each in commit.requests:
            text = encode_request(each)
            request.append((each.at, request_checksum(run, text), text))
        requests += [(run, *more) for more in request[1:]]
        question = _NO_QUESTION
        if item.pending and row.ended_at is None:
            question = _questions(item, questions, closed)
        incoming.append((*most, *(request[0] if request else _NO_REQUEST), *question))
    found = _inserts(_INSERT_INCOMING if wide else _INSERT_MOST, incoming)
    for head, rows in ((_INSERT_LOG, chunks), (_INSERT_REQUESTS, requests), (_INSERT_QUESTIONS, questions)):
        if rows:
            found += _inserts(head, rows)
    return found + closed


def _questions(item: PreparedCommit, asked: list[Row], closed: list[tuple[str, Sequence[Any]]]) -> Row:
    """Return the first question of a commit; add its others to `asked`, and a statement that deletes to `closed`."""
    run = item.handle
    rows: list[Row] = []
    gone: list[int] = []
    for number, text in item.pending.items():
        if text is None:
            gone.append(number)
        else:
            rows.append((run, number, question_checksum(run, number, text), text))
    if not rows:
        first: Row = (gone.pop(), None, None)
    else:
        first = rows[0][1:]
        asked += rows[1:]
    if gone:
        closed.append((_DELETE_QUESTIONS, [run, json.dumps(gone)]))
    return first


def execute(connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> None:
    """Execute one of the `statements`; when it raises, it has written nothing.

    Raises:
        StaleError: A claim in it is fenced off, or a first commit's request_id was used before.
        sqlite3.Error: Anything else.
    """
    try:
        connection.execute(statement, values)
    except sqlite3.IntegrityError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
            raise StaleError from error
        raise


def refusal(connection: sqlite3.Connection, item: PreparedCommit, error: Exception) -> StoreError | None:
    """Return the conflict that explains why a commit met this error; None when there is none."""
    key = item.commit.record.key
    stale = isinstance(error, StaleError)
    if not stale and not isinstance(error, sqlite3.IntegrityError):
        return None
    if item.commit.claim is not None:
        # SQLite runs triggers in any order: the commit may have met the newer log entries before the newer token.
        claimed = connection.execute("SELECT 1 FROM runs WHERE pk = ? AND token = ?", (item.handle, item.token))
        stale = stale or claimed.fetchone() is None
        return StaleClaimError(f"run {key.run_id} was claimed by another or deleted") if stale else None
    request_id = item.commit.record.start_request_id
    if request_id and (record := find_start(connection, key.namespace, request_id)):
        return StartRequestExistsError(record)
    statement = "SELECT 1 FROM runs WHERE namespace = ? AND run_id = ?"
    if connection.execute(statement, key).fetchone():
        return RunExistsError(f"run {key.run_id} exists")
    return None
