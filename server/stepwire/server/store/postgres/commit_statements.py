"""The two statements that write a group of commits: one for new runs, one for later commits.

Each is a transaction of its own, so a process that stops holds no lock. Fencing is inside: a row whose token or version
moved on is not written and does not come back, and harms no other row of the group. Rows are locked in the order of
their pks, so that groups of two processes cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

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
from stepwire.server.store.records import Commit, code_of

RUN: Final = 0
"""What checksums take for the run: its pk is not known before a new run is written."""


class Row(NamedTuple):
    """A commit as it is written. `version` counts the commits of its run, `owner` is the replica that creates it."""

    commit: Commit
    row: RecordRow
    pending: Mapping[int, str | None]
    version: int
    nonce: int
    owner: int | None = None


class _Column(NamedTuple):
    name: str
    type: str
    value: Any
    """What makes the column's value from (number, Row)."""


def _delta_checksum(_: int, item: Row) -> int:
    return delta_checksum(RUN, item.row.last_sequence, item.commit.full, item.commit.delta)


_BOTH = (
    _Column("n", "int4", lambda n, item: n),
    _Column("version", "int8", lambda n, item: item.version),
    _Column("status", "text", lambda n, item: item.row.status),
    _Column("updated_at", "float8", lambda n, item: item.row.updated_at),
    _Column("ended_at", "float8", lambda n, item: item.row.ended_at),
    _Column("wake_at", "float8", lambda n, item: item.row.wake_at),
    _Column("last_sequence", "int8", lambda n, item: item.row.last_sequence),
    _Column("labels", "text", lambda n, item: item.row.labels),
    _Column("info", "text", lambda n, item: item.row.info),
    _Column("terms", "text", lambda n, item: item.row.terms),
    _Column("checksum", "int8", lambda n, item: record_checksum(RUN, item.row)),
    _Column("code", "text", lambda n, item: code_of(item.commit.record.info)),
    _Column("is_full", "bool", lambda n, item: item.commit.full),
    _Column("delta_checksum", "int8", _delta_checksum),
    _Column("delta", "bytea", lambda n, item: item.commit.delta),
)
_NEW = (
    *_BOTH,
    _Column("nonce", "int8", lambda n, item: item.nonce),
    _Column("namespace", "text", lambda n, item: item.row.namespace),
    _Column("run_id", "text", lambda n, item: item.row.run_id),
    _Column("workflow", "text", lambda n, item: item.row.workflow),
    _Column("created_at", "float8", lambda n, item: item.row.created_at),
    _Column("first_available", "int8", lambda n, item: item.row.first_available),
    _Column("start_request_id", "text", lambda n, item: item.row.start_request_id),
    _Column("start_digest", "text", lambda n, item: item.row.start_digest),
    _Column("began", "int8", lambda n, item: began_checksum(RUN, item.row)),
    _Column("owner", "int8", lambda n, item: None if item.row.ended_at is not None else item.owner),
    _Column("principal", "text", lambda n, item: item.commit.record.info.get("principal", "")),
)
_LATER = (
    *_BOTH,
    _Column("pk", "int8", lambda n, item: item.commit.claim.handle),
    _Column("token", "int8", lambda n, item: item.commit.claim.token),
)
_CHUNK = ("n int4", "first int8", "last int8", "checksum int8", "public bytea", "internal bytea")
_REQUEST = ("n int4", "at float8", "checksum int8", "request text")
_QUESTION = ("n int4", "number int8", "checksum int8", "question text")
"""Questions that were asked or changed; a question is NULL when it was answered or withdrawn."""


def _unnest(first: int, columns: Sequence[tuple[str, str]]) -> str:
    arrays = ", ".join(f"${first + place}::{kind}[]" for place, (_, kind) in enumerate(columns))
    return f"SELECT * FROM unnest({arrays}) AS t ({', '.join(name for name, _ in columns)})"


def _parts(columns: tuple[_Column, ...]) -> tuple[str, str, str, str]:
    rows = [(column.name, column.type) for column in columns]
    chunks = [(name, kind) for name, kind in (each.split() for each in _CHUNK)]
    requests = [(name, kind) for name, kind in (each.split() for each in _REQUEST)]
    questions = [(name, kind) for name, kind in (each.split() for each in _QUESTION)]
    return (
        _unnest(1, rows),
        _unnest(1 + len(rows), chunks),
        _unnest(1 + len(rows) + len(chunks), requests),
        _unnest(1 + len(rows) + len(chunks) + len(requests), questions),
    )


