"""Calls under way: who calls, what may end a call, and the caller's quotas."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from stepwire.server.auth import Authenticator
from stepwire.server.principal import ANONYMOUS, WRITE, Action, Principal
from stepwire.server.rpc.gate.limits import Limits, Usage, Usages
from stepwire.server.runs.errors import LimitError, PermissionDeniedError, RunsError, UnauthenticatedError
from stepwire.server.telemetry.metrics import Metrics

logger = logging.getLogger("stepwire.rpc")

_SWEEP_EVERY = 0.25
"""Seconds between looks at the long calls: an expired credential ends them within this time."""


_SOONEST, _LATEST = 0.25, 10.0
"""Seconds between which the calls that were refused are told to come back."""
_PATIENCE = 25.0
"""Seconds to wait for each call refused per call served: few are refused for many that are served."""


class Call:
    """One call: its caller, and what the handlers say of its progress."""

    __slots__ = (
        "authorization",
        "caller",
        "ended",
        "identities",
        "kind",
        "limits",
        "method",
        "request",
        "run_id",
        "sequence",
        "since",
        "task",
        "usage",
    )

    def __init__(
        self,
        method: str,
        kind: str,
        caller: Principal,
        limits: Limits,
        usage: Usage | None,
        authorization: str | None = None,
        identities: Sequence[str] = (),
    ) -> None:
        self.method = method
        self.kind = kind
        self.caller = caller
        self.limits = limits
        self.usage = usage
        self.request: Any = None
        """Its message, where it has one."""
        self.run_id = ""
        """The run that a conversation is with."""
        self.authorization = authorization
        self.identities = identities
        self.task: asyncio.Task[Any] | None = None
        self.since = 0.0
        """When the message that is being written began to be, on the loop's clock; 0 while none is."""
        self.sequence = 0
        """Up to where the client's cursor may be."""
        self.ended: RunsError | None = None
        """Why this server ended the call."""

    def spend(self, backlog: int) -> None:
        """Admit another event or start: not while so many sync steps queue for their threads. LimitError."""
        if self.usage is not None:
            self.usage.spend()
        if backlog > self.limits.sync_backlog:
            raise LimitError("Too many sync steps wait for a thread", limit="sync_threads", retry_after=1.0)

    def check_alive(self) -> None:
        """Raise UnauthenticatedError once the caller's credential has expired."""
        expires = self.caller.expires
        if expires is not None and expires <= time.time():
            raise UnauthenticatedError("The credential has expired", why="expired")

    def log_fields(self) -> dict[str, str | int]:
        """Return what the log says of it; what is the client's is as it came."""
        return {
            "method": self.method.rpartition("/")[2],
            "run": self.run_id or getattr(self.request, "run_id", ""),
            "workflow": getattr(self.request, "workflow", ""),
            "principal": "" if self.caller is ANONYMOUS else self.caller.name,
        }

    def end(self, error: RunsError) -> None:
        """End the call with an error, whatever it is doing."""
        if self.ended is None and self.task is not None:
            self.ended = error
            self.task.cancel()


CALL: ContextVar[Call | None] = ContextVar("stepwire_call", default=None)
"""The call that this task serves; tasks that it starts inherit it."""


def caller_of_call() -> Principal:
    """Return the caller of the call that this task serves."""
    call = CALL.get()
    return ANONYMOUS if call is None else call.caller


def permit(caller: Principal, action: Action, workflow: str) -> None:
    """Raise PermissionDeniedError unless the caller may do this with a workflow that it sees."""
    if not caller.scopes.allow(action, workflow):
        message = f"This needs the scope {action} for the workflow"
        raise PermissionDeniedError(message, needs=action, scope=action, workflow=workflow)


def permit_start(caller: Principal, workflow: str) -> None:
    """Raise PermissionDeniedError unless the caller may start runs; a workflow that it may not see is not found."""
    if caller.scopes.sees(workflow):
        permit(caller, WRITE, workflow)


