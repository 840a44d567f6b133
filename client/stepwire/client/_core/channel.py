"""How to reach the server: address, TLS, token, the options of gRPC's channel."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from stepwire.client._core.tracing import trace_metadata

__all__ = ["TlsConfig", "Token"]

Token = str | Callable[[], str]
"""A bearer token, or a function that returns the present one. The function is called for every call."""

DEFAULT_PORT = 50051
"""Where a server listens unless it is told otherwise."""

# Seconds. Servers end connections that ping more often: gRPC calls it "too many pings".
MIN_KEEPALIVE = 10.0
# Seconds between pings while calls are open, when another address could take them. Ours allow one a second. A server
# that allows fewer says so, and gRPC's channel then doubles the time by itself.
SEVERAL_KEEPALIVE = 3.0
# Seconds that the answer to a ping may take: gRPC's server gives it without Python, however busy the event loop is, but
# on a slow link it comes behind the data that wait there.
PING_TIMEOUT, SEVERAL_PING_TIMEOUT = 10.0, 5.0
# Seconds to connect. A hung server's kernel takes the connection, and gRPC's default waits 20 s for the first frame.
CONNECT_TIMEOUT, SEVERAL_CONNECT_TIMEOUT = 5.0, 3.0
# Seconds between attempts to connect, at most: so soon a server that is back is found. gRPC's default is two minutes.
RECONNECT_DELAY = 1.0


# Servers and proxies allow about 100 streams on a connection, so this is room for about 10,000.
MOST_CONNECTIONS = 100
_SCALING = json.dumps({"connectionScaling": {"maxConnectionsPerSubchannel": MOST_CONNECTIONS}})


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """How to speak TLS. Each of `ca`, `cert` and `key` is a PEM file or the PEM bytes.

    Attributes:
        ca: The roots to trust; None for gRPC's.
        cert: This client's certificate.
        key: The key of `cert`.
        server_name: The name to find in the server's certificate instead of the address.
    """

    ca: str | Path | bytes | None = None
    cert: str | Path | bytes | None = None
    key: str | Path | bytes | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return gRPC's credentials."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("TlsConfig needs both cert and key, or neither")
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.cert))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server is and how to speak with it. Fields are those of `Client`."""

    addresses: tuple[str, ...]
    tls: TlsConfig | None
    token: Token | None
    keepalive: float | None

    @classmethod
    def of(
        cls,
        address: str | Sequence[str],
        *,
        token: Token | None,
        tls: TlsConfig | bool | None,
        keepalive: float | None,
    ) -> Endpoint:
        """Check the settings. Raises ValueError, which names the wrong one."""
        addresses = split_addresses(address)
        for each in addresses or ("",):
            if not each or each.startswith(("http://", "https://")):
                raise ValueError(
                    "address must be HOST:PORT, such as 127.0.0.1:50051, or a gRPC target, or several of them, "
                    "not a URL; `tls` turns TLS on"
                )
        if keepalive is not None and keepalive < MIN_KEEPALIVE:
            raise ValueError(
                f"keepalive must be at least {MIN_KEEPALIVE:g} s, not {keepalive:g} s; None sends no pings"
            )
        if tls is None and token is not None and not all(map(is_local, addresses)):
            raise ValueError(
                "a token would go unencrypted to another machine: pass tls=True or a TlsConfig,"
                " or tls=False to allow it"
            )
        config = TlsConfig() if tls is True else (tls or None)
        return cls(addresses, config, token, keepalive)

    def options(self) -> list[tuple[str, Any]]:
        """Return gRPC's channel options."""
        several = len(self.addresses) > 1
        options: list[tuple[str, Any]] = [
            # The server limits what it accepts and sends.
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", int(RECONNECT_DELAY * 1000)),
            # In spite of its name it is the time that an attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", int((SEVERAL_CONNECT_TIMEOUT if several else CONNECT_TIMEOUT) * 1000)),
            # Calls beyond what a connection allows would wait for a place on it: open another connection.
            ("grpc.service_config", _SCALING),
            ("grpc.max_connections_per_subchannel_cap", MOST_CONNECTIONS),
            ("grpc.primary_user_agent", f"stepwire-python/{_version()}"),
        ]
        if self.keepalive is not None:
            time = min(self.keepalive, SEVERAL_KEEPALIVE) if several else self.keepalive
            timeout = SEVERAL_PING_TIMEOUT if several else PING_TIMEOUT
            options += [
                ("grpc.keepalive_time_ms", int(time * 1000)),
                ("grpc.keepalive_timeout_ms", int(timeout * 1000)),
                ("grpc.http2.max_pings_without_data", 0),
            ]
            if several:
                # gRPC 1.85 does not keep to keepalive_timeout_ms: a ping may take this, by default a minute.
                options.append(("grpc.http2.ping_timeout_ms", int(timeout * 1000)))
        if self.tls is not None and self.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call: the token, and the caller's trace where OpenTelemetry is installed."""
        trace = trace_metadata()
        if self.token is None:
            return trace
        token = self.token if isinstance(self.token, str) else self.token()
        return (("authorization", f"Bearer {token}"), *trace)

    @property
    def address(self) -> str:
        """Return the addresses as one text."""
        return ",".join(self.addresses)

    def open(self, index: int = 0) -> grpc.Channel:
        """Return a channel for threads, to one of the addresses."""
        if self.tls is None:
            return grpc.insecure_channel(self.addresses[index], self.options())
        return grpc.secure_channel(self.addresses[index], self.tls.credentials(), self.options())

    def open_aio(self, index: int = 0) -> grpc.aio.Channel:
        """Return a channel for the running loop, to one of the addresses."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.addresses[index], self.options())
        return grpc.aio.secure_channel(self.addresses[index], self.tls.credentials(), self.options())


def split_addresses(address: str | Sequence[str]) -> tuple[str, ...]:
    """Return the addresses of a list, or of a text with commas. A gRPC target that has commas itself is one."""
    if not isinstance(address, str):
        return tuple(address)
    if address.startswith(("ipv4:", "ipv6:")):
        return (address,)
    return tuple(each.strip() for each in address.split(","))


def port_advice(address: str) -> str:
    """Return what to do about an address that is a host alone, for which gRPC takes the port of HTTPS; else ""."""
    if not address or set(address) & set(":/"):
        return ""
    return f"{address} has no port: is it {address}:{DEFAULT_PORT}?"


def is_local(address: str) -> bool:
    """Say whether calls to an address stay on this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    target = address.rsplit("/", 1)[-1]  # dns:///host:port
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        target = target.removeprefix(scheme)
    host = target[1:].split("]")[0] if target.startswith("[") else target.rsplit(":", 1)[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pem(source: str | Path | bytes | None) -> bytes | None:
    return source if source is None or isinstance(source, bytes) else Path(source).read_bytes()


def _version() -> str:
    try:
        return version("stepwire")
    except PackageNotFoundError:  # a checkout that was not installed
        return "0"
