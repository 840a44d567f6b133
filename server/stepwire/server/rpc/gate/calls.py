"""The calls under way on a server, and what ends long ones: an expired credential, a client that does not read."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter

from stepwire.server.auth import Authenticator, CredentialError
from stepwire.server.principal import ANONYMOUS, Principal
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.rpc.gate.quotas import Usage, Usages
from stepwire.server.runs.errors import LimitError, UnauthenticatedError
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import start_task

logger = logging.getLogger("stepwire.rpc")

_SWEEP_EVERY = 0.25
"""Seconds between looks at the long calls: an expired credential ends them within this time."""
_SOONEST, _LATEST = 0.25, 10.0
"""Bounds, in seconds, of the delay after which a refused call is told to retry."""
_PATIENCE = 25.0
"""Seconds of delay for each call refused per call served: a server that refuses much asks for a longer delay."""


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
        self.ended = 0
        """Calls that have ended, of all kinds."""
        self._refused = self._served = 0
        """Calls since the last sweep."""
        self._retry_after = _SOONEST
        self._generation = 0
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task that ends long calls."""
        self._sweeper = start_task(self._sweep(), name="stepwire-calls")

    def stop(self) -> None:
        """Stop that task."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return sum(usage.streams for _, usage in self._usages)

    @property
    def waiters(self) -> int:
        """The number of calls that wait for a run or an event."""
        return sum(usage.waiters for _, usage in self._usages)

    @property
    def idle(self) -> bool:
        """Whether no call is under way, of whatever kind."""
        return not self.under_way and not self._long

    def open(self) -> Counter[str]:
        """Count the calls under way by kind. Safe from any thread."""
        # A set is copied in one step of the interpreter.
        found = Counter(call.kind for call in tuple(self._long))
        found["unary"] = self.under_way
        return found

    def usage(self, caller: Principal) -> Usage:
        """Return what a caller has under way."""
        return self._usages.of(caller.namespace, caller.name)

    def enter(self, call: Call) -> None:
        """Count a call as under way. LimitError if there are too many."""
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
        """Count a call as ended."""
        self.ended += 1
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
        call.task = None  # the task's context holds the call: this breaks the circle

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            try:
                self._look(loop.time())
            except Exception:  # the next sweep must come: it ends calls whose credential was revoked
                logger.exception("checking the calls under way failed")

    def _look(self, now: float) -> None:
        """End calls whose credential is not valid any more, and streams whose client does not read."""
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
        """Ask refused callers for a longer delay the more of them there are, because refusing costs time too."""
        refused, served = self._refused, self._served
        self._refused = self._served = 0
        wanted = _PATIENCE * refused / max(1, served)
        self._retry_after = min(_LATEST, max(_SOONEST, (self._retry_after + wanted) / 2))

    def _look_again(self, call: Call, authenticator: Authenticator) -> None:
        """Authenticate a call again after a file of credentials changed."""
        try:
            caller = authenticator.authenticate(call.authorization, call.identities)
        except CredentialError:
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
