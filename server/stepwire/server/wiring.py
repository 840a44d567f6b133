"""Make the rooms of a server from its settings."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from stepwire.server.addresses import is_loopback
from stepwire.server.auth import Authenticator
from stepwire.server.config import Settings
from stepwire.server.config_errors import ConfigError
from stepwire.server.extras import not_installed
from stepwire.server.registry import Registry
from stepwire.server.rpc import (
    CODEC,
    Certificates,
    HopSigner,
    Limits,
    LinkSecurity,
    Peers,
    Signer,
    TlsError,
    key_of_file,
)
from stepwire.server.runs import Runs
from stepwire.server.runs.family.run_children import ChildLimits
from stepwire.server.runs.hosting.loading.crash_notes import CrashNotes
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.hosting.retention import Keep, Retention
from stepwire.server.runs.limits import RunLimits, RunQuota
from stepwire.server.store import MemoryStore, RunStore, SqliteReading, SqliteStore
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import CLOCK, Clock

if TYPE_CHECKING:
    from stepwire.server.store.postgres.reading import PostgresReading
    from stepwire.server.web import WebServer

__all__ = [
    "advertised",
    "authenticator_of",
    "credentials_of",
    "directory_of",
    "in_postgres",
    "limits_of",
    "link_security_of",
    "open_access",
    "peers_of",
    "reading_of",
    "retention_of",
    "runs_of",
    "signer_of",
    "store_of",
    "web_of",
]

POSTGRES: Final = ("postgres://", "postgresql://")
"""How an address of PostgreSQL begins."""
_WEB_SLACK: Final = 4
"""Factor between the limits of a message and of a web request's body: JSON writes bytes as base64 and escapes texts."""
_STALL_SECONDS: Final = 1.0
"""How much later than the gate the web cuts a reader: the gate counts it and says why, the web frees its connection."""


def directory_of(settings: Settings) -> Path | None:
    """Return the data directory; None when runs are kept elsewhere or not at all."""
    return None if settings.data == ":memory:" or in_postgres(settings) else Path(settings.data)


def in_postgres(settings: Settings) -> bool:
    """Tell whether runs are kept in PostgreSQL."""
    return settings.data.startswith(POSTGRES)


def store_of(settings: Settings, metrics: Metrics, clock: Clock = CLOCK) -> RunStore:
    """Return the store, not opened. ConfigError when its driver is not installed."""
    if in_postgres(settings):
        try:
            from stepwire.server.store.postgres import PostgresStore  # its driver is an extra
        except ModuleNotFoundError as error:
            raise ConfigError(f"data: {not_installed(error, 'postgres')}") from None
        return PostgresStore(settings.data, metrics.store, clock.now, lease=settings.lease, on_clock=clock.follow)
    directory = directory_of(settings)
    return MemoryStore(clock.now) if directory is None else SqliteStore(directory, metrics.store, clock.now)


def reading_of(settings: Settings) -> SqliteReading | PostgresReading:
    """Return what reads the runs beside a server, not opened. ConfigError when none are kept, or without a driver."""
    if in_postgres(settings):
        try:
            from stepwire.server.store.postgres.reading import PostgresReading  # its driver is an extra
        except ModuleNotFoundError as error:
            raise ConfigError(f"data: {not_installed(error, 'postgres')}") from None
        return PostgresReading(settings.data)
    directory = directory_of(settings)
    if directory is None:
        raise ConfigError("data: runs in memory are gone with their server: give a directory or a database")
    return SqliteReading(directory)


async def signer_of(settings: Settings, store: RunStore) -> Signer:
    """Return what signs snapshots. Its key lies in a file, the data directory or the database, which must be open."""
    if settings.snapshot_key is not None:
        return Signer(_key_of("snapshot_key", settings.snapshot_key))
    if in_postgres(settings):
        from stepwire.server.store.postgres import PostgresStore

        assert isinstance(store, PostgresStore)
        return Signer(await store.secret("snapshot key", os.urandom(32)))
    directory = directory_of(settings)
    return Signer.ephemeral() if directory is None else Signer.of_directory(directory)


