"""Find runs in the SQLite store: by the request that started them, in pages, and those that may be pruned."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from stepwire.server.store.encoding import CHECKED_COLUMNS, RecordRow, read_record
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import LIST_BYTES
from stepwire.server.store.records import TERMINAL, PrunedStart, RunKey, RunQuery, RunRecord, Status
from stepwire.server.store.sqlite.run_queries import STORED
from stepwire.server.store.terms import CLOSE, TELL, term_parts

log = logging.getLogger(__name__)

COUNTED = 10_000
"""Rows of an index that are counted at most to find the shorter one: that takes about a millisecond."""

STATUSES = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.PAUSED, Status.BLOCKED, *sorted(TERMINAL))


def find_start(connection: sqlite3.Connection, namespace: str, request_id: str) -> RunRecord | PrunedStart | None:
    """Return the run that was started with this request_id, or what is kept of it after it was pruned."""
    row = connection.execute(
        f"SELECT {STORED} FROM runs WHERE namespace = ? AND start_request_id = ? AND start_request_id != ''",
        (namespace, request_id),
    ).fetchone()
    if row:
        return read_record(row)
    kept = connection.execute(
        "SELECT run_id, digest, created_at FROM pruned_starts WHERE namespace = ? AND request_id = ?",
        (namespace, request_id),
    ).fetchone()
    return PrunedStart(RunKey(namespace, kept[0]), kept[1], kept[2]) if kept else None


def list_runs(connection: sqlite3.Connection, query: RunQuery, damaged: list[RunKey]) -> list[RunRecord]:
    """Return a page of runs, newest first; see `RunStore.list`.

    A damaged record is left out and logged: it must not hide the other runs. Its key is added to `damaged`.
    """
    rows: list[Any] = []
    end: tuple[float, str] | None = None  # the oldest run of the page: what is behind it was not read everywhere
    for cursor in _cursors(connection, query):
        size = 0
        for row in cursor:
            rows.append(row)
            size += len(row[_INFO])
            if size >= LIST_BYTES:
                end = max(end or _place(row), _place(row))
                cursor.close()
                break
    rows.sort(key=_place, reverse=True)
    records: list[RunRecord] = []
    size = 0
    for row in rows[: query.limit]:
        if size >= LIST_BYTES or (end is not None and _place(row) < end):
            break
        size += len(row[_INFO])
        try:
            records.append(read_record(row))
        except StoreCorruptError as error:
            log.error("a damaged run is left out of a list: %s", error)
            damaged.append(RunKey(query.namespace, row[_RUN_ID]))
    return records


def terms_of(connection: sqlite3.Connection, key: RunKey, name: str) -> list[str]:
    """Return the values of the terms of a name of a run. It walks the index of that name: for damaged runs alone."""
    rows = connection.execute(
        "SELECT term FROM terms WHERE namespace = ? AND term >= ? AND term < ? AND run_id = ?",
        (key.namespace, f"{name}=", f"{name}>", key.run_id),
    )
    return [term_parts(term)[1] for (term,) in rows]


_INFO = RecordRow._fields.index("info")
_CREATED_AT = RecordRow._fields.index("created_at")
_RUN_ID = RecordRow._fields.index("run_id")


def _place(row: Any) -> tuple[float, str]:
    return row[_CREATED_AT], row[_RUN_ID]


_STORED = ", ".join(f"runs.{name}" for name in CHECKED_COLUMNS.split(", ")) + STORED.removeprefix(CHECKED_COLUMNS)


class Part(NamedTuple):
    """A part of a query that has an index: which runs meet it.

    Attributes:
        table: The table with the index.
        where: The condition on the table.
        other: The condition while another index is walked. A plus keeps SQLite from taking an index in another order.
        values: The values of both.
        ordered: Whether the index has these runs in the order of a list.
    """

    table: str
    where: str
    other: str
    values: tuple[Any, ...]
    ordered: bool


def parts_of(query: RunQuery) -> list[Part]:
    """Return the parts of a query, but for status and workflow."""
    namespace = query.namespace
    parts: list[Part] = []
    for label in query.labels.items():
        where = "{0}.namespace = ? AND {0}.name = ? AND {0}.value = ?"
        parts.append(Part("labels", where.format("labels"), where.format("other"), (namespace, *label), True))
    for term in query.terms:
        where = "{0}.namespace = ? AND {0}.term = ?"
        parts.append(Part("terms", where.format("terms"), where.format("other"), (namespace, term), True))
    if query.run_id_prefix:
        where = "runs.namespace = ? AND {0}runs.run_id >= ? AND {0}runs.run_id < ?"
        bounds = (query.run_id_prefix, query.prefix_end)
        parts.append(Part("runs", where.format(""), where.format("+"), (namespace, *bounds), False))
    ends = [(bound, sign) for bound, sign in ((query.ended_after, ">"), (query.ended_before, "<")) if bound is not None]
    if ends:
        where = "{0}runs.ended_at IS NOT NULL" + "".join(f" AND {{0}}runs.ended_at {sign} ?" for _, sign in ends)
        where += " AND +runs.namespace = ?"
        values = (*(bound for bound, _ in ends), namespace)
        parts.append(Part("runs", where.format(""), where.format("+"), values, False))
    return parts


def _cursors(connection: sqlite3.Connection, query: RunQuery) -> Iterator[sqlite3.Cursor]:
    """Walk the index of the part of the query that the fewest runs meet; of each status, if that is the status."""
    parts = parts_of(query)
    counts = {part: _count(connection, part) for part in parts}
    parts.sort(key=lambda part: (counts[part], not part.ordered))
    if parts:
        # Runs that come out of order must be few enough to be sorted.
        chosen = next((part for part in parts if part.ordered or counts[part] < COUNTED), None)
        if chosen is not None and (
            not query.statuses or counts[chosen] <= _count_status(connection, query) or not chosen.ordered
        ):
            yield _walk(connection, query, chosen, [part for part in parts if part is not chosen])
            return
    yield from rows_by_status(connection, query, parts)


def rows_by_status(connection: sqlite3.Connection, query: RunQuery, parts: Sequence[Part]) -> Iterator[sqlite3.Cursor]:
    """Walk an index of runs for each status: in order, however few runs have it. The parts are looked up."""
    where, values = _conditions(query, "runs", parts)
    statement = (
        f"SELECT {_STORED} FROM runs WHERE runs.namespace = ? AND runs.status = ?{where}"
        " ORDER BY runs.created_at DESC, runs.run_id DESC LIMIT ?"
    )
    for status in dict.fromkeys(query.statuses or STATUSES):
        yield connection.execute(statement, (query.namespace, status, *values, query.limit))


def _walk(connection: sqlite3.Connection, query: RunQuery, chosen: Part, others: Sequence[Part]) -> sqlite3.Cursor:
    """Walk the index of one part."""
    where, values = _conditions(query, chosen.table, others)
    if query.statuses:
        where += f" AND runs.status IN ({', '.join('?' * len(query.statuses))})"
        values += query.statuses
    if chosen.ordered:
        table = chosen.table
        statement = (
            f"SELECT {_STORED} FROM {table} CROSS JOIN runs ON runs.pk = {table}.run WHERE {chosen.where}{where}"
            f" ORDER BY {table}.created_at DESC, {table}.run_id DESC LIMIT ?"
        )
    else:  # the places alone are sorted, not what the runs hold
        statement = (
            f"SELECT {_STORED} FROM runs WHERE runs.pk IN (SELECT runs.pk FROM runs WHERE {chosen.where}{where}"
            " ORDER BY runs.created_at DESC, runs.run_id DESC LIMIT ?)"
        )
    return connection.execute(statement, (*chosen.values, *values, query.limit))


def _conditions(query: RunQuery, walked: str, parts: Sequence[Part]) -> tuple[str, list[Any]]:
    """Return the conditions, with their values, that a run must meet, but for namespace and status.

    Args:
        query: What is looked for.
        walked: The table whose index is walked: conditions on its columns end the walk early.
        parts: The parts to look up.
    """
    where = ""
    values: list[Any] = []
    workflow = "runs" if walked == "labels" else walked  # labels have no workflow
    if query.workflow:
        where += f" AND {workflow}.workflow = ?"
        values.append(query.workflow)
    if query.workflows is not None:
        where += f" AND {workflow}.workflow IN ({', '.join('?' * len(query.workflows))})"
        values += query.workflows
    if query.created_after is not None:
        where += f" AND {walked}.created_at > ?"
        values.append(query.created_after)
    created_before = [bound for bound in (query.created_before, query.ended_before) if bound is not None]
    if created_before:  # a run ends after it was created
        where += f" AND {walked}.created_at < ?"
        values.append(min(created_before))
    if query.before is not None:
        where += f" AND ({walked}.created_at, {walked}.run_id) < (?, ?)"
        values += query.before
    for part in parts:
        if part.table == "runs":
            where += f" AND {part.other}"
        else:
            where += (
                f" AND EXISTS (SELECT 1 FROM {part.table} AS other WHERE {part.other}"
                f" AND other.created_at = {walked}.created_at AND other.run_id = {walked}.run_id)"
            )
        values += part.values
    return where, values


def _count(connection: sqlite3.Connection, part: Part) -> int:
    """Count the runs that meet a part, up to COUNTED."""
    statement = f"SELECT count(*) FROM (SELECT 1 FROM {part.table} WHERE {part.where} LIMIT ?)"
    (count,) = connection.execute(statement, (*part.values, COUNTED)).fetchone()
    return int(count)


def _count_status(connection: sqlite3.Connection, query: RunQuery) -> int:
    """Count the runs that have one of the statuses, up to COUNTED."""
    where, values = "", [query.namespace, json.dumps(query.statuses)]
    if query.workflow:
        where = " AND workflow = ?"
        values.append(query.workflow)
    (count,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM runs WHERE namespace = ? AND status IN (SELECT value FROM json_each(?))"
        f"{where} LIMIT ?)",
        (*values, COUNTED),
    ).fetchone()
    return int(count)


_ALL_DONE = (
    "NOT EXISTS (SELECT 1 FROM terms AS t WHERE t.namespace = runs.namespace AND t.term IN"
    f" ('{TELL}', '{CLOSE}') AND t.created_at = runs.created_at AND t.run_id = runs.run_id)"
)
"""Nothing is to be done still about the ended run."""


def prunable(
    connection: sqlite3.Connection,
    workflow: str | None,
    ended_before: float | None,
    keep_last: int | None,
    limit: int,
) -> list[tuple[RunKey, int]]:
    """Return ended runs that may be pruned, with their pks, in the order in which they ended.

    The conditions are those of `RunStore.prune`.
    """
    values: dict[str, Any] = {"limit": limit}
    runs, where = "runs", "ended_at IS NOT NULL"
    if workflow is not None:
        where += " AND workflow = :workflow"
        values["workflow"] = workflow
    if keep_last is not None:
        runs = (
            "(SELECT namespace, run_id, pk, created_at, ended_at, row_number() OVER (PARTITION BY namespace, workflow"
            f" ORDER BY ended_at DESC, pk DESC) AS place FROM runs WHERE {where}) AS runs"
        )
        where = "place > :keep_last"
        values["keep_last"] = keep_last
    if ended_before is not None:
        where += " AND ended_at < :ended_before"
        values["ended_before"] = ended_before
    where += f" AND {_ALL_DONE}"
    rows = connection.execute(
        f"SELECT namespace, run_id, pk FROM {runs} WHERE {where} ORDER BY ended_at, pk LIMIT :limit", values
    )
    return [(RunKey(namespace, run_id), pk) for namespace, run_id, pk in rows]
