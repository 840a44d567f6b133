"""The application: everything wired together, from start to a graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from stepwire.server.auth import Authenticator
from stepwire.server.config import ConfigError, Settings, is_loopback
from stepwire.server.observing import Observing
from stepwire.server.registry import Registry
from stepwire.server.rpc import (
    CALL,
    CODEC,
    SERVICES,
    Calls,
    Certificates,
    Gate,
    GateInterceptor,
    Limits,
    Signer,
    TlsError,
    add_services,
)
from stepwire.server.runs import Runs
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.hosting.scope import RUN
from stepwire.server.runs.limits import RunLimits, RunQuota
from stepwire.server.store import MemoryStore, RunStore, SqliteStore
from stepwire.server.telemetry import tracing
from stepwire.server.telemetry.metrics import Metrics
from stepwire.server.wiring import retention_of, web_of
from stepwire.workflow.hosting import CLOCK, running_execution

if TYPE_CHECKING:
    from stepwire.server.web import WebServer

__all__ = ["ConfigError", "Server", "Settings", "is_loopback", "serve"]

logger = logging.getLogger("stepwire.server")

_GC_THRESHOLDS = (20_000, 20, 50)
_SWITCH_INTERVAL = 0.0005
"""Seconds between chances for the writer thread to take the interpreter: it commits about 3 times as often as with
Python's 5 ms beside a busy event loop."""

_STOP_SECONDS = 3.5
"""Seconds beyond the grace after which the server leaves without a store that does not answer."""

_WALL = 4
"""Messages up to so many times their limit are refused by us, with details and a count; larger ones by gRPC itself,
which reads no more than their length."""
_SLACK = 1 << 20
"""Bytes that are added to that: a small limit is exceeded by far more easily than a large one."""
_LARGEST = (1 << 31) - 1
"""The largest limit that gRPC knows."""


