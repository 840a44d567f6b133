"""Keep web pages of others out: Host, Origin, cross-site requests, and the headers that confine our own pages.

A browser sends requests to 127.0.0.1 for any page that asks it to. Three checks make that harmless. The Host must be a
name of this server (DNS rebinding). An Origin must be this server's or listed in `web_origins` (cross-site posts). A
request that the browser itself calls cross-site is refused when it has no Origin. There are no cookies. Pages of listed
origins may read the answers (CORS).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware

from stepwire.server.rpc import CLIENT, vouch
from stepwire.server.rpc.errors import status_with
from stepwire.server.web.errors import error_answer

__all__ = ["CONFINING", "ONCE", "BrowserGuard", "ClientAddress", "with_cors"]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CONFINING: Final = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),  # answers hold data of runs; the console's files say otherwise for themselves
]
"""Headers of every response."""
_CLIENT: Final = CLIENT.encode()
ONCE: Final = frozenset(
    {
        "host",
        "origin",
        "authorization",
        "content-type",
        "content-encoding",
        "connect-protocol-version",
        "connect-timeout-ms",
        "grpc-timeout",
        "grpc-encoding",
        "connect-content-encoding",
        "last-event-id",
        "sec-fetch-site",
        "sec-fetch-mode",
    }
)
"""Headers that decide something. One that is given twice is read in two ways by two programs."""
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:@\[\]]+)(?::[0-9]*)?")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class BrowserGuard:
    """ASGI middleware: refuse wrong hosts and origins, add the confining headers to every response.

    Args:
        app: What it protects.
        hosts: Names under which the server may be called, without a port; None accepts every name.
        origins: Origins besides the server's own whose pages may call it.
    """

    def __init__(self, app: Any, hosts: Sequence[str] | None, origins: Sequence[str]) -> None:
        self._app = app
        self._hosts = None if hosts is None else _LOOPBACK | {host.lower() for host in hosts}
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def confined(message: Any) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in CONFINING if each[0] not in present)]
            await send(message)

        refusal = self._refusal(scope, headers)
        if len(headers) < len(scope["headers"]) and (twice := _twice(scope["headers"])):
            status = status_with("INVALID_REQUEST", f"The header {twice} is given more than once")
            await error_answer(scope, 400, status)(scope, receive, confined)
        elif refusal is None:
            await self._app(scope, receive, confined)
        else:
            await error_answer(scope, 403, status_with("PERMISSION_DENIED", refusal))(scope, receive, confined)

    def _refusal(self, scope: Any, headers: dict[str, str]) -> str | None:
        host = headers.get("host", "").lower()
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return "This Host is not served here: call the server by its own name, or list the name in web_hosts"
        origin = headers.get("origin", "").lower()
        if origin:
            if origin != f"{scope.get('scheme', 'http')}://{host}" and origin not in self._origins:
                return "Pages of this origin may not call the server: list it in web_origins"
        elif (
            headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"
        ):
            return "Pages of other sites may not call the server: list their origin in web_origins"
        return None


def _twice(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the name of a header that is given more than once, and must not be."""
    seen: set[str] = set()
    for name in (name.decode("latin-1") for name, _ in headers):
        if name in ONCE and name in seen:
            return name
        seen.add(name)
    return None


def _name_of(host: str) -> str:
    """Return a Host header's name without the port; nothing if it is none."""
    found = _HOST.fullmatch(host)
    return found[1] if found else ""


class ClientAddress:
    """ASGI middleware: say to gRPC whom a request comes from, whatever the request says of that itself."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            host, port = scope.get("client") or ("", 0)
            address = vouch(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            headers = [each for each in scope["headers"] if each[0].lower() != _CLIENT]
            scope = {**scope, "headers": [*headers, (_CLIENT, address.encode("latin-1", "replace"))]}
        await self._app(scope, receive, send)


def with_cors(app: Any, origins: Sequence[str]) -> Any:
    """Let pages of `origins` read the answers, without credentials of the browser."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=[origin.rstrip("/") for origin in origins],
        allow_methods=["GET", "POST"],
        allow_headers=[
            "authorization",
            "connect-protocol-version",
            "connect-timeout-ms",
            "content-type",
            "grpc-timeout",
            "last-event-id",
            "traceparent",
            "tracestate",
            "x-grpc-web",
            "x-user-agent",
        ],
        expose_headers=["grpc-status", "grpc-message", "grpc-status-details-bin"],
        max_age=7200,
    )
