"""Start and stop the HTTP face: uvicorn in the server's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from stepwire.server.rpc import LocalCalls
from stepwire.server.web.browsers import BrowserGuard, ClientAddress, with_cors
from stepwire.server.web.connect import ContractApp
from stepwire.server.web.console_files import ConsoleFiles
from stepwire.server.web.http2 import grpc_is_elsewhere
from stepwire.server.web.sse import RunEventsEndpoint, no_such_path
from stepwire.server.web.tls import RenewedContext
from stepwire.server.web.writing import JoiningProtocol
from stepwire.v1 import (
    run_service_pb2,
    schedule_service_pb2,
    server_service_pb2,
    snapshot_service_pb2,
    state_service_pb2,
    workflow_service_pb2,
)
from stepwire.workflow.hosting import start_task

__all__ = ["WebServer", "WebSettings"]

logger = logging.getLogger("stepwire.web")

_BACKLOG: Final = 512
"""Connections that the kernel keeps while the loop is busy."""
_KEEP_ALIVE_SECONDS: Final = 75
"""How long a connection may be idle. Load balancers keep theirs for 60 seconds or less, so they close first."""
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
        stalled_after: Seconds after which a connection is cut whose reader takes nothing; 0 for never.
        optional: Whether a taken port is only a line in the log.
        grpc_port: Where gRPC is, for those that look for it here; 0 if it has no port.
    """

    address: str
    hosts: Sequence[str] | None = ()
    origins: Sequence[str] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_body: int = 4 << 20
    stalled_after: float = 0.0
    optional: bool = False
    grpc_port: int = 0


class WebServer:
    """The HTTP face of a server: `bind` it, `start` it, `stop` it."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._server: _Quiet | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self.address = settings.address
        """Where it listens, with the port that it got."""

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
            raise OSError(
                f"cannot listen on {self._settings.address}: {error.strerror}; --web names another port, or off"
            ) from None
        self._socket = listening
        self.address = f"{self._settings.address.rpartition(':')[0]}:{listening.getsockname()[1]}"
        return True

    async def start(self, calls: LocalCalls) -> None:
        """Serve the contract through `calls`."""
        assert self._socket is not None, "bind first"
        settings = self._settings
        refusal = grpc_is_elsewhere(settings.grpc_port)
        protocol = partial(JoiningProtocol, stalled_after=settings.stalled_after, refusal=refusal)
        config = uvicorn.Config(
            self._app(calls, refusal),
            http=protocol,  # type: ignore[arg-type]
            lifespan="off",
            log_config=None,
            log_level="warning",  # its lines of start and stop say nothing that ours do not
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(_STOP_SECONDS),
        )
        config.load()
        if settings.tls_cert is not None and settings.tls_key is not None:
            config.ssl = RenewedContext.of(settings.tls_cert, settings.tls_key)
        self._server = _Quiet(config)
        self._task = start_task(self._server.serve(sockets=[self._socket]), name="stepwire-web")

    def _app(self, calls: LocalCalls, refusal: str) -> Any:
        services = tuple(contract_services())
        pages = Starlette(
            routes=[
                Route("/v1/runs/{run_id}/events", endpoint=RunEventsEndpoint(calls)),
                Mount("/v1", app=no_such_path),
                Mount("/", app=ConsoleFiles()),
            ]
        )
        contract = ContractApp(services, calls, self._settings.max_body, refusal)
        app = _ByService({service.full_name for service in services}, contract, pages)
        app_of_all = ClientAddress(with_cors(app, self._settings.origins))
        return BrowserGuard(app_of_all, self._settings.hosts, self._settings.origins)

    async def stop(self) -> None:
        """End the responses that are open, and close the port."""
        if self._server is not None and self._task is not None:
            self._server.stopping.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, _STOP_SECONDS + 1.0)
        if self._socket is not None:
            self._socket.close()


def contract_services() -> Iterator[ServiceDescriptor]:
    """Yield the services that the web serves: those of the contract, and health."""
    for file in (
        run_service_pb2,
        schedule_service_pb2,
        workflow_service_pb2,
        state_service_pb2,
        snapshot_service_pb2,
        server_service_pb2,
        health_pb2,
    ):
        yield from file.DESCRIPTOR.services_by_name.values()


class _Quiet(uvicorn.Server):
    """uvicorn without its handling of signals, since the process has one owner of those, and without its clock.

    The clock ticks ten times a second to update headers that are off here and to look whether to stop.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Return when the server is to stop."""
        await self.stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class _ByService:
    """Give calls of the contract to one application and everything else to another, without routing: calls are many."""

    def __init__(self, services: set[str], contract: Any, others: Any) -> None:
        self._services = services
        self._contract = contract
        self._others = others

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        called = scope["type"] == "http" and scope["path"].partition("/")[2].partition("/")[0] in self._services
        await (self._contract if called else self._others)(scope, receive, send)
