"""Admit requests: one check for unary calls, streams and the frames of conversations."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from stepwire.server.principal import READ, WRITE, Action
from stepwire.server.rpc.gate.access import RULES, START, UNKNOWN, WAIT_FOR_EVENT, permit, permit_method
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.gate.limits import CARRIERS
from stepwire.server.runs.hosting.pool import RunPool


class Admission:
    """What the requests of one method must pass once they are parsed. Made once for each method.

    In this order: the caller's rate, the size and depth of payloads, the scope for the workflow concerned.
    """

    __slots__ = ("_action", "_limited", "_pool", "_prompts", "_starts", "rule")

    def __init__(self, pool: RunPool, method: str) -> None:
        self._pool = pool
        self.rule = rule = RULES.get(method, UNKNOWN)
        self._starts = method == START
        self._prompts = method == WAIT_FOR_EVENT
        self._limited = rule.spends or method.rpartition("/")[2] in CARRIERS
        # The handlers look after `read`: they do not find what a caller may not see.
        looks = self._starts or (rule.run and rule.action != READ)
        self._action: Action | None = WRITE if self._prompts else rule.action if looks else None

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
        if self._action is None or call.caller.scopes.everywhere(self._action):
            return None
        if self._starts:
            permit(call.caller, WRITE, request.workflow)
            return None
        if self._prompts and not request.HasField("waiter_event"):
            return None
        return self._permit_run(call, self._action, request.run_id)

    async def _permit_run(self, call: Call, action: Action, run_id: str) -> None:
        record = await self._pool.find(call.caller.key(run_id))
        if record is not None:
            permit(call.caller, action, record.workflow)


class Gate:
    """The admissions of all methods."""

    def __init__(self, pool: RunPool) -> None:
        self._pool = pool
        self._admissions: dict[str, Admission] = {}
        self.metrics = pool.metrics

    def of(self, method: str) -> Admission:
        """Return the admission of a method."""
        admission = self._admissions.get(method)
        if admission is None:
            admission = self._admissions[method] = Admission(self._pool, method)
        return admission

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
