"""Make the rooms of a server from its settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from stepwire.server.auth import Authenticator
from stepwire.server.config import ConfigError, Settings, is_loopback
from stepwire.server.registry import Registry
from stepwire.server.rpc import CODEC, Certificates, Limits, Signer, TlsError
from stepwire.server.runs import Runs
from stepwire.server.runs.hosting.crash_notes import CrashNotes
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.hosting.retention import Keep, Retention
from stepwire.server.runs.limits import RunLimits, RunQuota
from stepwire.server.store import MemoryStore, RunStore, SqliteStore
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import CLOCK

if TYPE_CHECKING:
    from stepwire.server.web import WebServer

__all__ = [
    "authenticator_of",
    "credentials_of",
    "directory_of",
    "limits_of",
    "open_access",
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


def directory_of(settings: Settings) -> Path | None:
    """Return the data directory; None when runs are kept elsewhere or not at all."""
    return None if settings.data == ":memory:" or in_postgres(settings) else Path(settings.data)


def in_postgres(settings: Settings) -> bool:
    """Tell whether runs are kept in PostgreSQL."""
    return settings.data.startswith(POSTGRES)


def store_of(settings: Settings, metrics: Metrics) -> RunStore:
    """Return the store, not opened. ConfigError when its driver is not installed."""
    if in_postgres(settings):
        try:
            from stepwire.server.store.postgres import PostgresStore  # its driver is an extra
        except ModuleNotFoundError as error:
            raise ConfigError(f"data: {error.name} is not installed: pip install 'stepwire[postgres]'") from None
        return PostgresStore(settings.data, metrics.store, CLOCK.now)
    directory = directory_of(settings)
    return MemoryStore(CLOCK.now) if directory is None else SqliteStore(directory, metrics.store, CLOCK.now)


async def signer_of(settings: Settings, store: RunStore) -> Signer:
    """Return what signs snapshots. Its key lies in the data directory or the database, which must be open."""
    if in_postgres(settings):
        from stepwire.server.store.postgres import PostgresStore

        assert isinstance(store, PostgresStore)
        return Signer(await store.secret("snapshot key", os.urandom(32)))
    directory = directory_of(settings)
    return Signer.ephemeral() if directory is None else Signer.of_directory(directory)


def runs_of(
    settings: Settings, registry: Registry, store: RunStore, metrics: Metrics, notes: CrashNotes | None = None
) -> Runs:
    """Return the runs, not opened.

    Args:
        settings: The settings of the server.
        registry: The served workflows.
        store: Where runs are kept.
        metrics: Counts what the runs do.
        notes: What outlives a crash of the process; None keeps nothing.
    """
    pool = RunPool(
        registry,
        store,
        CODEC,
        failure_detail=settings.shown_failure_detail,
        sync_threads=settings.sync_threads,
        limits=RunLimits(
            queued_events=settings.max_queued_events,
            log_entries=settings.max_log_entries,
            state_bytes=settings.max_state_bytes,
            entry_bytes=settings.max_entry_bytes,
        ),
        metrics=metrics,
        notes=notes,
    )
    return Runs.of(
        pool,
        idle_after=settings.idle_after,
        retention=retention_of(settings),
        quota=RunQuota(settings.quota("max_runs")),
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


def web_of(settings: Settings) -> WebServer | None:
    """Return the web server, not opened; None when it is off.

    Raises:
        ConfigError: Its packages are missing.
    """
    if settings.web is None:
        return None
    try:
        # Imported here: a server without the web starts 0.3 seconds earlier.
        from stepwire.server.web import WebServer, WebSettings
    except ModuleNotFoundError as error:
        raise ConfigError(f"web_address: {error.name} is not installed: pip install 'stepwire[server]'") from None
    hosts = _listed(settings.web_hosts)
    return WebServer(
        WebSettings(
            address=settings.web,
            hosts=hosts if hosts or is_loopback(settings.web) else None,
            origins=_listed(settings.web_origins),
            tls_cert=settings.tls_cert,
            tls_key=settings.tls_key,
            max_body=_WEB_SLACK * settings.max_message_bytes,
            optional=settings.web_is_default,
        )
    )


def _listed(text: str) -> list[str]:
    return [each for each in map(str.strip, text.split(",")) if each]
