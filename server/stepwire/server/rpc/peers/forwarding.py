"""Pass calls on to the replica that has their run, so that any replica answers any call, with one effect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from typing import Any, Final, NamedTuple, TypeVar
from uuid import uuid4

import grpc
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from stepwire.server import failpoints
from stepwire.server.rpc.errors import DOMAIN, PassedOnError
from stepwire.server.rpc.gate.call import Call, this_call
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.local import RefusedError
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.relays import Relays
from stepwire.server.runs.errors import RunElsewhereError, RunLeftError, StoreDownError
from stepwire.server.runs.hosting.replicas.routes import FORCE_SECONDS, Routes
from stepwire.server.store import Owner, RunKey
from stepwire.server.telemetry.metrics import Metrics
from stepwire.server.telemetry.tracing import CARRIER
from stepwire.workflow.hosting import outside, start_task

__all__ = ["OWNER", "Forwarder"]

T = TypeVar("T")

OWNER: Final = "stepwire-owner"
"""The trailing metadata that says which replica has the run: clients may call that one the next time."""

PATIENCE: Final = 15.0
"""Seconds for which the replica that has a run is looked up again."""
HOP_SECONDS: Final = 35.0
"""Seconds that a replica which is asked may take: it may wait for its database, for 30, and is to say so then. One that
hangs is taken for dead much earlier."""
_PAUSE: Final = 0.05
"""Seconds between two looks."""
_AGAIN: Final = frozenset({"RUN_ELSEWHERE", "STORE_UNAVAILABLE", "DRAINING"})
"""Reasons of a peer for which the call is looked up again: nothing was done, or the request_id finds out."""
_CANCELLED: Final[int] = grpc.StatusCode.CANCELLED.value[0]
_UNAVAILABLE: Final[int] = grpc.StatusCode.UNAVAILABLE.value[0]
_LATE: Final[int] = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
_SILENT: Final = "The replica that has the run does not answer; the outcome is unknown, retry with the same request_id"


_NOBODY: Final = Owner(0, "")


class _Told(NamedTuple):
    """What came of a call that another replica did not carry out.

    Attributes:
        reason: The reason that it gave; empty if it gave none.
        owner: The owner that it named.
        reached: Whether the replica that was meant has answered.
    """

    reason: str
    owner: Owner
    reached: bool


async def _take(replica: int) -> str | None:
    """Have every run taken from a replica that is not reached."""
    return None


class Forwarder:
    """Carry calls out here, or pass them on. One for each server."""

    def __init__(
        self,
        routes: Routes,
        relays: Relays,
        signer: HopSigner,
        metrics: Metrics,
        doubt: Callable[[], None] = lambda: None,
        why_not_take: Callable[[int], Awaitable[str | None]] = _take,
    ) -> None:
        """Make a forwarder.

        Args:
            routes: Which runs other replicas have.
            relays: Call them.
            signer: Signs what is passed on.
            metrics: Counts it.
            doubt: Called when a replica was not reached at its address.
            why_not_take: Says why no run is to be taken from a replica that is not reached; see `Reach`.
        """
        self._doubt = doubt
        self._why_not_take = why_not_take
        self._routes = routes
        self._relays = relays
        self._signer = signer
        self._metrics = metrics
        self._awaited: dict[tuple[RunKey, str], asyncio.Future[Any]] = {}
        self.own = ""
        """The address of this replica, which passes nothing on to itself."""

    def around(self, handler: Any, method: str) -> Any:
        """Return a handler of a unary method that passes calls on where need be."""

        async def handle(request: Any, context: Context) -> Any:
            answer, owner = await self.carry(
                this_call(), method, request, lambda: handler(request, context), context.time_remaining()
            )
            if owner:
                context.set_trailing_metadata(((OWNER, owner),))
            return answer

        return handle

    async def carry(
        self,
        call: Call,
        method: str,
        request: Any,
        act: Callable[[], Awaitable[T]],
        remaining: float | None = None,
        key: RunKey | None = None,
    ) -> tuple[T | bytes | dict[str, Any], str]:
        """Do what a call asks for, here or at the replica that has its run.

        Args:
            call: The call.
            method: The full name of the method that does it.
            request: Its request; it gets a request_id if it has none and is passed on.
            act: Does it here.
            remaining: Seconds until the deadline of the call; None without one.
            key: The run of a send whose answer may also come with the commit that holds it.

        Returns:
            What `act` returned, or the response of the other replica as bytes, or the answer that came with the commit;
            and the address of the replica that has the run, empty for this one.

        Raises:
            PassedOnError: The other replica refused the call.
            RunsError: What `act` raised.
        """
        try:
            return await act(), ""
        except (RunElsewhereError, RunLeftError) as error:
            if call.hop:
                if isinstance(error, RunElsewhereError) and error.key is not None:
                    self._routes.forget(error.key)  # if this was not true any more, both would say so for ever
                raise  # the replica that took the call looks again
            found = error
        try:
            return await self._pass_on(found, call, method, request, act, remaining, key)
        finally:
            del found, act

    async def _pass_on(
        self,
        found: RunElsewhereError | RunLeftError,
        call: Call,
        method: str,
        request: Any,
        act: Callable[[], Awaitable[T]],
        remaining: float | None,
        key: RunKey | None,
    ) -> tuple[T | bytes | dict[str, Any], str]:
        time = asyncio.get_running_loop().time
        deadline = inf if remaining is None else time() + remaining
        end = min(time() + PATIENCE, deadline)
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            request.request_id = f"hop-{uuid4().hex}"
        data, waits = request.SerializeToString(), _waits(request)
        silent_since: float | None = None
        last: Exception = found
        owner = Owner(found.replica, found.address) if isinstance(found, RunElsewhereError) else _NOBODY
        run = found.key if isinstance(found, RunElsewhereError) else None
        asked: set[str] = set()
        while True:
            if owner.address:
                asked.add(owner.address)
                if failpoints.ACTIVE:
                    failpoints.hit("forward.before")
                began = time()
                left = remaining if waits else min(HOP_SECONDS, deadline - began)
                try:
                    answer = await self._hop(owner, method, data, call, left, key, getattr(request, "request_id", ""))
                    self._metrics.forwards["answered"] += 1
                    return answer, owner.address
                except RefusedError as error:
                    told = _told_by(error.status)
                    if error.status.code == _LATE and time() < deadline:  # it is not the caller's deadline
                        self._metrics.forwards["failed"] += 1
                        raise StoreDownError(_SILENT) from None
                    if not _may_be_elsewhere(error.status, told.reason):
                        self._metrics.forwards["refused"] += 1
                        raise PassedOnError(error.status) from None
                    last = StoreDownError(_SILENT)
                    if told.reason == "STORE_UNAVAILABLE":  # it knows better what to do
                        last = PassedOnError(error.status)
                if not told.reached:
                    self._doubt()
                if run is not None:
                    self._routes.forget(run)
                    silent_since = None if told.reached else began if silent_since is None else silent_since
                    if silent_since is not None and time() - silent_since >= FORCE_SECONDS:
                        reason = await self._why_not_take(owner.id)
                        if reason is None:
                            self._routes.force(run)
                        elif reason:
                            self._metrics.forwards["failed"] += 1
                            raise _not_reached(owner, reason)
                owner = told.owner if told.owner.address not in (owner.address, self.own) else _NOBODY
                if owner.address and owner.address not in asked:
                    continue
            if time() >= end:
                self._metrics.forwards["failed"] += 1
                raise last
            self._metrics.forwards["again"] += 1
            await asyncio.sleep(_PAUSE)
            if owner.address:
                continue  # it passed the call on before, and may have the run by now
            try:
                return await act(), ""
            except RunElsewhereError as error:
                owner, run = Owner(error.replica, error.address), error.key or run
            except (RunLeftError, StoreDownError) as error:
                last = error

    async def _hop(
        self,
        owner: Owner,
        method: str,
        data: bytes,
        call: Call,
        timeout: float | None,
        key: RunKey | None,
        request_id: str,
    ) -> bytes | dict[str, Any]:
        """Call another replica. RefusedError if it refuses, cannot be reached, or is taken for dead meanwhile."""
        metadata = self._signer.sign_to(owner.id, method, call.identities)
        if call.authorization is not None:
            metadata.append(("authorization", call.authorization))
        metadata += CARRIER.get({}).items()
        answer = self._relays.call(owner.address, method, data, metadata, timeout)
        return await answer if key is None else await self._first(answer, (key, request_id))

    async def _first(self, answer: Coroutine[Any, Any, bytes], awaited: tuple[RunKey, str]) -> bytes | dict[str, Any]:
        """Return the response of a call, or the answer that came with a commit if that is first."""
        news: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        hop = start_task(answer)
        hop.add_done_callback(lambda done: _ended(news, done))
        self._awaited[awaited] = news
        try:
            told: dict[str, Any] | None = await news
            return await hop if told is None else told
        finally:
            self._awaited.pop(awaited, None)
            outside(hop.cancel)

    def answered(self, key: RunKey, request_id: str, response: dict[str, Any]) -> None:
        """Resolve a send that was passed on: the commit that holds its answer has come from the other replica."""
        if (news := self._awaited.get((key, request_id))) is not None:
            _resolve(news, response)


def _not_reached(owner: Owner, reason: str) -> StoreDownError:
    return StoreDownError(
        f"Replica {owner.id}, which has the run, lives, but is not reached from this one, and {reason}; call another"
        " replica with the same request_id"
    )


def _waits(request: Any) -> bool:
    """Tell whether a call may wait longer than a look-up."""
    fields = request.DESCRIPTOR.fields_by_name
    return "timeout" in fields or ("wait" in fields and bool(request.HasField("wait")))


def _may_be_elsewhere(status: Status, reason: str) -> bool:
    """Tell whether a call that failed at another replica is to be looked up again."""
    if status.code == _CANCELLED:
        return not reason  # the connection was closed
    return status.code == _UNAVAILABLE and (not reason or reason in _AGAIN)


def _told_by(status: Status) -> _Told:
    """Return what another replica says of a call that it did not carry out."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            facts = info.metadata
            owner = Owner(int(facts.get("replica", "0")), facts.get("owner", ""))
            return _Told(info.reason, owner, reached="answered_by" not in facts)
    return _Told("", _NOBODY, reached=False)


def _ended(news: asyncio.Future[Any], hop: asyncio.Future[bytes]) -> None:
    if not hop.cancelled():
        hop.exception()  # nobody asks for it if the commit came first
    _resolve(news, None)


def _resolve(news: asyncio.Future[Any], answer: Any) -> None:
    if not news.done():
        news.set_result(answer)
