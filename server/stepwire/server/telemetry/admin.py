"""The admin port: metrics and health over HTTP, on its own threads, so that it answers while the loop is blocked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

__all__ = ["AdminServer"]

Unready = Callable[[], str]
"""Returns why the server takes no work now; empty when it does."""

_IDLE_SECONDS: Final = 10.0
"""How long a connection may take to send its request."""
_POLL_SECONDS: Final = 0.1
"""How often the listening thread looks whether it is to stop."""


class AdminServer:
    """Serve /metrics, /healthz and /readyz, without authentication: only operators should reach the port."""

    def __init__(
        self, registry: CollectorRegistry, unready: Unready, details: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._metrics = make_wsgi_app(registry)
        self._unready = unready
        self._details = details
        self._server: WSGIServer | None = None
        self.address = ""

    def start(self, address: str) -> None:
        """Listen on HOST:PORT; port 0 picks a free one. Raises OSError when the address cannot be used."""
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        kind = _Server6 if ":" in host else _Server
        try:
            server = kind((host, int(port)), _Handler)
        except OSError as error:
            raise OSError(f"cannot listen on the admin address {address}: {error.strerror or error}") from error
        server.set_app(self._answer)
        self._server = server
        self.address = f"{address.rpartition(':')[0]}:{server.server_port}"
        thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_SECONDS,), name="stepwire-admin", daemon=True
        )
        thread.start()

    def stop(self) -> None:
        """Stop listening; return within a tenth of a second."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _answer(self, environ: dict[str, Any], respond: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text(respond, "405 Method Not Allowed", "only GET\n")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, respond)
            return answer
        if path == "/healthz":
            return _text(respond, "200 OK", "ok\n")
        if path == "/readyz":
            why = self._unready()
            if why:
                return _text(respond, "503 Service Unavailable", f"{why}\n")
            return _text(respond, "200 OK", "".join(f"{line}\n" for line in ("ok", *self._details())))
        return _text(respond, "404 Not Found", "there are /metrics, /healthz and /readyz\n")


def _text(respond: Any, status: str, text: str) -> Iterable[bytes]:
    data = text.encode()
    respond(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(data)))])
    return [data]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    # A second server on this port is an error; it must not silently share the port.
    allow_reuse_port = False

    def server_bind(self) -> None:
        """Bind without looking up the host name, as the base class does: that can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing about clients that leave in the middle."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: scrapes come every few seconds."""