_CHILDREN = """
    c AS (INSERT INTO commits (run, sequence, at, "full", again, checksum, delta)
        SELECT w.pk, i.last_sequence, i.updated_at, i.is_full, {again}, i.delta_checksum, i.delta
        FROM i JOIN w USING (n) ORDER BY i.n),
    l AS (INSERT INTO log (run, first, last, checksum, public, internal)
        SELECT w.pk, t.first, t.last, t.checksum, t.public, t.internal FROM ({chunks}) AS t JOIN w USING (n)),
    q AS (INSERT INTO requests (run, at, checksum, request)
        SELECT w.pk, t.at, t.checksum, t.request FROM ({requests}) AS t JOIN w USING (n)
        ORDER BY t.place),
    asked AS MATERIALIZED (SELECT w.pk, t.number, t.checksum, t.question FROM ({questions}) AS t JOIN w USING (n)),
    a AS (INSERT INTO questions (run, number, checksum, question)
        SELECT pk, number, checksum, question FROM asked WHERE question IS NOT NULL
        ON CONFLICT (run, number) DO UPDATE SET checksum = excluded.checksum, question = excluded.question),
    d AS (DELETE FROM questions q USING asked WHERE asked.question IS NULL
        AND q.run = asked.pk AND q.number = asked.number),
    e AS (DELETE FROM questions q USING i JOIN w USING (n) WHERE i.ended_at IS NOT NULL AND q.run = w.pk)
SELECT n, pk FROM w"""


def _new_runs() -> str:
    incoming, chunks, requests, questions = _parts(_NEW)
    kept = (
        "nonce, version, namespace, run_id, workflow, status, created_at, updated_at, ended_at, wake_at, last_sequence,"
        " first_available, labels, start_request_id, start_digest, info, terms, began, checksum, owner, principal, code"
    )
    return f"""WITH i AS ({incoming}),
    r AS (INSERT INTO runs (token, label_set, {kept})
        SELECT 1, labels::jsonb, {kept} FROM i WHERE start_request_id = '' OR NOT EXISTS
            (SELECT 1 FROM pruned_starts p WHERE p.namespace = i.namespace AND p.request_id = i.start_request_id)
        ORDER BY n ON CONFLICT DO NOTHING RETURNING pk, nonce),
    w AS (SELECT i.n, r.pk FROM i JOIN r USING (nonce)),{_children("false", chunks, requests, questions)}"""


def _later_commits() -> str:
    """Return the statement for later commits.

    A group may hold two commits of one run: one of a claim that was fenced off, and one of the claim that did it. So
    rows that passed are known by their place in the group, never by their run.
    """
    incoming, chunks, requests, questions = _parts(_LATER)
    changed = "version, status, updated_at, ended_at, wake_at, last_sequence, labels, info, terms, checksum, code"
    sets = ", ".join(f"{name} = i.{name}" for name in changed.split(", "))
    return f"""WITH i AS ({incoming}),
    k AS MATERIALIZED (SELECT i.n, r.pk, r.last_sequence AS before, r.labels AS old_labels FROM runs r JOIN i USING (pk)
        WHERE r.token = i.token AND r.version = i.version - 1 ORDER BY r.pk FOR NO KEY UPDATE OF r),
    r AS (UPDATE runs r SET {sets},
            owner = CASE WHEN i.ended_at IS NULL THEN r.owner END,
            label_set = CASE WHEN i.labels = k.old_labels THEN r.label_set ELSE i.labels::jsonb END
        FROM i JOIN k USING (n) WHERE r.pk = k.pk RETURNING k.n, r.pk),
    w AS (SELECT n, r.pk, k.before FROM r JOIN k USING (n)),{
        _children("i.last_sequence = w.before", chunks, requests, questions)
    }"""


def _children(again: str, chunks: str, requests: str, questions: str) -> str:
    numbered = requests.replace(") AS t (", ") WITH ORDINALITY AS t (").replace("request)", "request, place)")
    return _CHILDREN.format(again=again, chunks=chunks, requests=numbered, questions=questions)


INSERT_RUNS: Final = _new_runs()
"""Write the first commits of new runs. Returns (n, pk) of those that were written."""

UPDATE_RUNS: Final = _later_commits()
"""Write later commits. Returns (n, pk) of those whose claim still held."""


def values(group: Sequence[Row], *, new: bool) -> list[list[Any]]:
    """Return the arrays for `INSERT_RUNS` or `UPDATE_RUNS`."""
    columns = _NEW if new else _LATER
    arrays = [[column.value(n, item) for n, item in enumerate(group)] for column in columns]
    chunks: list[tuple[Any, ...]] = []
    requests: list[tuple[Any, ...]] = []
    questions: list[tuple[Any, ...]] = []
    for n, item in enumerate(group):
        for chunk in item.commit.chunks:
            chunks.append((n, chunk.first, chunk.last, chunk_checksum(RUN, chunk), chunk.public, chunk.internal))
        for request in item.commit.requests:
            text = encode_request(request)
            requests.append((n, request.at, request_checksum(RUN, text), text))
        for number, question in item.pending.items() if item.row.ended_at is None else ():
            questions.append((n, number, 0 if question is None else question_checksum(RUN, number, question), question))
    arrays += _transposed(chunks, len(_CHUNK))
    arrays += _transposed(requests, len(_REQUEST))
    arrays += _transposed(questions, len(_QUESTION))
    return arrays


def _transposed(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
