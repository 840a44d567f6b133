"""The statement that writes a group of commits: first ones of new runs, later ones, or both.

It is a transaction of its own, so a process that stops holds no lock. It has only the parts that its group needs: each
part takes time to set up, whether it finds rows or not.

Fencing is inside: a row whose token or version moved on is not written and does not come back, and harms no other row
of the group. Rows are locked in the order of their pks, so that groups of two processes cannot deadlock: the arrays
have that order, and `connect_for_writes` has PostgreSQL look up one after the other in the index. New runs are written
all or none: the statement fails where one of them exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
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
from stepwire.server.store.records import Commit, Quota, code_of

__all__ = ["RUN", "Row", "statement_for"]

RUN: Final = 0
"""What checksums take for the run: its pk is not known before a new run is written."""


class Row(NamedTuple):
    """A commit as it is written.

    Attributes:
        commit: The commit.
        row: Its record, encoded.
        pending: Its changes of the open questions; None for those that are closed.
        version: Counts the commits of its run.
        nonce: Tells a new run from all others.
        owner: The replica that creates a run.
        again: Whether the commit before it has the same sequence.
        asked: Whether the run may have rows of questions.
        quota: How many unfinished runs the caller of a new run may have; None for no bound.
    """

    commit: Commit
    row: RecordRow
    pending: Mapping[int, str | None]
    version: int
    nonce: int = 0
    owner: int | None = None
    again: bool = False
    asked: bool = False
    quota: Quota | None = None


class _Column(NamedTuple):
    name: str
    type: str
    value: Any
    """What makes the column's value from (number, Row)."""


class _Shape(NamedTuple):
    """Which parts a group needs: those for new runs, later commits, further chunks of a commit, and so on."""

    new: bool
    quotas: bool
    later: bool
    chunks: bool
    requests: bool
    questions: bool
    closing: bool


def _delta_checksum(_: int, item: Row) -> int:
    return delta_checksum(RUN, item.row.last_sequence, item.commit.full, item.commit.delta)


def _of_chunk(value: Any) -> Any:
    """Return what makes a value from the first chunk of a commit. Most commits have one."""
    return lambda _, item: value(item.commit.chunks[0]) if item.commit.chunks else None


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
    _Column("first", "int8", _of_chunk(lambda chunk: chunk.first)),
    _Column("last", "int8", _of_chunk(lambda chunk: chunk.last)),
    _Column("chunk_checksum", "int8", _of_chunk(lambda chunk: chunk_checksum(RUN, chunk))),
    _Column("public", "bytea", _of_chunk(lambda chunk: chunk.public)),
    _Column("internal", "bytea", _of_chunk(lambda chunk: chunk.internal)),
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
_NEW_COUNTED = (
    *_NEW,
    _Column("most", "int8", lambda n, item: item.quota and item.quota.most),
    _Column("allowance", "int8", lambda n, item: item.quota and item.quota.allowance and item.quota.allowance.id),
)
_LATER = (
    *_BOTH,
    _Column("pk", "int8", lambda n, item: item.commit.claim.handle),
    _Column("token", "int8", lambda n, item: item.commit.claim.token),
    _Column("again", "bool", lambda n, item: item.again),
)
_CHUNK = (
    *(("n", "int4"), ("first", "int8"), ("last", "int8"), ("checksum", "int8")),
    *(("public", "bytea"), ("internal", "bytea")),
)
"""Chunks of a commit after its first one."""
_REQUEST = (("n", "int4"), ("at", "float8"), ("checksum", "int8"), ("request", "text"))
_QUESTION = (("n", "int4"), ("number", "int8"), ("checksum", "int8"), ("question", "text"))
"""Questions that were asked or changed; a question is NULL when it was answered or withdrawn."""
_CLOSING = (("n", "int4"),)

_KEPT: Final = """nonce, version, namespace, run_id, workflow, status, created_at, updated_at, ended_at, wake_at,
        last_sequence, first_available, labels, start_request_id, start_digest, info, terms, began, checksum, owner,
        principal, code"""
