"""Where a call comes from: its peer, or for a call of the web the peer of the HTTP request."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import unquote

from stepwire.server.rpc.grpc_types import Context

__all__ = ["CLIENT", "address_of", "vouch"]

CLIENT: Final = "stepwire-client"
"""The metadata by which the web of this process says whom it calls for."""
_TOKEN: Final = secrets.token_hex(16)
"""Known to this process alone: nobody else can say so."""


def vouch(address: str) -> str:
    """Return the value of `CLIENT` for an HTTP request from an address."""
    return f"{_TOKEN} {address}"


def address_of(context: Context) -> tuple[str, str]:
    """Return the address that a call comes from, as HOST:PORT or a socket's, and `web` or `grpc`."""
    for name, value in context.invocation_metadata() or ():
        if name == CLIENT and isinstance(value, str):
            token, _, address = value.partition(" ")
            if secrets.compare_digest(token.encode(), _TOKEN.encode()):
                return address, "web"
    peer = unquote(context.peer() or "")
    scheme, _, address = peer.partition(":")
    return (address if scheme in ("ipv4", "ipv6") else peer), "grpc"
