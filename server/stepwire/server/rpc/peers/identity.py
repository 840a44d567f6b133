"""Ask which replica answers at an address: the internal method Who.

An address may be wrong: nobody answers there, or another replica than the one that gave it, because two were given the
same address or something in between mixes them up.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import grpc

from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.peers.following import INTERNAL
from stepwire.server.rpc.peers.handshakes import tls_fault
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.links import LinkSecurity

__all__ = ["ANSWER_SECONDS", "WHO", "Answer", "add_who", "ask", "ask_over"]

WHO: Final = INTERNAL + "Who"
ANSWER_SECONDS: Final = 2.0
"""How long an answer may take."""
_LONGEST: Final = 200
"""Characters of what gRPC says of a failure."""


class Answer(NamedTuple):
    """What came of asking an address.

    Attributes:
        replica: The replica that answers there; 0 if that is not known.
        fault: Why nobody could tell; empty also for a replica of an earlier version, which answers and cannot tell.
        unverified: Whether the two do not accept each other's certificates or keys, and either may be at fault.
    """

    replica: int = 0
    fault: str = ""
    unverified: bool = False

    def fault_for(self, replica: int) -> str:
        """Return what is wrong with the address if it is to be a replica's; empty if nothing is."""
        return f"replica {self.replica} answers there" if self.replica not in (0, replica) else self.fault


def add_who(server: Handlers, signer: HopSigner, me: Callable[[], int]) -> None:
    """Serve Who on a gRPC server that is not started; `me` returns the id of this replica."""

    async def who(request: bytes, context: Context) -> bytes:
        if signer.verify(context.invocation_metadata() or (), WHO) is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "This method is for replicas")
        return json.dumps({"replica": me()}).encode()

    handlers: dict[str, Any] = {WHO.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(who)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(INTERNAL.strip("/"), handlers),))


async def ask_over(who: Any, signer: HopSigner, address: str, security: LinkSecurity) -> Answer:
    """Ask which replica answers at an address; if none does because of TLS, say what is wrong with that.

    Args:
        who: As for `ask`.
        signer: As for `ask`.
        address: The address.
        security: How replicas reach each other.
    """
    answer = await ask(who, signer)
    if answer.fault and (found := await tls_fault(address, security)) is not None:
        return Answer(fault=found.reason, unverified=not found.expired)
    return answer


async def ask(who: Any, signer: HopSigner, seconds: float = ANSWER_SECONDS) -> Answer:
    """Ask which replica answers.

    Args:
        who: gRPC's callable of Who at the address; requests and responses are bytes.
        signer: Signs the request with the key of the replicas.
        seconds: How long the answer may take.
    """
    try:
        found = int(json.loads(await who(b"{}", metadata=(signer.sign(WHO),), timeout=seconds))["replica"])
        return Answer(found) if found else Answer(fault="a replica that was taken for dead answers there")
    except grpc.aio.AioRpcError as error:
        return Answer(fault=_fault(error, seconds), unverified=error.code() is grpc.StatusCode.PERMISSION_DENIED)
    except (ValueError, TypeError, KeyError):
        return Answer(fault="something else than a replica answers there")
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return Answer(fault="the connection was closed")


def _fault(error: grpc.aio.AioRpcError, seconds: float) -> str:
    code = error.code()
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"nobody answers within {seconds:g} s"
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return "what answers there does not take the signature: another --cluster-key, or clocks 30 s apart"
    # gRPC names every attempt before what came of the last one.
    return f"nobody answers: {(error.details() or code.name).rpartition('last error: ')[2][:_LONGEST]}"
