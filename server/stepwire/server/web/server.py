"""Start and stop the HTTP face: uvicorn in the server's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from stepwire.server.web.browsers import BrowserGuard, with_cors
from stepwire.server.web.connect import ContractApp
from stepwire.server.web.console_files import ConsoleFiles
from stepwire.server.web.sse import RunEventsEndpoint
from stepwire.server.web.upstream import Upstream
from stepwire.v1 import run_service_pb2, snapshot_service_pb2, state_service_pb2, workflow_service_pb2

__all__ = ["WebServer", "WebSettings"]

logger = logging.getLogger("stepwire.web")

_BACKLOG: Final = 512
"""Connections that the kernel keeps while the loop is busy."""
_STOP_SECONDS: Final = 1.0
"""How long open responses may take to end when the server stops; streams have ended by then."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """How the HTTP face is served.

    Attributes:
        address: HOST:PORT; port 0 takes a free one.
        hosts: Names under which it may be called besides loopback's; None accepts every name.
        origins: Origins whose pages may call it.
        tls_cert: The certificate chain, PEM; None for plain HTTP.
        tls_key: The private key of the certificate, PEM.
        max_body: The longest request body in bytes.
        optional: Whether a taken port is only a line in the log.
    """

    address: str
    hosts: Sequence[str] | None = ()
    origins: Sequence[str] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_body: int = 4 << 20
    optional: bool = False


class WebServer:
    """The HTTP face of a server. `socket_path` is where gRPC listens for it; `start` it, `stop` it."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="stepwire-web-"))  # mode 0700: only this user's processes enter
        self._upstream: Upstream | None = None
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self.address = settings.address
        """Where it listens, with the port that it got."""

    @property
    def target(self) -> str:
        """The address that gRPC must listen on for this server, as gRPC writes it."""
        return f"unix:{self._folder / 'grpc'}"

    def bind(self) -> bool:
        """Take the port; return whether it was free. OSError when it is taken and the web is not optional."""
        host, _, port = self._settings.address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, int(port)))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            if self._settings.optional:
                logger.warning(
                    "the console is off: %s: %s. --web HOST:PORT takes another port",
                    self._settings.address,
                    error.strerror,
                )
                return False
            raise OSError(f"cannot listen on {self._settings.address}: {error.strerror}") from None
        self._socket = listening
        self.address = f"{self._settings.address.rpartition(':')[0]}:{listening.getsockname()[1]}"
        return True

    async def start(self) -> None:
        """Serve. gRPC must listen on `target` already."""
        assert self._socket is not None, "bind first"
        self._upstream = Upstream(self.target)
        settings = self._settings
        config = uvicorn.Config(
            self._app(self._upstream),
            lifespan="off",
            log_config=None,
            log_level="warning",  # its lines of start and stop say nothing that ours do not
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=int(_STOP_SECONDS),
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
        )
        self._server = _Quiet(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="stepwire-web")

    def _app(self, upstream: Upstream) -> Any:
        services = tuple(contract_services())
        contract = ContractApp(services, upstream, self._settings.max_body)
        app = Starlette(
            routes=[
                Route("/v1/runs/{run_id}/events", endpoint=RunEventsEndpoint(upstream), methods=["GET"]),
                *(Mount(f"/{service.full_name}", app=_Whole(contract)) for service in services),
                Mount("/", app=ConsoleFiles()),
            ]
        )
        return BrowserGuard(with_cors(app, self._settings.origins), self._settings.hosts, self._settings.origins)

    async def stop(self) -> None:
        """End the responses that are open, close the port and remove the private socket."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, _STOP_SECONDS + 1.0)
        if self._upstream is not None:
            await self._upstream.close()
        if self._socket is not None:
            self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def contract_services() -> Iterator[ServiceDescriptor]:
    """Yield the services that the web serves: those of the contract, and health."""
    for file in (run_service_pb2, workflow_service_pb2, state_service_pb2, snapshot_service_pb2, health_pb2):
        yield from file.DESCRIPTOR.services_by_name.values()


class _Quiet(uvicorn.Server):
    """uvicorn without its handling of signals: the process has one owner of those."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class _Whole:
    """Give a mounted application the whole path, which Connect's endpoints are named by."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "root_path": ""}, receive, send)
