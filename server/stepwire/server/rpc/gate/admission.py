"""Admit requests: one check for unary calls, streams and the frames of conversations."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from stepwire.server.rpc.gate.audit import UNRECORDED, Audit, Recorded
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.gate.limits import CARRIERS
from stepwire.server.rpc.gate.method_scopes import RULES, START, STREAM, UNKNOWN, WAIT_FOR_EVENT, permit, permit_method
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.scopes import READ, SEE, WRITE, Action


class Admission:
    """What the requests of one method must pass once they are parsed. Made once for each method.

    In this order: the caller's rate, the size and depth of payloads, the scope for the workflow concerned.
    """

    __slots__ = ("_limited", "_looks", "_needs", "_pool", "_prompts", "_starts", "_streams", "plain", "rule")

    def __init__(self, pool: RunPool, method: str) -> None:
        self._pool = pool
        self.rule = rule = RULES.get(method, UNKNOWN)
        self._starts = method == START
        self._prompts = method == WAIT_FOR_EVENT
        self.plain = method.rpartition("/")[2] not in CARRIERS
        """Whether its requests carry no payload."""
        self._limited = rule.spends or not self.plain
        self._streams = method == STREAM
        self._looks = self._prompts or self._streams
        """Whether what the caller must be allowed depends on the request."""
        concerned = (rule.run or rule.workflow) and rule.action != SEE
        self._needs = WRITE if self._starts else rule.action if concerned else None

    def admit(self, call: Call, request: Any) -> Awaitable[None] | None:
        """Refuse what is too much, too big or not allowed.

        Returns:
            None if the request is admitted; else what to await, because a run must be looked up first.

        Raises:
            LimitError: The rate is exhausted, or the request is too big or too deep.
            PermissionDeniedError: The caller lacks the scope for the workflow.
        """
        if self._limited:
            if self.rule.spends or (self._prompts and request.HasField("waiter_event")):
                call.spend(self._pool.sync_backlog)
            call.limits.check_request(request)
        action = self._needed(request) if self._looks else self._needs
        scopes = call.caller.scopes
        if action is None or scopes.everywhere(action):
            return None
        if action == READ and scopes.anywhere(READ) and not scopes.uneven:
            return None  # the handlers find no run that the caller may not see, and it may read what it sees
        if self._starts:
            permit(call.caller, WRITE, request.workflow)
            return None
        if self.rule.workflow:
            permit(call.caller, action, request.name)
            return None
        return self._permit_run(call, action, request.run_id)

    def _needed(self, request: Any) -> Action | None:
        """Return what the caller must be allowed to do with the workflow concerned; None for no more than to see it."""
        if self._prompts and request.HasField("waiter_event"):
            return WRITE
        if self._streams and request.options.include_internal:
            return READ
        return self._needs

    async def _permit_run(self, call: Call, action: Action, run_id: str) -> None:
        record = await self._pool.records.look_up(call.caller.key(run_id))
        if record is not None:
            permit(call.caller, action, record.workflow)


class Gate:
    """The admissions of all methods."""

    def __init__(self, pool: RunPool, *, audited: bool = False) -> None:
        self._pool = pool
        self._admissions: dict[str, Admission] = {}
        self.audit = Audit(pool) if audited else None
        """Makes records of what callers change; None if nobody wants them."""
        self.metrics = pool.metrics

    def of(self, method: str) -> Admission:
        """Return the admission of a method."""
        admission = self._admissions.get(method)
        if admission is None:
            admission = self._admissions[method] = Admission(self._pool, method)
        return admission

    def has(self, call: Call) -> bool:
        """Tell whether the run of a call is in the memory of this process."""
        return self._pool.in_memory(call.caller.key(call.run_id)) is not None

    def recorded(self, call: Call, method: str, request: Any, kind: str) -> AbstractContextManager[Recorded]:
        """Record a frame of a conversation in the audit log: admit it and do what it asks for inside."""
        return nullcontext(UNRECORDED) if self.audit is None else self.audit.frame(call, method, request, kind)

    async def admit_frame(self, call: Call, method: str, request: Any) -> None:
        """Admit a frame of a conversation, given as the request of the method that does the same.

        Raises:
            LimitError, PermissionDeniedError: As for a call of that method.
        """
        admission = self.of(method)
        permit_method(call.caller, admission.rule.action)
        pending = admission.admit(call, request)
        if pending is not None:
            await pending
