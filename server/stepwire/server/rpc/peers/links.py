"""Connections to other replicas, by address, kept as long as their replicas live."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from stepwire.server.store import Cluster
from stepwire.workflow.hosting import start_task

__all__ = ["LinkSecurity", "Links"]

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A machine that is gone without a word is found out within 4 seconds; a busy one answers pings by then.
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),  # gRPC 1.85 goes by this one, by default a minute
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
)


class LinkSecurity(NamedTuple):
    """How replicas reach each other; all None without TLS.

    Attributes:
        roots: The file with the roots of the other replicas' certificates; None for the usual ones.
        cert: The file with this replica's certificate chain, which it shows to the others.
        key: The file with its private key.
    """

    roots: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return gRPC's credentials, from the files as they are now. Raises OSError."""
        if self.cert is None or self.key is None:
            return None
        return grpc.ssl_channel_credentials(
            self.roots.read_bytes() if self.roots is not None else None, self.key.read_bytes(), self.cert.read_bytes()
        )


class Links:
    """Open and close connections to other replicas.

    Attributes:
        security: How they are made.
    """

    def __init__(self, cluster: Cluster, security: LinkSecurity) -> None:
        self._cluster = cluster
        self.security = security
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stubs: dict[tuple[str, str], Any] = {}
        self._calls: defaultdict[str, set[Any]] = defaultdict(set)
        self._closing: set[asyncio.Task[None]] = set()
        cluster.on_change(self._changed)

    def unary(self, address: str, method: str) -> Any:
        """Return gRPC's callable of a unary method at a replica; requests and responses are bytes."""
        return self._stub(address, method, lambda channel: channel.unary_unary(method))

    def stream(self, address: str, method: str) -> Any:
        """Return gRPC's callable of a method that streams responses."""
        return self._stub(address, method, lambda channel: channel.unary_stream(method))

    def both(self, address: str, method: str) -> Any:
        """Return gRPC's callable of a method that streams requests and responses."""
        return self._stub(address, method, lambda channel: channel.stream_stream(method))

    def _stub(self, address: str, method: str, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        stub = self._stubs.get((address, method))
        if stub is None:
            channel = self._channels.get(address)
            if channel is None:
                channel = self._channels[address] = self._open(address)
            stub = self._stubs[address, method] = make(channel)
        return stub

    def _open(self, address: str) -> grpc.aio.Channel:
        credentials = self.security.credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)

    def begin(self, address: str, call: Any) -> None:
        """Have a call cancelled when the replica at an address is not alive any more; `end` it in any case."""
        self._calls[address].add(call)

    def end(self, address: str, call: Any) -> bool:
        """Note that a call has ended; return whether it was cancelled because its replica is dead."""
        calls = self._calls.get(address)
        if calls is None or call not in calls:
            return True
        calls.discard(call)
        return False

    def _changed(self) -> None:
        alive = {peer.address for peer in self._cluster.peers}
        for address in list(self._calls):
            if address not in alive:
                for call in self._calls.pop(address):
                    call.cancel()
        for address in list(self._channels):
            if address not in alive:
                self._close(address)

    def _close(self, address: str) -> None:
        channel = self._channels.pop(address)
        self._stubs = {key: stub for key, stub in self._stubs.items() if key[0] != address}
        # Calls under way may still be answered: a replica that signs off goes on for a while.
        task = start_task(channel.close(grace=5.0))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections."""
        channels, self._channels = self._channels, {}
        self._stubs = {}
        for channel in channels.values():
            await channel.close()
        for task in list(self._closing):
            task.cancel()