def _key_of(name: str, path: Path) -> bytes:
    """Return the key in the file of a setting. ConfigError if there is none."""
    try:
        return key_of_file(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from None


async def peers_of(settings: Settings, store: RunStore, runs: Runs) -> Peers | None:
    """Return what the server needs of the other replicas; None where there can be none. The store must be open."""
    if not store.cluster.shared:
        return None
    if settings.cluster_key is not None:
        key = _key_of("cluster_key", settings.cluster_key)
    else:
        from stepwire.server.store.postgres import PostgresStore

        assert isinstance(store, PostgresStore)
        key = await store.secret("cluster key", os.urandom(32))
    accepted = settings.accept_cluster_key
    signer = HopSigner(
        key,
        me=lambda: store.cluster.me,
        accepted=() if accepted is None else [_key_of("accept_cluster_key", accepted)],
    )
    return Peers(runs.pool, runs.family, signer, link_security_of(settings), settings.lease)


def link_security_of(settings: Settings) -> LinkSecurity:
    """Return how replicas reach each other."""
    return LinkSecurity(settings.peer_ca or settings.client_ca, settings.tls_cert, settings.tls_key)


def advertised(settings: Settings, address: str) -> str:
    """Return where other replicas reach this one, which listens on an address."""
    if settings.advertise is not None:
        return settings.advertise
    host, _, port = address.rpartition(":")
    return f"{socket.getfqdn()}:{port}" if host in ("0.0.0.0", "[::]", "::") else address


def runs_of(
    settings: Settings,
    registry: Registry,
    store: RunStore,
    metrics: Metrics,
    notes: CrashNotes | None = None,
    clock: Clock = CLOCK,
) -> Runs:
    """Return the runs, not opened.

    Args:
        settings: The settings of the server.
        registry: The served workflows.
        store: Where runs are kept.
        metrics: Counts what the runs do.
        notes: What outlives a crash of the process; None keeps nothing.
        clock: What time it is for the runs; that of the store.
    """
    pool = RunPool(
        registry,
        store,
        CODEC,
        failure_detail=settings.shown_failure_detail,
        execution_log=settings.execution_log,
        sync_threads=settings.sync_threads,
        limits=RunLimits(
            queued_events=settings.max_queued_events,
            log_entries=settings.max_log_entries,
            state_bytes=settings.max_state_bytes,
            entry_bytes=settings.max_entry_bytes,
        ),
        metrics=metrics,
        notes=notes,
        clock=clock,
    )
    return Runs.of(
        pool,
        idle_after=settings.idle_after,
        retention=retention_of(settings),
        quota=RunQuota(settings.quota("max_runs")),
        children=ChildLimits(
            at_once=settings.max_children,
            in_all=settings.max_children_total,
            depth=settings.max_child_depth,
            input_bytes=settings.max_entry_bytes,
        ),
    )


def retention_of(settings: Settings) -> Retention:
    """Return what is kept of ended runs and of logs."""
    rules = {name: Keep(**rule.model_dump()) for name, rule in settings.retention_workflows.items()}
    default = Keep(age=settings.retention_age, runs=settings.retention_runs, entries=settings.retention_entries)
    return Retention(default=default, workflows=rules)


def limits_of(settings: Settings) -> Limits:
    """Return the limits of calls."""
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


def authenticator_of(settings: Settings) -> Authenticator | None:
    """Return what knows callers by their credentials, not opened; None without authentication."""
    if not settings.authenticates:
        return None
    return Authenticator(
        access=settings.api_keys,
        jwks=settings.jwks,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        leeway=settings.jwt_leeway,
        certificates=settings.client_ca is not None,
    )


def open_access(settings: Settings, authenticator: Authenticator | None) -> grpc.ServerCredentials | None:
    """Read the access, JWKS and TLS files; return the server's TLS credentials, None without TLS.

    Raises:
        ConfigError: A file is wrong or cannot be read.
    """
    try:
        if authenticator is not None:
            authenticator.open()
        return credentials_of(settings)
    except (TlsError, ValueError) as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None


def credentials_of(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the server's TLS credentials; None without TLS. Raises TlsError and OSError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.client_ca).credentials()


def web_of(settings: Settings, grpc_port: int) -> WebServer | None:
    """Return the web server, not opened; None when it is off.

    Args:
        settings: The server's.
        grpc_port: The port that gRPC got.

    Raises:
        ConfigError: Its packages are missing.
    """
    if settings.web is None:
        return None
    try:
        # Imported here: a server without the web starts 0.3 seconds earlier.
        from stepwire.server.web import WebServer, WebSettings
    except ModuleNotFoundError as error:
        raise ConfigError(f"web_address: {not_installed(error, 'server')}") from None
    hosts = _listed(settings.web_hosts)
    return WebServer(
        WebSettings(
            address=settings.web,
            hosts=hosts if hosts or is_loopback(settings.web) else None,
            origins=_listed(settings.web_origins),
            tls_cert=settings.tls_cert,
            tls_key=settings.tls_key,
            max_body=_WEB_SLACK * settings.max_message_bytes,
            stalled_after=settings.stalled_after and settings.stalled_after + _STALL_SECONDS,
            optional=settings.web_is_default,
            grpc_port=grpc_port,
        )
    )


def _listed(text: str) -> list[str]:
    return [each for each in map(str.strip, text.split(",")) if each]
