"""The filters of a list of runs, from the contract's messages."""

from __future__ import annotations

from stepwire.server.principal import Principal
from stepwire.server.rpc.convert.labels import labels_of
from stepwire.server.rpc.convert.runs import status_names
from stepwire.server.rpc.convert.times import just_before, time_of
from stepwire.server.runs.errors import Violation
from stepwire.server.runs.limits import check_length, refuse
from stepwire.server.runs.payloads import digest
from stepwire.server.store import RunQuery
from stepwire.server.store.terms import ERROR, EVENT, PARENT, SCHEDULE, STARTED_BY, STEP, term
from stepwire.v1 import run_service_pb2 as pb

__all__ = ["bound_to", "run_query"]

MAX_FILTER = 512
"""Characters of the text of a filter: names of steps, types and callers are shorter."""


def run_query(caller: Principal, request: pb.ListRunsRequest | pb.RunFilter) -> RunQuery:
    """Return the runs that a caller may see and that meet all filters; the limit is 0.

    Raises:
        InvalidError: A status is unknown, or a filter is too long.
    """
    terms = (
        ("error_type", ERROR, request.error_type),
        ("step", STEP, request.step),
        ("waiting_for", EVENT, request.waiting_for),
        ("parent_run_id", PARENT, request.parent_run_id),
        ("started_by", STARTED_BY, request.started_by),
        ("schedule_id", SCHEDULE, request.schedule_id),
    )
    violations: list[Violation] = check_length("run_id_prefix", request.run_id_prefix, MAX_FILTER)
    for field, _, value in terms:
        violations += check_length(field, value, MAX_FILTER)
    refuse(violations)
    return RunQuery(
        namespace=caller.namespace,
        workflow=request.workflow,
        statuses=status_names(request.statuses),
        labels=labels_of(request.labels),
        created_after=just_before(request.created_after) if request.HasField("created_after") else None,
        created_before=time_of(request.created_before) if request.HasField("created_before") else None,
        limit=0,
        workflows=caller.scopes.workflows if caller.scopes.restricted else None,
        terms=tuple(term(kind, value) for _, kind, value in terms if value),
        run_id_prefix=request.run_id_prefix,
        ended_after=just_before(request.ended_after) if request.HasField("ended_after") else None,
        ended_before=time_of(request.ended_before) if request.HasField("ended_before") else None,
    )


def bound_to(query: RunQuery) -> str:
    """Return what a page token is bound to: the filters."""
    return digest(
        "runs", query.namespace, query.workflow, list(query.statuses), query.labels,
        query.created_after, query.created_before, query.workflows,
        *([list(query.terms), query.run_id_prefix, query.ended_after, query.ended_before] if _more(query) else []),
    )  # fmt: skip


def _more(query: RunQuery) -> bool:
    """Tell whether a query has filters of which the tokens of earlier versions know nothing."""
    return bool(query.terms or query.run_id_prefix) or (query.ended_after, query.ended_before) != (None, None)
