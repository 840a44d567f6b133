"""The settings as options of serve. Written by `make config` from config.py; do not edit."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["OPTIONS", "ServeOption"]


class ServeOption(NamedTuple):
    """A setting as an option; `switch` options take no value."""

    name: str
    metavar: str
    switch: bool
    help: str


OPTIONS: Final = (
    ServeOption(
        "address",
        "HOST:PORT",
        False,
        "Where to listen, HOST:PORT; port 0 is a free one. Default: 127.0.0.1:50051.",
    ),
    ServeOption(
        "data",
        "DIR",
        False,
        "The data directory, or :memory: to keep nothing. Default: stepwire-data.",
    ),
    ServeOption(
        "idle_after",
        "TIME",
        False,
        "After how long a run that only waits leaves memory. Default: 60.",
    ),
    ServeOption(
        "grace",
        "TIME",
        False,
        "How long running steps may go on when the server stops. Default: 5.",
    ),
    ServeOption(
        "failure_detail",
        "type|message|traceback",
        False,
        "What clients see of a step's error. Unset: message on loopback, type beyond.",
    ),
    ServeOption(
        "reflection",
        "TEXT",
        True,
        "Serve gRPC reflection. Unset: on loopback only.",
    ),
    ServeOption(
        "log_level",
        "debug|info|warning|error",
        False,
        "What is logged. Default: info.",
    ),
    ServeOption(
        "log_format",
        "text|json",
        False,
        "How: lines for people, or a JSON object on each line. Default: text.",
    ),
    ServeOption(
        "otlp_endpoint",
        "TEXT",
        False,
        "Where traces go (OTLP over gRPC), as http://host:4317. Unset: as OTEL_* variables say.",
    ),
    ServeOption(
        "admin_address",
        "HOST:PORT",
        False,
        "Where /metrics, /healthz and /readyz are served over HTTP, HOST:PORT. Unset: nowhere.",
    ),
    ServeOption(
        "watchdog",
        "TIME",
        False,
        "After how long a step that blocks the event loop is named in the log; 0: never. Default: 0.1.",
    ),
    ServeOption(
        "tls_cert",
        "FILE",
        False,
        "The server's certificate chain (PEM); read again when it changes.",
    ),
    ServeOption(
        "tls_key",
        "FILE",
        False,
        "The private key of tls_cert (PEM).",
    ),
    ServeOption(
        "client_ca",
        "FILE",
        False,
        "The roots (PEM) that clients' certificates must be signed by: mutual TLS.",
    ),
    ServeOption(
        "api_keys",
        "FILE",
        False,
        "The access file (TOML): hashed API keys and client certificates, with namespaces and scopes.",
    ),
    ServeOption(
        "jwks",
        "FILE",
        False,
        "The public keys (JWKS) that JSON Web Tokens are verified with.",
    ),
    ServeOption(
        "jwt_issuer",
        "TEXT",
        False,
        "The iss that tokens must have.",
    ),
    ServeOption(
        "jwt_audience",
        "TEXT",
        False,
        "The aud that tokens must have; required with jwks.",
    ),
    ServeOption(
        "insecure",
        "TEXT",
        True,
        "Listen beyond loopback although TLS or authentication is missing.",
    ),
    ServeOption(
        "max_message_bytes",
        "SIZE",
        False,
        "Largest request message. Default: 16MiB.",
    ),
    ServeOption(
        "max_event_bytes",
        "SIZE",
        False,
        "Largest payload of an event or an input. Default: 1MiB.",
    ),
    ServeOption(
        "max_state_bytes",
        "SIZE",
        False,
        "Largest state that clients may write. Default: 8MiB.",
    ),
    ServeOption(
        "max_snapshot_bytes",
        "SIZE",
        False,
        "Largest snapshot that StartRun takes. Default: 16MiB.",
    ),
    ServeOption(
        "max_depth",
        "NUMBER",
        False,
        "Levels of nesting that a payload may have; checked before it is parsed. Default: 100.",
    ),
    ServeOption(
        "max_calls",
        "NUMBER",
        False,
        "Calls under way at a time, without streams and waits. Default: 1024.",
    ),
    ServeOption(
        "max_runs",
        "NUMBER",
        False,
        "Unfinished runs of a principal. Unset: 100,000 with authentication; 0: no limit.",
    ),
    ServeOption(
        "max_streams",
        "NUMBER",
        False,
        "Open streams of a principal. Unset: 1,000 with authentication; 0: no limit.",
    ),
    ServeOption(
        "max_waiters",
        "NUMBER",
        False,
        "Open WaitRun and WaitForEvent of a principal. Unset: 10,000 with authentication; 0: no limit.",
    ),
    ServeOption(
        "max_events_per_second",
        "NUMBER",
        False,
        "Events and starts a second of a principal. Unset: 5,000 with authentication; 0: no limit.",
    ),
    ServeOption(
        "max_queued_events",
        "NUMBER",
        False,
        "Deliveries that a run may have open before it takes an event. Default: 10000.",
    ),
    ServeOption(
        "max_log_entries",
        "NUMBER",
        False,
        "Entries of a run's log beyond which it takes no event. Default: 1000000.",
    ),
    ServeOption(
        "sync_threads",
        "NUMBER",
        False,
        "Threads for sync steps. Default: 64.",
    ),
    ServeOption(
        "max_sync_backlog",
        "NUMBER",
        False,
        "Sync steps that may queue for a thread before runs are refused. Default: 10000.",
    ),
    ServeOption(
        "stalled_after",
        "TIME",
        False,
        "After how long a stream ends whose client reads nothing; 0: never. Default: 30.",
    ),
    ServeOption(
        "heartbeat",
        "TIME",
        False,
        "How often a stream on which nothing happens says that it lives. Default: 15.",
    ),
    ServeOption(
        "retention_age",
        "TIME",
        False,
        "How long ended runs are kept. Unset: for ever.",
    ),
    ServeOption(
        "retention_runs",
        "NUMBER",
        False,
        "How many ended runs of a workflow are kept, of each namespace. Unset: all.",
    ),
    ServeOption(
        "retention_entries",
        "NUMBER",
        False,
        "How many of its newest log entries every run keeps at least, from 1,000 on. Unset: all.",
    ),
)