# A subquery for a value is looked up in the index; NOT EXISTS may be planned as a hash of the whole table.
_NOT_PRUNED: Final = """start_request_id = '' OR (SELECT true FROM pruned_starts p
            WHERE p.namespace = i.namespace AND p.request_id = i.start_request_id) IS NULL"""
_GIVEN: Final = f"i AS (SELECT nextval('runs_pk_seq') AS pk, false AS again, i.* FROM {{rows}} WHERE {_NOT_PRUNED}),"
# Locks are taken in one order, and for a count before those for allowances, or two groups could wait for each other.
_COUNTED: Final = f"""given AS MATERIALIZED (SELECT i.*,
            row_number() OVER (PARTITION BY namespace, principal, allowance ORDER BY n) AS place,
            count(*) OVER (PARTITION BY namespace, principal, allowance) AS wanted
        FROM {{rows}} WHERE {_NOT_PRUNED}),
    callers AS MATERIALIZED (SELECT namespace, principal, allowance, most, wanted FROM given
        WHERE most IS NOT NULL AND place = 1
        ORDER BY hashtext(namespace || '/' || principal), namespace, principal, allowance NULLS FIRST),
    rooms AS MATERIALIZED (SELECT namespace, principal, allowance,
        may_start(namespace, principal, most, wanted, allowance) AS room FROM callers),
    i AS (SELECT nextval('runs_pk_seq') AS pk, false AS again, g.* FROM given g WHERE most IS NULL OR place <=
        (SELECT room FROM rooms x WHERE x.namespace = g.namespace AND x.principal = g.principal
            AND x.allowance IS NOT DISTINCT FROM g.allowance)),"""
_NEW_RUNS: Final = f"""{{given}}
    r AS (INSERT INTO runs (pk, token, label_set, {_KEPT}) OVERRIDING SYSTEM VALUE
        SELECT pk, 1, labels::jsonb, {_KEPT} FROM i)"""
_CHANGED: Final = "version, status, updated_at, ended_at, wake_at, last_sequence, labels, info, terms, checksum, code"
_SETS: Final = ", ".join(f"{name} = i.{name}" for name in _CHANGED.split(", "))
# A group may hold two commits of one run: one of a claim that was fenced off, and one of the claim that did it. So rows
# that passed are known by their place in the group, never by their run.
_LATER_COMMITS: Final = f"""w AS (UPDATE runs r SET {_SETS},
            owner = CASE WHEN i.ended_at IS NULL THEN r.owner END,
            label_set = CASE WHEN i.labels = r.labels THEN r.label_set ELSE i.labels::jsonb END
        FROM {{rows}} WHERE r.pk = i.pk AND r.token = i.token AND r.version = i.version - 1
        RETURNING i.n, i.pk, i.again, i.updated_at, i.last_sequence, i.is_full, i.delta_checksum, i.delta, i.first,
            i.last, i.chunk_checksum, i.public, i.internal)"""
_COMMITS: Final = ("pk, last_sequence, updated_at, is_full, again, delta_checksum, delta", "")
_CHUNKS: Final = ("pk, first, last, chunk_checksum, public, internal", " WHERE first IS NOT NULL")


def statement_for(group: Sequence[Row]) -> tuple[str, list[list[Any]]]:
    """Return the statement that writes a group, and its arrays.

    It returns the place in the group and the run's pk of each commit that was written.
    """
    new: list[tuple[int, Row]] = []
    later: list[tuple[int, Row]] = []
    chunks: list[tuple[Any, ...]] = []
    requests: list[tuple[Any, ...]] = []
    questions: list[tuple[Any, ...]] = []
    closing: list[tuple[Any, ...]] = []
    for n, item in enumerate(group):
        commit = item.commit
        (new if commit.claim is None else later).append((n, item))
        for chunk in commit.chunks[1:]:
            chunks.append((n, chunk.first, chunk.last, chunk_checksum(RUN, chunk), chunk.public, chunk.internal))
        for request in commit.requests:
            text = encode_request(request)
            requests.append((n, request.at, request_checksum(RUN, text), text))
        if item.row.ended_at is None:
            for number, question in item.pending.items():
                checksum = 0 if question is None else question_checksum(RUN, number, question)
                questions.append((n, number, checksum, question))
        elif item.asked and commit.claim is not None:
            closing.append((n,))
    later.sort(key=_pk)
    arrays: list[list[Any]] = []
    quotas = any(item.quota is not None for _, item in new)
    for columns, rows in ((_NEW_COUNTED if quotas else _NEW, new), (_LATER, later)):
        if rows:
            arrays += [[column.value(n, item) for n, item in rows] for column in columns]
    for some in (chunks, requests, questions, closing):
        arrays += [list(column) for column in zip(*some, strict=True)]
    shape = _Shape(*map(bool, (new, quotas, later, chunks, requests, questions, closing)))
    return _statement(shape), arrays


