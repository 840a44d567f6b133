"""Write the runs of another store into PostgreSQL, all of them in one transaction.

So a move that is interrupted has moved nothing, and a replica never sees half of one. Replicas cannot join meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import asyncpg

from stepwire.server.store.encoding import (
    RECORD_COLUMNS,
    began_checksum,
    chunk_checksum,
    delta_checksum,
    question_checksum,
    record_checksum,
    request_checksum,
)
from stepwire.server.store.errors import StoreLockedError
from stepwire.server.store.postgres.commit_statements import RUN
from stepwire.server.store.postgres.connections import LOST, not_accepted, refused, unavailable, unreachable
from stepwire.server.store.postgres.migration import migrate
from stepwire.server.store.records import RunKey, WorkflowPause, code_of
from stepwire.server.store.sqlite.export import Export, StoredRun

__all__ = ["Import"]

_CONNECT_SECONDS: Final = 10.0
_RUN_COLUMNS: Final = (
    *RECORD_COLUMNS.split(", "),
    *("pk", "token", "version", "nonce", "label_set", "began", "checksum", "principal", "code"),
)
_LOOK_SECONDS: Final = 4.0
"""How long the beats of replicas are watched: those of living ones move twice a second."""


class Import:
    """A transaction that brings runs in; a context manager, which takes everything back unless `finish` was called.

    Methods raise StoreError when PostgreSQL refuses something, StoreUnavailableError when it cannot be reached.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection[Any]
        self._transaction: Any = None

    async def __aenter__(self) -> Import:
        """Connect, make or migrate the tables, and begin.

        Raises:
            StoreLockedError: Replicas use the database.
            StoreError: It cannot be used.
        """
        try:
            await migrate(self._dsn)
            self._connection = await asyncpg.connect(self._dsn, timeout=_CONNECT_SECONDS)
        except LOST as error:
            raise unreachable(error, self._dsn) from error
        except asyncpg.PostgresError as error:
            raise not_accepted(error) from error
        try:
            await self._refuse_replicas()
            self._transaction = self._connection.transaction()
            await self._transaction.start()
            await self._connection.execute("LOCK TABLE replicas IN EXCLUSIVE MODE")
        except BaseException:  # `__aexit__` is not called for what fails in here
            await self._connection.close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        """Take back what is not finished, and disconnect."""
        if self._transaction is not None:
            self._connection.terminate()
        else:
            await self._connection.close()

    async def _refuse_replicas(self) -> None:
        before = await self._connection.fetch("SELECT id, address, beat FROM replicas")
        if not before:
            return
        await asyncio.sleep(_LOOK_SECONDS)
        after = {row["id"]: row["beat"] for row in await self._connection.fetch("SELECT id, beat FROM replicas")}
        living = [row["address"] for row in before if after.get(row["id"], row["beat"]) != row["beat"]]
        if living:
            raise StoreLockedError(f"replicas use the database: stop {', '.join(sorted(living))} first")

    async def present(self, runs: Sequence[StoredRun]) -> tuple[set[RunKey], dict[RunKey, str]]:
        """Look which runs the database has.

        Returns:
            Those that are these very runs, from an earlier move; and of those that are in the way, what is.
        """
        rows = await self._connection.fetch(
            """SELECT t.n, r.workflow, r.created_at, r.start_digest FROM unnest($1::text[], $2::text[]) WITH ORDINALITY
            AS t (namespace, run_id, n) JOIN runs r USING (namespace, run_id)""",
            [run.row.namespace for run in runs],
            [run.row.run_id for run in runs],
        )
        same: set[RunKey] = set()
        in_the_way: dict[RunKey, str] = {}
        for number, *began in rows:
            run = runs[number - 1]
            if began == [run.row.workflow, run.row.created_at, run.row.start_digest]:
                same.add(run.record.key)
            else:
                in_the_way[run.record.key] = f"the database has another run {run.row.run_id}"
        starts = [run for run in runs if run.row.start_request_id and run.record.key not in same]
        rows = await self._connection.fetch(
            """SELECT t.n FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (namespace, request_id, n)
            JOIN runs r ON r.namespace = t.namespace AND r.start_request_id = t.request_id
                AND r.start_request_id <> ''""",
            [run.row.namespace for run in starts],
            [run.row.start_request_id for run in starts],
        )
        for (number,) in rows:
            run = starts[number - 1]
            in_the_way.setdefault(
                run.record.key, f"the request_id that started run {run.row.run_id} started another run in the database"
            )
        return same, in_the_way

    async def add(self, source: Export, runs: Sequence[StoredRun]) -> None:
        """Write runs with everything that belongs to them."""
        try:
            pks = await self._connection.fetch(
                "SELECT nextval(pg_get_serial_sequence('runs', 'pk')) FROM generate_series(1, $1)", len(runs)
            )
            placed = [(pk, run) for (pk,), run in zip(pks, runs, strict=True)]
            await self._copy("runs", _RUN_COLUMNS, (_run_row(pk, run) for pk, run in placed))
            await self._copy(
                "commits",
                ("run", "sequence", "at", "full", "again", "checksum", "delta"),
                (row for pk, run in placed for row in _commit_rows(pk, run, source)),
            )
            await self._copy(
                "log",
                ("run", "first", "last", "checksum", "public", "internal"),
                (row for pk, run in placed for row in _chunk_rows(pk, run, source)),
            )
            await self._copy(
                "requests",
                ("run", "at", "checksum", "request"),
                (
                    (pk, at, request_checksum(RUN, text), text)
                    for pk, run in placed
                    for at, text in source.requests(run)
                ),
            )
            await self._copy(
                "questions",
                ("run", "number", "checksum", "question"),
                (
                    (pk, number, question_checksum(RUN, number, text), text)
                    for pk, run in placed
                    for number, text in run.questions
                ),
            )
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            raise refused(error) from error

    async def _copy(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        await self._connection.copy_records_to_table(table, columns=columns, records=rows)

    async def add_rest(
        self,
        pauses: Iterable[WorkflowPause],
        starts: Iterable[tuple[str, str, str, str, float]],
        gaps: Iterable[tuple[float, float]],
    ) -> None:
        """Write what belongs to no run, where the database has nothing of its own of it."""
        execute = self._connection.executemany
        try:
            await execute("INSERT INTO pauses VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING", pauses)
            await execute("INSERT INTO pruned_starts VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", starts)
            await execute(
                "INSERT INTO gaps SELECT $1::float8, $2::float8 WHERE NOT EXISTS"
                " (SELECT 1 FROM gaps WHERE began = $1 AND ended = $2)",
                gaps,
            )
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            raise refused(error) from error

    async def share_secret(self, name: str, value: bytes) -> bool:
        """Keep a secret unless the database has one of this name; return whether it has this one now."""
        await self._connection.execute("INSERT INTO secrets VALUES ($1, $2) ON CONFLICT DO NOTHING", name, value)
        return bool(await self._connection.fetchval("SELECT value = $2 FROM secrets WHERE name = $1", name, value))

    async def finish(self) -> None:
        """Make everything durable at once.

        Raises:
            StoreUnavailableError: The connection was lost; nobody knows whether it is. Move again to find out.
        """
        try:
            await self._transaction.commit()
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            raise refused(error) from error
        self._transaction = None


def _run_row(pk: int, run: StoredRun) -> tuple[Any, ...]:
    row, info = run.row, run.record.info
    began, checksum = began_checksum(RUN, row), record_checksum(RUN, row)
    rest = (pk, 1, 1, random.getrandbits(62), row.labels, began, checksum, info.get("principal", ""), code_of(info))
    # SQLite gives back what it was given; asyncpg takes no integer for a float.
    created, updated = float(row.created_at), float(row.updated_at)
    ended = None if row.ended_at is None else float(row.ended_at)
    wake = None if row.wake_at is None else float(row.wake_at)
    return (*row._replace(created_at=created, updated_at=updated, ended_at=ended, wake_at=wake), *rest)


def _commit_rows(pk: int, run: StoredRun, source: Export) -> Iterator[tuple[Any, ...]]:
    for each in source.commits(run):
        checksum = delta_checksum(RUN, each.sequence, each.full, each.delta)
        yield pk, each.sequence, float(each.at), each.full, each.again, checksum, each.delta


def _chunk_rows(pk: int, run: StoredRun, source: Export) -> Iterator[tuple[Any, ...]]:
    for chunk in source.chunks(run):
        yield pk, chunk.first, chunk.last, chunk_checksum(RUN, chunk), chunk.public, chunk.internal