class Server:
    """A server: `start` it, `stop` it."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.registry = registry
        self.settings = settings
        self.port = 0
        self.metrics = Metrics()
        self._store: RunStore
        if settings.data == ":memory:":
            self._store = MemoryStore(CLOCK.now)
        else:
            self._store = SqliteStore(Path(settings.data), self.metrics.store, CLOCK.now)
        self._grpc: grpc.aio.Server | None = None
        self._web: WebServer | None = None
        self.runs: Runs | None = None
        """The runs, once the server has started."""
        self.calls = Calls(_limits(settings), _authenticator(settings), self.metrics)
        self._health = health.aio.HealthServicer()
        self.observing = Observing(settings, self._store, self.calls, self.metrics, self._set_health)

    @property
    def address(self) -> str:
        """Return where the server listens, with the port that it got."""
        return f"{self.settings.address.rpartition(':')[0]}:{self.port}"

    async def start(self) -> None:
        """Open the store, take up unfinished runs, listen.

        Raises ConfigError for a wrong access, key or TLS file, StoreError kinds, OSError when the port is taken.
        """
        settings = self.settings
        credentials = self._prepare_access()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        await self._store.open()
        try:
            self.observing.open()
            memory = settings.data == ":memory:"
            signer = Signer.ephemeral() if memory else Signer.of_directory(Path(settings.data))
            pool = RunPool(
                self.registry,
                self._store,
                CODEC,
                failure_detail=settings.shown_failure_detail,
                sync_threads=settings.sync_threads,
                limits=RunLimits(
                    queued_events=settings.max_queued_events,
                    log_entries=settings.max_log_entries,
                    state_bytes=settings.max_state_bytes,
                ),
                metrics=self.metrics,
            )
            runs = Runs.of(
                pool,
                idle_after=settings.idle_after,
                retention=retention_of(settings),
                quota=RunQuota(settings.quota("max_runs")),
            )
            self.runs = runs
            self._grpc = self._make_grpc(runs, Gate(pool), signer)
            self.port = self._bind(self._grpc, credentials)
            self._web = self._open_web(self._grpc)
            taken = await runs.open()
            if taken:
                logger.info("took up %d unfinished run%s", taken, "" if taken == 1 else "s")
            await self._grpc.start()
            self.calls.start()
            if self._web is not None:
                await self._web.start()
        except BaseException:
            self.observing.close()
            await self._store.close()
            raise
        await self.observing.start(pool)

    async def _set_health(self, serving: bool) -> None:
        kinds = health_pb2.HealthCheckResponse
        for service in ("", *SERVICES):
            await self._health.set(service, kinds.SERVING if serving else kinds.NOT_SERVING)

    def _prepare_access(self) -> grpc.ServerCredentials | None:
        """Read the access and TLS files; say in the log what is missing. ConfigError."""
        settings = self.settings
        credentials = None
        try:
            if self.calls.authenticator is not None:
                self.calls.authenticator.open()
            if settings.tls_cert is not None and settings.tls_key is not None:
                credentials = Certificates(settings.tls_cert, settings.tls_key, settings.client_ca).credentials()
        except (TlsError, ValueError) as error:
            raise ConfigError(str(error)) from None
        except OSError as error:
            raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None
        if settings.exposed:
            if credentials is None:
                logger.warning("INSECURE: %s listens beyond loopback without TLS", settings.address)
            if self.calls.authenticator is None:
                logger.warning("INSECURE: %s listens beyond loopback without authentication", settings.address)
        return credentials

    def _make_grpc(self, runs: Runs, gate: Gate, signer: Signer) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=(GateInterceptor(self.calls, gate),),
            options=(
                # Two servers on one port would share its connections silently.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", min(_LARGEST, _WALL * self.settings.max_message_bytes + _SLACK)),
                ("grpc.max_send_message_length", -1),
                # Clients may ping every 10 seconds, also without a call.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ),
        )
        add_services(server, self.registry, runs, gate, signer, heartbeat=self.settings.heartbeat)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self.settings.shows_reflection:
            from grpc_reflection.v1alpha import reflection

            reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    def _bind(self, server: grpc.aio.Server, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is not None:
                port = server.add_secure_port(self.settings.address, credentials)
            else:
                port = server.add_insecure_port(self.settings.address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.settings.address}: is the port taken?") from error
        if port == 0:
            raise OSError(f"cannot listen on {self.settings.address}: is the port taken?")
        return port

    def _open_web(self, server: grpc.aio.Server) -> WebServer | None:
        """Take the web's port, and let gRPC listen for it too. OSError when a port that someone chose is taken."""
        web = web_of(self.settings)
        if web is None or not web.bind():
            return None
        server.add_insecure_port(web.target)
        return web

    @property
    def web_address(self) -> str | None:
        """Return where the web is served, with the port that it got; None where it is not."""
        return None if self._web is None else self._web.address

    async def stop(self) -> bool:
        """Stop gracefully: refuse new runs, give steps their grace, freeze and commit, end sessions, close.

        Returns within 4 seconds beyond the grace. False when the store hangs: its threads still do then.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.grace + _STOP_SECONDS
        committed = True
        await self.observing.drain()
        if self.runs is not None:
            committed = await self.runs.keeper.drain(self.settings.grace)
            self.runs.pool.feeds.end_all()
        self.calls.stop()
        if self._web is not None:
            await self._web.stop()
        if self._grpc is not None:
            await self._grpc.stop(1.0)
        try:
            async with asyncio.timeout_at(end):
                await self._store.close()
        except TimeoutError:
            logger.error("the store does not close; nothing that was acknowledged is lost")
            committed = False
        self.observing.close()
        return committed


async def serve(registry: Registry, settings: Settings, on_ready: Callable[[Server], None] | None = None) -> bool:
    """Serve until SIGTERM or SIGINT, then stop gracefully; return what `Server.stop` does."""
    try:
        end_tracing = tracing.setup(settings.otlp_endpoint)
    except tracing.TracingError as error:
        raise ConfigError(str(error)) from None
    server = Server(registry, settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # event loops of Windows have no signal handlers
            loop.add_signal_handler(number, stopping.set)
    # Runs make much short-lived garbage and few cycles; what the start made stays. A quarter of a run's cost, and of
    # the time to take up 10,000 of them. What was imported is not even looked at again.
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.freeze()
    await server.start()
    with server.observing.pausing():
        gc.collect()
        gc.freeze()
    try:
        if on_ready is not None:
            on_ready(server)
        await stopping.wait()
        logger.info("stopping: running steps get %g seconds", settings.grace)
    finally:
        closed = await server.stop()
        logger.info("stopped")
        if end_tracing is not None:
            await asyncio.to_thread(end_tracing)
    return closed


def log_fields() -> dict[str, str | int]:
    """Return what the code that logs is about: run, workflow, step, attempt, principal, trace; what is known."""
    fields: dict[str, str | int]
    scope, call = RUN.get(), CALL.get()
    if scope is not None:
        fields = scope.log_fields()
        execution = running_execution()
        if execution is not None:
            fields["step"] = execution.delivery.step
            fields["attempt"] = execution.delivery.attempt
    elif call is not None:
        fields = call.log_fields()
    else:
        fields = {}
    if not fields.get("trace"):
        fields["trace"] = tracing.trace_id(tracing.CARRIER.get())
    return fields


def _limits(settings: Settings) -> Limits:
    return Limits(
        message_bytes=settings.max_message_bytes,
        event_bytes=settings.max_event_bytes,
        state_bytes=settings.max_state_bytes,
        snapshot_bytes=settings.max_snapshot_bytes,
        depth=settings.max_depth,
        calls=settings.max_calls,
        streams=settings.quota("max_streams"),
        waiters=settings.quota("max_waiters"),
        events_per_second=settings.quota("max_events_per_second"),
        sync_backlog=settings.max_sync_backlog,
        stalled_after=settings.stalled_after,
    )


def _authenticator(settings: Settings) -> Authenticator | None:
    if not settings.authenticates:
        return None
    return Authenticator(
        access=settings.api_keys,
        jwks=settings.jwks,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        certificates=settings.client_ca is not None,
    )