def _pk(place: tuple[int, Row]) -> int:
    claim = place[1].commit.claim
    assert claim is not None
    return claim.handle


class _Arrays:
    """Number the parameters of a statement."""

    def __init__(self) -> None:
        self._count = 0

    def unnest(self, name: str, columns: Sequence[tuple[str, str]], *, ordinality: bool = False) -> str:
        """Return arrays as rows."""
        arrays = ", ".join(f"${self._count + place}::{kind}[]" for place, (_, kind) in enumerate(columns, 1))
        self._count += len(columns)
        names = ", ".join([name for name, _ in columns] + ["place"] * ordinality)
        return f"unnest({arrays}){' WITH ORDINALITY' * ordinality} AS {name} ({names})"


@cache
def _statement(shape: _Shape) -> str:
    arrays, parts = _Arrays(), []
    new = _NEW_RUNS.format(given=_COUNTED if shape.quotas else _GIVEN)
    new_columns = _NEW_COUNTED if shape.quotas else _NEW
    for part, columns, wanted in ((new, new_columns, shape.new), (_LATER_COMMITS, _LATER, shape.later)):
        if wanted:
            parts.append(part.format(rows=arrays.unnest("i", [(column.name, column.type) for column in columns])))
    written = ["i"] * shape.new + ["w"] * shape.later

    def of_all(columns: str, where: str = "") -> str:
        return " UNION ALL ".join(f"SELECT {columns} FROM {name}{where}" for name in written)

    runs = f"({of_all('n, pk')}) AS x"
    parts.append(f'c AS (INSERT INTO commits (run, sequence, at, "full", again, checksum, delta) {of_all(*_COMMITS)})')
    log = of_all(*_CHUNKS)
    if shape.chunks:
        log += f""" UNION ALL SELECT pk, t.first, t.last, t.checksum, t.public, t.internal
            FROM {arrays.unnest("t", _CHUNK)} JOIN {runs} USING (n)"""
    parts.append(f"l AS (INSERT INTO log (run, first, last, checksum, public, internal) {log})")
    if shape.requests:
        parts.append(f"""q AS (INSERT INTO requests (run, at, checksum, request) SELECT pk, at, checksum, request
            FROM {arrays.unnest("t", _REQUEST, ordinality=True)} JOIN {runs} USING (n) ORDER BY place)""")
    if shape.questions:
        parts.append(f"""asked AS MATERIALIZED (SELECT pk, number, checksum, question
            FROM {arrays.unnest("t", _QUESTION)} JOIN {runs} USING (n)),
        a AS (INSERT INTO questions (run, number, checksum, question)
            SELECT pk, number, checksum, question FROM asked WHERE question IS NOT NULL
            ON CONFLICT (run, number) DO UPDATE SET checksum = excluded.checksum, question = excluded.question),
        d AS (DELETE FROM questions q USING asked WHERE asked.question IS NULL
            AND q.run = asked.pk AND q.number = asked.number)""")
    if shape.closing:
        parts.append(f"""e AS (DELETE FROM questions q USING {arrays.unnest("t", _CLOSING)} JOIN w USING (n)
            WHERE q.run = w.pk)""")
    return "WITH " + ",\n    ".join(parts) + "\n" + of_all("n, pk")
