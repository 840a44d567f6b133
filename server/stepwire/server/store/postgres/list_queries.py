"""Find pages of runs in PostgreSQL.

What a filter meets is skewed more often than not: the failed runs are all old, or one workflow has nearly all runs.
PostgreSQL's planner takes every condition for evenly spread and independent of the others, and right after a restore
it has no statistics at all. So the index is chosen here, by counting, and each statement leaves the planner little
choice:

- Each index that is walked has columns that are equal to values, and then the order of a list. Groups of values are
  walked one by one: an index has no order for a column that is equal to any of several values.
- Where several indexes would do, the best one has an expression, which the others do not have.
- All other conditions are inside a CASE. The planner takes no index for it, and takes it for true of half of the runs:
  so it never expects to read the whole index and to be better off with a sort.
- What is looked up in another table is a scalar subquery, which is never turned into a join.
- The session has no bitmap scans (see `open_pool`): they read all that a filter meets, to return a page of it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from stepwire.server.store.damage import Damage
from stepwire.server.store.encoding import read_record
from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.limits import LIST_BYTES
from stepwire.server.store.postgres.run_queries import COLUMNS, Fetch
from stepwire.server.store.records import RunKey, RunQuery, RunRecord
from stepwire.server.store.terms import term_parts

__all__ = ["list_runs", "terms_of"]

log = logging.getLogger(__name__)

COUNTED: Final = 1_000
"""Entries of an index that are counted at most to find the sparsest one: that takes about a millisecond."""

SORTED: Final = 2_000
"""Runs that come out of order are found and sorted if they are fewer."""

GROUPS: Final = 64
"""Places of an index that are walked for one page at most."""


class Walk(NamedTuple):
    """An index that has the runs of each group in the order of a list.

    Attributes:
        table: The table.
        columns: The leading columns of the index after the namespace. `created_at` and `run_id` follow them.
        groups: The values of these columns.
    """

    table: str
    columns: tuple[str, ...]
    groups: Sequence[tuple[str, ...]]


class Range(NamedTuple):
    """A range of an index that has runs in another order.

    Attributes:
        column: `run_id` or `ended_at`.
        begin: Where it begins; a run_id itself is in it.
        end: The value that it ends before.
    """

    column: str
    begin: Any
    end: Any


_CREATED: Final = Walk("runs", (), [()])


async def list_runs(fetch: Fetch, query: RunQuery, damage: Damage) -> list[RunRecord]:
    """Return a page of runs, newest first; see `RunStore.list`.

    A damaged record is left out and logged, and told of.
    """
    chosen = await _choose(fetch, query)
    page = _Statement(query)
    found = page.walk(chosen) if isinstance(chosen, Walk) else page.range(chosen)
    rows = await fetch(
        f"""WITH page AS MATERIALIZED ({found} ORDER BY created_at DESC, run_id DESC LIMIT {int(query.limit)})
        SELECT {COLUMNS} FROM (SELECT r.*, sum(length(info)) OVER (ORDER BY r.created_at DESC, r.run_id DESC)
            - length(info) AS bytes_before FROM page
            CROSS JOIN LATERAL (SELECT * FROM runs WHERE runs.pk = page.pk OFFSET 0) AS r) AS runs
        WHERE bytes_before < {LIST_BYTES} ORDER BY created_at DESC, run_id DESC""",
        *page.values,
    )
    records = []
    for row in rows:
        try:
            records.append(read_record(row))
        except StoreCorruptError as error:
            log.error("a damaged run is left out of a list: %s", error)
            damage.found([RunKey(query.namespace, row["run_id"])])
    return records


async def terms_of(fetch: Fetch, key: RunKey, name: str) -> list[str]:
    """Return the values of the terms of a name of a run. It walks the index of that name: for damaged runs alone."""
    rows = await fetch(
        "SELECT term FROM terms WHERE namespace = $1 AND term >= $2 AND term < $3 AND run_id = $4",
        key.namespace,
        f"{name}=",
        f"{name}>",
        key.run_id,
    )
    return [term_parts(row[0])[1] for row in rows]


def _ways(query: RunQuery) -> list[Walk | Range]:
    """Return the indexes that lead to the runs of a query, but for the one that has all runs."""
    found: list[Walk | Range] = [Walk("terms", ("term",), [(term,)]) for term in query.terms]
    found += [Walk("labels", ("name", "value"), [label]) for label in query.labels.items()]
    workflows = [query.workflow] if query.workflow else query.workflows
    if workflows is not None and query.statuses:
        pairs = dict.fromkeys((workflow, status) for workflow in workflows for status in query.statuses)
        found.append(Walk("runs", ("workflow", "status"), list(pairs)))
    elif workflows is not None:
        found.append(Walk("runs", ("workflow",), [(workflow,) for workflow in dict.fromkeys(workflows)]))
    elif query.statuses:
        found.append(Walk("runs", ("status",), [(status,) for status in dict.fromkeys(query.statuses)]))
    if query.run_id_prefix:
        found.append(Range("run_id", query.run_id_prefix, query.prefix_end))
    if query.ended_after is not None or query.ended_before is not None:
        after = -math.inf if query.ended_after is None else query.ended_after
        found.append(Range("ended_at", after, math.inf if query.ended_before is None else query.ended_before))
    return [way for way in found if isinstance(way, Range) or 0 < len(way.groups) <= GROUPS]


async def _choose(fetch: Fetch, query: RunQuery) -> Walk | Range:
    """Return the index with the fewest entries to read: the first ones of a sparse index reach far back in time."""
    found = _ways(query)
    if not found:
        return _CREATED
    if len(found) == 1 and isinstance(found[0], Walk):
        return found[0]
    count = _Statement(query)
    counts = await fetch(" UNION ALL ".join(count.count(way) for way in found), *count.values)
    usable = [
        (-math.inf if all_read else oldest, entries, len(way.groups) if isinstance(way, Walk) else 0, place)
        for place, (way, (all_read, entries, oldest)) in enumerate(zip(found, counts, strict=True))
        if isinstance(way, Walk) or all_read
    ]
    return found[min(usable)[-1]] if usable else _CREATED


class _Statement:
    """Write statements, and keep the values of their parameters."""

    def __init__(self, query: RunQuery) -> None:
        self.values: list[Any] = []
        self._query = query

    def count(self, way: Walk | Range) -> str:
        """Return what counts entries of an index up to a limit: whether these are all, and the oldest one's time."""
        if isinstance(way, Walk):
            limit, entries = COUNTED, f"{self._entries(way, '', COUNTED)} ORDER BY created_at DESC LIMIT {COUNTED}"
        else:
            limit, entries = SORTED, self._in_range(way, "", SORTED)
        return f"SELECT count(*) < {limit}, count(*), min(created_at) FROM ({entries}) AS counted"

    def walk(self, walk: Walk) -> str:
        """Return what finds the first runs of each group."""
        return self._entries(walk, self._rest(walk), self._query.limit)

    def range(self, chosen: Range) -> str:
        """Return what finds all runs in a range. Others that came since they were counted leave out none of these."""
        return self._in_range(chosen, self._rest(chosen), 2 * SORTED)

    def _entries(self, walk: Walk, rest: str, limit: int) -> str:
        namespace = self._text(self._query.namespace)
        at, run_id, after = self._bounds()
        groups = ", ".join(f"({', '.join(map(self._text, group)) or 'true'})" for group in walk.groups)
        names = ", ".join(f"c{place}" for place in range(len(walk.columns)))
        same = "".join(f" AND x.{column} = g.c{place}" for place, column in enumerate(walk.columns))
        if walk.columns == ("workflow",):
            same = " AND x.workflow || '' = g.c0"
        elif walk.columns == ("workflow", "status"):
            same = " AND x.workflow || '/' || x.status = g.c0 || '/' || g.c1"
        pk = "pk" if walk.table == "runs" else "run AS pk"
        return f"""SELECT found.* FROM (VALUES {groups}) AS g ({names or "c0"})
            CROSS JOIN LATERAL (SELECT {pk}, created_at, run_id FROM {walk.table} AS x
            WHERE x.namespace = {namespace}{same} AND (x.created_at, x.run_id) < ({at}, {run_id})
            AND x.created_at > {after}{rest}
            ORDER BY x.created_at DESC, x.run_id DESC LIMIT {int(limit)}) AS found"""

    def _in_range(self, chosen: Range, rest: str, limit: int) -> str:
        if chosen.column == "run_id":
            begin, end = self._text(chosen.begin), self._text(chosen.end)
            namespace = self._text(self._query.namespace)
            where, order = f"x.namespace = {namespace} AND x.run_id >= {begin} AND x.run_id < {end}", "x.run_id"
        else:
            begin, end = self._time(chosen.begin), self._time(chosen.end)
            where = f"x.ended_at IS NOT NULL AND x.ended_at > {begin} AND x.ended_at < {end}"
            order = "x.ended_at, x.pk"
        return f"""SELECT * FROM (SELECT pk, created_at, run_id FROM runs AS x WHERE {where}{rest}
            ORDER BY {order} LIMIT {limit}) AS found"""

    def _bounds(self) -> tuple[str, str, str]:
        """Return the place that a page begins behind, and the time of creation that it ends before."""
        query = self._query
        ends = [(bound, "") for bound in (query.created_before, query.ended_before) if bound is not None]
        at, run_id = min([*ends, *([query.before] if query.before is not None else []), (math.inf, "")])
        after = -math.inf if query.created_after is None else query.created_after
        return self._time(at), self._text(run_id), self._time(after)

    def _rest(self, way: Walk | Range) -> str:
        """Return the conditions that an index does not meet by itself."""
        query, table = self._query, way.table if isinstance(way, Walk) else "runs"
        columns = way.columns if isinstance(way, Walk) else (way.column,)
        row = "x" if table == "runs" else "r"
        where: list[str] = []
        of_run: list[str] = []
        if isinstance(way, Range):
            at, run_id, after = self._bounds()
            where += [
                f"x.namespace = {self._text(query.namespace)}",
                f"(x.created_at, x.run_id) < ({at}, {run_id})",
                f"x.created_at > {after}",
            ]
        if query.workflow and "workflow" not in columns:
            where.append(f"x.workflow = {self._text(query.workflow)}")
        if query.workflows is not None and (query.workflow or "workflow" not in columns):
            where.append(f"x.workflow = ANY({self._texts(query.workflows)})")
        if query.run_id_prefix and "run_id" not in columns:
            where.append(f"x.run_id >= {self._text(query.run_id_prefix)} AND x.run_id < {self._text(query.prefix_end)}")
        if query.statuses and "status" not in columns:
            of_run.append(f"{row}.status = ANY({self._texts(query.statuses)})")
        if "ended_at" not in columns:
            for bound, sign in ((query.ended_after, ">"), (query.ended_before, "<")):
                if bound is not None:
                    of_run.append(f"{row}.ended_at {sign} {self._time(bound)}")
        if of_run and table == "runs":
            where += of_run
        elif of_run:
            where.append(f"(SELECT true FROM runs r WHERE r.pk = x.run AND {' AND '.join(of_run)})")
        for other in _ways(query):
            if isinstance(other, Walk) and other.table != "runs" and other != way:
                where.append(self._has(other))
        return f" AND CASE WHEN {' AND '.join(where)} THEN true END" if where else ""

    def _has(self, other: Walk) -> str:
        (group,) = other.groups
        same = "".join(f" AND o.{name} = {self._text(value)}" for name, value in zip(other.columns, group, strict=True))
        return (
            f"(SELECT true FROM {other.table} o WHERE o.namespace = {self._text(self._query.namespace)}{same}"
            " AND o.created_at = x.created_at AND o.run_id = x.run_id)"
        )

    def _text(self, value: str) -> str:
        self.values.append(value)
        return f"${len(self.values)}::text"

    def _texts(self, values: Sequence[str]) -> str:
        self.values.append(list(values))
        return f"${len(self.values)}::text[]"

    def _time(self, value: float) -> str:
        self.values.append(float(value))
        return f"${len(self.values)}::float8"