class Calls:
    """The calls under way of a server."""

    def __init__(self, limits: Limits, authenticator: Authenticator | None, metrics: Metrics | None = None) -> None:
        self.limits = limits
        self.authenticator = authenticator
        self.metrics = metrics or Metrics()
        self.under_way = 0
        """Calls that are neither streams nor waits."""
        self._usages = Usages(limits.events_per_second)
        self._long: set[Call] = set()
        self._refused = self._served = 0
        """Calls since the last sweep."""
        self._retry_after = _SOONEST
        self._generation = 0
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after long calls."""
        self._sweeper = asyncio.create_task(self._sweep(), name="stepwire-calls")

    def stop(self) -> None:
        """Look after them no more."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return sum(usage.streams for _, usage in self._usages)

    @property
    def waiters(self) -> int:
        """How many calls wait for a run or an event."""
        return sum(usage.waiters for _, usage in self._usages)

    def open(self) -> Counter[str]:
        """Count the calls under way by kind. From any thread."""
        # A set is copied in one step of the interpreter.
        found = Counter(call.kind for call in tuple(self._long))
        found["unary"] = self.under_way
        return found

    def usage(self, caller: Principal) -> Usage:
        """Return what a caller uses."""
        return self._usages.of(caller.namespace, caller.name)

    def enter(self, call: Call) -> None:
        """Take a call up. LimitError when there are too many."""
        usage, limits = call.usage, self.limits
        if call.kind == "unary":
            if self.under_way >= limits.calls:
                self._refused += 1
                delay = self._retry_after * (0.5 + random.random())
                raise LimitError("The server has too many calls under way", limit="calls", retry_after=delay)
            self.under_way += 1
            return
        if call.kind == "stream":
            assert usage is not None
            if limits.streams and usage.streams >= limits.streams:
                message = f"At most {limits.streams} streams of a caller may be open"
                raise LimitError(message, limit="streams", retry_after=1.0)
            usage.streams += 1
        else:
            assert usage is not None
            if limits.waiters and usage.waiters >= limits.waiters:
                message = f"At most {limits.waiters} calls of a caller may wait"
                raise LimitError(message, limit="waiters", retry_after=1.0)
            usage.waiters += 1
        call.task = asyncio.current_task()
        self._long.add(call)

    def leave(self, call: Call) -> None:
        """Let a call go."""
        if call.kind == "unary":
            self.under_way -= 1
            self._served += 1
            return
        assert call.usage is not None
        if call.kind == "stream":
            call.usage.streams -= 1
        else:
            call.usage.waiters -= 1
        self._long.discard(call)
        call.task = None  # whose context knows the call

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            try:
                self._look(loop.time())
            except Exception:
                logger.exception("looking after the calls failed")

    def _look(self, now: float) -> None:
        """End the calls whose credential is no longer good, and the streams whose client does not read."""
        self._pace()
        changed = False
        if self.authenticator is not None:
            self.authenticator.refresh()
            changed = self._generation != self.authenticator.generation
            self._generation = self.authenticator.generation
        stalled = self.limits.stalled_after
        wall = time.time()
        for call in list(self._long):
            if call.ended is not None:
                continue
            expires = call.caller.expires
            if expires is not None and expires <= wall:
                self.metrics.streams_ended["expired"] += 1
                call.end(UnauthenticatedError("The credential has expired", resume_sequence=call.sequence))
            elif changed and self.authenticator is not None and call.caller is not ANONYMOUS:
                self._look_again(call, self.authenticator)
            elif stalled and call.since and now - call.since > stalled:
                self.metrics.streams_ended["stalled"] += 1
                message = f"The client has read nothing for {stalled:g} seconds; resume after this sequence"
                call.end(LimitError(message, limit="stalled", retry_after=1.0, resume_sequence=call.sequence))

    def _pace(self) -> None:
        """Have those who are refused come back the later, the more they are: refusing costs time too."""
        refused, served = self._refused, self._served
        self._refused = self._served = 0
        wanted = _PATIENCE * refused / max(1, served)
        self._retry_after = min(_LATEST, max(_SOONEST, (self._retry_after + wanted) / 2))

    def _look_again(self, call: Call, authenticator: Authenticator) -> None:
        try:
            caller = authenticator.authenticate(call.authorization, call.identities)
        except UnauthenticatedError:
            self.metrics.streams_ended["revoked"] += 1
            call.end(UnauthenticatedError("The credential is not valid any more", resume_sequence=call.sequence))
            return
        if caller != call.caller:
            same = (caller.name, caller.namespace, repr(caller.scopes)) == (
                call.caller.name, call.caller.namespace, repr(call.caller.scopes)
            )  # fmt: skip
            if same:
                call.caller = caller
            else:
                call.end(UnauthenticatedError("The credential has changed", resume_sequence=call.sequence))
