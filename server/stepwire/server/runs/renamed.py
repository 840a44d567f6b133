"""Find runs under the earlier names of steps and events: a record keeps the names of the code that wrote it last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from stepwire.server.registry import Registry, Served
from stepwire.server.store import RunQuery, RunRecord
from stepwire.server.store.terms import EVENT, STEP, term, term_parts

__all__ = ["merged", "under_other_names"]


def under_other_names(query: RunQuery, registry: Registry) -> list[RunQuery]:
    """Return what else to look for, so that a run is found by each name that a step or event of it has or had.

    Each of the queries is of one workflow whose code has renamed what the query names; mostly there are none.
    """
    if not query.terms:
        return []
    found: list[RunQuery] = []
    for served in registry:
        if query.workflow not in ("", served.name):
            continue
        if query.workflows is not None and served.name not in query.workflows:
            continue
        alternatives = product(*(_alternatives(served, each) for each in query.terms))
        found += [
            replace(query, workflow=served.name, terms=terms) for terms in alternatives if terms != tuple(query.terms)
        ]
    return found


def _alternatives(served: Served, each: str) -> list[str]:
    """Return a term in all the names that the code of a workflow has for what it names."""
    kind, value = term_parts(each)
    if kind == STEP:
        return [term(kind, name) for name in served.step_names(value)]
    if kind == EVENT:
        return [term(kind, name) for name in served.type_names(value)]
    return [each]


def merged(pages: Sequence[Sequence[RunRecord]], limit: int) -> list[RunRecord]:
    """Return one page of runs, newest first, from a page of each of several queries.

    It ends where the first of the pages ends: that one may go on with runs that are newer than what others have.
    """
    ends = [_place(page[-1]) for page in pages if page]
    if not ends:
        return []
    found = {record.key: record for page in pages for record in page if _place(record) >= max(ends)}
    return sorted(found.values(), key=_place, reverse=True)[:limit]


def _place(record: RunRecord) -> tuple[float, str]:
    return record.created_at, record.key.run_id
