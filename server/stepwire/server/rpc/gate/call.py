"""One call under way: its caller, its quotas, and how far it got."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from stepwire.server.principal import ANONYMOUS, Principal
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.rpc.gate.quotas import Usage
from stepwire.server.runs.errors import LimitError, RunsError, UnauthenticatedError


class Call:
    """One call: its caller, and what the handlers say of its progress.

    Args:
        method: The full name of the method, as in `/stepwire.v1.RunService/StartRun`.
        kind: `unary`, `wait` (a unary call that waits for news) or `stream`.
        caller: The authenticated caller.
        limits: The limits that its messages must keep.
        usage: What the caller has under way; None if the method counts against no quota.
        authorization: The header that authenticated the caller, to look at it again when the keys change.
        identities: The names in the client's certificate, for the same purpose.
        hop: Whether another replica passes the call on.
    """

    __slots__ = (
        "address",
        "authorization",
        "caller",
        "ended",
        "hop",
        "identities",
        "kind",
        "limits",
        "method",
        "relayed",
        "request",
        "run_id",
        "sequence",
        "since",
        "task",
        "usage",
        "via",
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
        hop: bool = False,
    ) -> None:
        self.method = method
        self.hop = hop
        self.kind = kind
        self.caller = caller
        self.limits = limits
        self.usage = usage
        self.request: Any = None
        """The request message, once it is parsed; a conversation has none."""
        self.address = self.via = ""
        """Where it comes from, by `web` or `grpc`; known where there is an audit log."""
        self.run_id = ""
        """The run of a conversation."""
        self.relayed = ""
        """The run that took the event of this call, if that is a descendant of the one that it was sent to."""
        self.authorization = authorization
        self.identities = identities
        self.task: asyncio.Task[Any] | None = None
        self.since = 0.0
        """When the write of the current message began, on the loop's clock; 0 between writes."""
        self.sequence = 0
        """The sequence up to which entries were sent: where a client resumes after an error."""
        self.ended: RunsError | None = None
        """Why this server ended the call."""

    def spend(self, backlog: int) -> None:
        """Take one event from the caller's rate; `backlog` is the number of sync steps that wait for a thread.

        Raises:
            LimitError: The caller has none left, or the backlog is full.
        """
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
        """Return the fields that identify the call in the log; the client's own text is not escaped."""
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
"""The call that this task serves. Tasks that it starts inherit it."""


def this_call() -> Call:
    """Return the call that this task serves. LookupError outside of one."""
    call = CALL.get()
    if call is None:
        raise LookupError("This task serves no call")
    return call


def caller_of_call() -> Principal:
    """Return the caller of the call that this task serves."""
    return this_call().caller
