"""Have other replicas do things for runs and schedules of this one, and do what they ask for: the internal method Act.

What is to be done is a name with JSON-able arguments, and so is the answer. A family or a schedule has no credential
that another replica could check, only the name of the caller that began it. The signature says that a replica asks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc

from stepwire.server.rpc.errors import abort, status_of
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.peers.content import fits, json_of
from stepwire.server.rpc.peers.following import INTERNAL
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.links import Links
from stepwire.server.runs.errors import (
    DrainingError,
    InvalidError,
    LimitError,
    PeerRefusedError,
    PeerSilentError,
    RunElsewhereError,
    RunsError,
    StoreDownError,
    WrongReplicaError,
)
from stepwire.server.telemetry.metrics import Metrics

__all__ = ["ACT", "Actor", "Do", "add_act"]

ACT: Final = INTERNAL + "Act"
_SECONDS: Final = 30.0
"""How long another replica may take."""
_REFUSED: Final = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
)
"""What a replica answers that will not do it the next time either."""

Do = Callable[..., Awaitable[Any]]
"""Does one thing, with the arguments given; returns something JSON-able. Raises RunsError."""


def add_act(server: Handlers, does: Callable[[str], Do | None], signer: HopSigner, metrics: Metrics) -> None:
    """Serve Act on a gRPC server that is not started; `does` gives what does a thing, None if nothing here does."""

    async def act(request: bytes, context: Context) -> bytes:
        if signer.verify(context.invocation_metadata() or (), ACT) is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "This method is for replicas")
        try:
            signer.check_addressee(context.invocation_metadata() or ())
            what, given = _asked(request)
            if (do := does(what)) is None:  # asked by a replica of another version
                raise StoreDownError(f"This replica does not know how to {what}")
            if not fits(do, given):
                raise InvalidError("MALFORMED_MESSAGE", f"To {what} takes other arguments")
            return json.dumps({"result": await do(**given)}).encode()
        except InvalidError as error:
            if error.code_reason != "MALFORMED_MESSAGE":
                return json.dumps(_told(error)).encode()
            await abort(context, status_of(error, ACT, metrics))
            return b""
        except RunsError as error:
            return json.dumps(_told(error)).encode()
        except Exception as error:  # noqa: BLE001 - whatever it is becomes a status
            await abort(context, status_of(error, ACT, metrics))
            return b""

    name = ACT.rpartition("/")[2]
    handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(act)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(INTERNAL.strip("/"), handlers),))


def _asked(request: bytes) -> tuple[str, Any]:
    """Return what is to be done, and its arguments. InvalidError (MALFORMED_MESSAGE) if the bytes do not say it."""
    try:
        what, given = json_of(request)
    except (ValueError, TypeError):
        what, given = None, None
    if not isinstance(what, str) or not isinstance(given, dict):
        raise InvalidError("MALFORMED_MESSAGE", "This does not say what is to be done")
    return what, given


def _told(error: RunsError) -> dict[str, Any]:
    """Return the answer that says why something was not done."""
    if isinstance(error, RunElsewhereError):
        return {"elsewhere": error.address, "replica": error.replica}
    if isinstance(error, WrongReplicaError):
        return {"again": str(error), "answered_by": error.replica}
    if isinstance(error, StoreDownError | DrainingError):
        return {"again": str(error)}
    if isinstance(error, LimitError) and error.retry_after is not None:
        return {"limit": [str(error), error.retry_after]}
    return {"refused": [error.code_reason, error.details]}


class Actor:
    """Have other replicas do things; what `Starter.others` is."""

    def __init__(self, links: Links, signer: HopSigner) -> None:
        self._links = links
        self._signer = signer

    async def act(self, address: str, what: str, given: Mapping[str, Any], replica: int = 0) -> Any:
        """Have the replica at an address do something; return what that gave.

        Args:
            address: The address.
            what: What to do.
            given: Its arguments, JSON-able.
            replica: The id of the replica that has to answer there; 0 for any.

        Raises:
            RunElsewhereError: It names the replica that has to; the address may be empty.
            LimitError: A limit is reached, and says after how long it may not be any more.
            PeerRefusedError: It refuses.
            PeerSilentError: It does not answer, or another one does.
            StoreDownError: It may do it later.
        """
        data = json.dumps([what, given]).encode()
        metadata = tuple(self._signer.sign_to(replica, ACT))
        call = self._links.unary(address, ACT)(data, metadata=metadata, timeout=_SECONDS)
        self._links.begin(address, call)
        silent = PeerSilentError(f"The replica at {address} does not answer")
        try:
            answer = json.loads(await call)
        except grpc.aio.AioRpcError as error:
            self._links.end(address, call)
            if error.code() in _REFUSED:
                raise PeerRefusedError("INTERNAL", error.details() or "") from None
            raise silent from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._links.end(address, call) and task is not None and not task.cancelling():
                raise silent from None  # the others have taken it for dead meanwhile
            call.cancel()
            raise
        self._links.end(address, call)
        return _result_of(answer)


def _result_of(answer: dict[str, Any]) -> Any:
    """Return what another replica answered, or raise what kept it from it."""
    if "elsewhere" in answer:
        raise RunElsewhereError(answer["elsewhere"], replica=answer.get("replica", 0))
    if "answered_by" in answer:
        raise PeerSilentError(answer["again"])
    if "again" in answer:
        raise StoreDownError(answer["again"])
    if "limit" in answer:
        message, seconds = answer["limit"]
        raise LimitError(message, retry_after=seconds)
    if "refused" in answer:
        raise PeerRefusedError(*answer["refused"])
    return answer["result"]
