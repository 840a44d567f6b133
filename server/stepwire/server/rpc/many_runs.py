"""Do one thing with many runs: cancel, retry, delete, pause or resume those that meet a filter.

Each run passes the gate as a call of the method for one run: authorized, charged, recorded, and passed on to the
replica that has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from stepwire.server.rpc.convert import pages
from stepwire.server.rpc.convert import runs as convert
from stepwire.server.rpc.convert.run_query import bound_to, run_query
from stepwire.server.rpc.errors import PassedOnError, status_of
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.gate.method_scopes import CANCEL, DELETE, PAUSE, RESUME, RETRY, RULES, permit_method
from stepwire.server.rpc.peers.forwarding import Forwarder
from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.runs import Runs
from stepwire.server.runs.errors import DrainingError, LimitError, RunsError, StoreDownError, Violation
from stepwire.server.runs.hosting.commits.record import RunPause
from stepwire.server.runs.limits import MAX_REASON, check_length, refuse
from stepwire.server.runs.retrying import RETRIED_AS
from stepwire.server.store import RunQuery, RunRecord, Status
from stepwire.v1 import run_service_pb2 as pb

__all__ = ["ManyRuns"]

_AT_ONCE: Final = 32
"""Runs that are worked on at the same time; an answer comes after each such group."""
_PAGE: Final = 512
"""Records that one look into the store reads."""
_DEFAULT_RUNS, _MOST_RUNS = 10_000, 1_000_000
_MOST_REFUSALS: Final = 100
"""Refusals of one answer."""
_SAY_SECONDS: Final = 5.0
"""An answer comes at least so often, so that clients know that the call is alive."""

_ENDED_BADLY = (Status.FAILED, Status.TIMED_OUT, Status.CANCELLED)
_UNFINISHED = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.PAUSED, Status.BLOCKED)


@dataclass(frozen=True, slots=True)
class _Action:
    """What is done with each run.

    Attributes:
        method: The method that does it with one run.
        statuses: The runs that it can be done with.
        request: Makes the request of the method, from the id of a run.
        act: Does it.
        paused: Whether runs that are paused by themselves count; None for all runs.
    """

    method: str
    statuses: Sequence[str]
    request: Callable[[str], Any]
    act: Callable[[Any], Awaitable[object]]
    paused: bool | None = None

    def counts(self, record: RunRecord) -> bool:
        """Tell whether a run of these statuses counts."""
        return self.paused is None or self.paused == (RunPause.of(record) is not None)


@dataclass(slots=True)
class _Progress:
    """How far a call is. A token says what was so after a whole group."""

    cutoff: float
    bound: str
    matched: int = 0
    done: int = 0
    unchanged: int = 0
    refused: int = 0
    refusals: list[pb.RunRefusal] = field(default_factory=list)
    token: str = ""

    def reach(self, created_at: float, run_id: str) -> None:
        """Note that everything up to a run is done."""
        counts = [self.matched, self.done, self.unchanged, self.refused]
        self.token = pages.page_token([self.cutoff, created_at, run_id, *counts], self.bound)

    def answer(self, *, finished: bool = False, more: bool = False) -> pb.ApplyToRunsResponse:
        """Return the answer that says how far it is; each refusal is told once."""
        told, self.refusals = self.refusals[:_MOST_REFUSALS], []
        return pb.ApplyToRunsResponse(
            matched=self.matched,
            done=self.done,
            unchanged=self.unchanged,
            refused=self.refused,
            refusals=told,
            resume_token=self.token,
            finished=finished,
            more=more,
        )


class ManyRuns:
    """Do one thing with many runs, for callers."""

    def __init__(self, runs: Runs, actions: RunActions, gate: Gate, forwarder: Forwarder | None) -> None:
        self._pool = runs.pool
        self._lifecycle = runs.lifecycle
        self._retries = runs.retries
        self._pauses = runs.pauses
        self._actions = actions
        self._gate = gate
        self._forwarder = forwarder

    async def apply(self, call: Call, request: pb.ApplyToRunsRequest) -> AsyncIterator[pb.ApplyToRunsResponse]:
        """Do with each run what is asked for, a group at a time, and say how far it is after each group.

        Raises:
            InvalidError: The request has no action or no filter, or its token belongs to another request.
            PermissionDeniedError: The caller may do that with no workflow at all.
        """
        action, query, most = self._read(call, request)
        bound = f"{bound_to(query)} {request.WhichOneof('action')} {request.dry_run}"
        progress = _Progress(self._pool.clock.now(), bound)
        if request.resume_token:
            kinds = (float, float, str, int, int, int, int)
            cutoff, created_at, run_id, *counts = pages.page_place(request.resume_token, bound, *kinds)
            progress = _Progress(cutoff, bound, *counts)
            query.before = created_at, run_id
        progress.reach(*(query.before or (progress.cutoff, "")))
        # Runs that come later, such as the retries, are not this call's.
        query.created_before = min(progress.cutoff, query.created_before or progress.cutoff)
        left, more = most, False
        said = asyncio.get_running_loop().time()
        async for group in self._groups(query, action):
            taken = _first(group, left, action)
            more = len(taken) < len(group)
            if not taken:
                break
            left -= sum(not _is_done(each, action) for each in taken)
            if request.dry_run:
                for record in taken:
                    progress.done += not _is_done(record, action)
                    progress.unchanged += _is_done(record, action)
            else:
                async for _ in _while(asyncio.gather(*(self._one(call, action, each, progress) for each in taken))):
                    yield progress.answer()
            progress.matched += len(taken)
            progress.reach(taken[-1].created_at, taken[-1].key.run_id)
            now = asyncio.get_running_loop().time()
            if not request.dry_run or now - said > 1.0:
                said = now
                yield progress.answer()
            if more:
                break
        yield progress.answer(finished=True, more=more)

    def _read(self, call: Call, request: pb.ApplyToRunsRequest) -> tuple[_Action, RunQuery, int]:
        kind = request.WhichOneof("action")
        violations: list[Violation] = []
        if kind is None:
            violations.append(Violation("action", "is required"))
        if not request.filter.ListFields():
            violations.append(Violation("filter", "is required"))
        if not 0 <= request.max_runs <= _MOST_RUNS:
            violations.append(Violation("max_runs", f"must be 0 to {_MOST_RUNS}"))
        violations += check_length("cancel.reason", request.cancel.reason, MAX_REASON)
        violations += check_length("pause.reason", request.pause.reason, MAX_REASON)
        refuse(violations)
        action = self._action(call, request, str(kind))
        needed = RULES[action.method].action
        permit_method(call.caller, needed)
        query = run_query(call.caller, request.filter)
        wanted = set(query.statuses or action.statuses)
        query = replace(query, statuses=[each for each in action.statuses if each in wanted], limit=_PAGE)
        if query.workflows is not None and needed is not None:
            query.workflows = [name for name in query.workflows if call.caller.scopes.allow(needed, name)]
        return action, query, request.max_runs or _DEFAULT_RUNS

    def _action(self, call: Call, request: pb.ApplyToRunsRequest, kind: str) -> _Action:
        caller = call.caller
        if kind == "cancel":
            reason = request.cancel.reason
            return _Action(
                CANCEL,
                _UNFINISHED,
                lambda run_id: pb.CancelRunRequest(run_id=run_id, reason=reason),
                lambda one: self._actions.cancel(caller, one),
            )
        if kind == "retry":
            return _Action(
                RETRY,
                _ENDED_BADLY,
                lambda run_id: pb.RetryRunRequest(run_id=run_id),
                lambda one: self._retries.retry(caller, convert.retry_request(one)),
            )
        if kind == "delete":
            return _Action(
                DELETE,
                (*_ENDED_BADLY, Status.COMPLETED),
                lambda run_id: pb.DeleteRunRequest(run_id=run_id),
                lambda one: self._lifecycle.delete(caller, one.run_id),
            )
        if kind == "pause":
            why = request.pause.reason
            return _Action(
                PAUSE,
                (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.PAUSED),  # by their workflow
                lambda run_id: pb.PauseRunRequest(run_id=run_id, reason=why),
                lambda one: self._pauses.pause(caller, one.run_id, one.reason),
                paused=False,
            )
        return _Action(
            RESUME,
            (Status.PAUSED,),
            lambda run_id: pb.ResumeRunRequest(run_id=run_id),
            lambda one: self._pauses.resume(caller, one.run_id),
            paused=True,
        )

    async def _groups(self, query: RunQuery, action: _Action) -> AsyncIterator[list[RunRecord]]:
        """Yield the runs that count, in groups, newest first."""
        if not query.statuses:
            return
        while records := await self._lifecycle.list_runs(query):
            last = records[-1]
            counted = [record for record in records if action.counts(record)]
            for start in range(0, len(counted), _AT_ONCE):
                yield counted[start : start + _AT_ONCE]
            query.before = (last.created_at, last.key.run_id)

    async def _one(self, call: Call, action: _Action, record: RunRecord, progress: _Progress) -> None:
        """Do it with one run."""
        if _is_done(record, action):
            progress.unchanged += 1
            return
        run_id = record.key.run_id
        request = action.request(run_id)
        try:
            with self._gate.recorded(call, action.method, request, "apply") as entry:
                entry.about(record)
                await self._admit(call, action, request)
                answer = await self._carry(call, action, request)
                if isinstance(answer, RunRecord) and action.method == RETRY:
                    entry.made(answer.key.run_id)
        except (RunsError, PassedOnError) as error:
            self._refused(error, action, run_id, progress)
        else:
            progress.done += 1

    async def _admit(self, call: Call, action: _Action, request: Any) -> None:
        while True:
            try:
                await self._gate.admit_frame(call, action.method, request)
                return
            except LimitError as error:
                if error.limit != "events_per_second" or error.retry_after is None:
                    raise
                delay = error.retry_after
            await asyncio.sleep(delay)  # the call takes as long as the caller's rate says

    def _refused(self, error: RunsError | PassedOnError, action: _Action, run_id: str, progress: _Progress) -> None:
        if isinstance(error, DrainingError | StoreDownError):
            raise error  # another server, or this one later, goes on from the last token
        if isinstance(error, RunsError) and error.code_reason in _GONE:
            progress.unchanged += 1
            return
        progress.refused += 1
        status = status_of(error, action.method, self._gate.metrics)
        progress.refusals.append(pb.RunRefusal(run_id=run_id, error=status))

    async def _carry(self, call: Call, action: _Action, request: Any) -> object:
        if self._forwarder is None:
            return await action.act(request)
        answer, _ = await self._forwarder.carry(call, action.method, request, lambda: action.act(request))
        return answer


_GONE: Final = frozenset({"RUN_NOT_FOUND", "RUN_ENDED"})
"""Reasons that say that a run was deleted, or ended, before its turn came."""


def _is_done(record: RunRecord, action: _Action) -> bool:
    return action.method == RETRY and RETRIED_AS in record.info


def _first(group: list[RunRecord], most: int, action: _Action) -> list[RunRecord]:
    """Return the beginning of a group that has at most so many runs to act on, and any number that is done already.

    Otherwise a repeat with the same bound would find the runs of the last call, and never come to the others.
    """
    for place, record in enumerate(group):
        if not _is_done(record, action):
            if most == 0:
                return group[:place]
            most -= 1
    return group


async def _while(work: asyncio.Future[Any]) -> AsyncIterator[None]:
    """Wait for something, and yield again and again meanwhile; cancel it with this wait."""
    try:
        while True:
            done, _ = await asyncio.wait([work], timeout=_SAY_SECONDS)
            if done:
                work.result()
                return
            yield
    finally:
        work.cancel()
