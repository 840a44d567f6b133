"""The application: everything wired together, from start to a graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from stepwire.server.registry import Registry
from stepwire.server.rpc import CODEC, SERVICES, ErrorInterceptor, Signer, add_services
from stepwire.server.runs import RunManager
from stepwire.server.store import MemoryStore, RunStore, SqliteStore

logger = logging.getLogger("stepwire.server")

_SWITCH_INTERVAL = 0.0005
"""Seconds between chances for the writer thread to take the interpreter: it commits about 3 times as often as with
Python's 5 ms beside a busy event loop."""

_MAX_RECEIVE_BYTES = 16 << 20


@dataclass(kw_only=True)
class Settings:
    """How to serve. Times are in seconds."""

    address: str = "127.0.0.1:50051"
    data: str = "stepwire-data"
    """The data directory, or `:memory:` to keep nothing."""
    idle_after: float = 60.0
    """After how long a run that only waits leaves memory."""
    grace: float = 5.0
    """How long running steps may go on when the server stops."""
    failure_detail: str | None = None
    """What clients see of a step's error: type, message or traceback; None: message on loopback, type beyond."""
    reflection: bool = True


class Server:
    """A server: `start` it, `stop` it."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.registry = registry
        self.settings = settings
        self.port = 0
        self._store: RunStore
        if settings.data == ":memory:":
            self._store = MemoryStore()
        else:
            self._store = SqliteStore(Path(settings.data))
        self._grpc: grpc.aio.Server | None = None
        self._manager: RunManager | None = None
        self._health = health.aio.HealthServicer()

    @property
    def address(self) -> str:
        """Return where the server listens, with the port that it got."""
        return f"{self.settings.address.rpartition(':')[0]}:{self.port}"

    async def start(self) -> None:
        """Open the store, take up unfinished runs, listen. Raises StoreError kinds, OSError when the port is taken."""
        settings = self.settings
        sys.setswitchinterval(_SWITCH_INTERVAL)
        await self._store.open()
        try:
            memory = settings.data == ":memory:"
            signer = Signer.ephemeral() if memory else Signer.of_directory(Path(settings.data))
            detail = settings.failure_detail or ("message" if is_loopback(settings.address) else "type")
            manager = RunManager(
                self.registry, self._store, CODEC, idle_after=settings.idle_after, failure_detail=detail
            )
            self._manager = manager
            self._grpc = self._make_grpc(manager, signer)
            self.port = self._bind(self._grpc)
            taken = await manager.open()
            if taken:
                logger.info("took up %d unfinished run%s", taken, "" if taken == 1 else "s")
            await self._grpc.start()
        except BaseException:
            await self._store.close()
            raise
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def _make_grpc(self, manager: RunManager, signer: Signer) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=(ErrorInterceptor(),),
            options=(
                # Two servers on one port would share its connections silently.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", _MAX_RECEIVE_BYTES),
                ("grpc.max_send_message_length", -1),
                # Clients may ping every 10 seconds, also without a call.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ),
        )
        add_services(server, self.registry, manager, signer)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self.settings.reflection:
            reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    def _bind(self, server: grpc.aio.Server) -> int:
        try:
            port = server.add_insecure_port(self.settings.address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.settings.address}: is the port taken?") from error
        if port == 0:
            raise OSError(f"cannot listen on {self.settings.address}: is the port taken?")
        return port

    async def stop(self) -> None:
        """Stop gracefully: refuse new runs, give steps their grace, freeze and commit, end sessions, close."""
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
        if self._manager is not None:
            await self._manager.drain(self.settings.grace)
            self._manager.feeds.end_all()
        if self._grpc is not None:
            await self._grpc.stop(1.0)
        await self._store.close()


async def serve(registry: Registry, settings: Settings, on_ready: Callable[[Server], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully."""
    server = Server(registry, settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # event loops of Windows have no signal handlers
            loop.add_signal_handler(number, stopping.set)
    await server.start()
    try:
        if on_ready is not None:
            on_ready(server)
        await stopping.wait()
        logger.info("stopping: running steps get %g seconds", settings.grace)
    finally:
        await server.stop()
        logger.info("stopped")


def is_loopback(address: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost" or address.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
