"""The gRPC server: which services it has, where it listens, and its health service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from stepwire.server.config import Settings
from stepwire.server.rpc import (
    SERVICES,
    Calls,
    CheckedHealth,
    Gate,
    Gatekeeper,
    Handlers,
    LocalCalls,
    Peers,
    ServerFacts,
    Signer,
    add_services,
    is_free,
)
from stepwire.server.runs import Runs

__all__ = ["Listener"]

_WALL: Final = 4
"""Factor between our limit of a message and gRPC's: up to there we refuse a message, with details and a count. gRPC
refuses larger ones by their length alone."""
_SLACK: Final = 1 << 20
"""Bytes added to gRPC's limit, so that our own error comes first also when our limit is small."""
_LARGEST: Final = (1 << 31) - 1
"""The largest limit that gRPC can hold."""
_PING_MILLISECONDS: Final = 1_000
"""How often clients may ping a connection, also one without a call. Those with several addresses do every 3 seconds."""
_PEER_MILLISECONDS: Final = 500
"""How often other replicas may: they find out within seconds that a machine is gone."""
_END_SECONDS: Final = 1.0
"""How long calls may take to end once the server stops: their sessions have been ended before."""


_TAKE_SECONDS: Final = 0.01
"""How long calls that have arrived get to reach their handlers before the stop. gRPC ends with CANCELLED those that it
has not handed over by then, and it hands over one in each round of the event loop."""


class Listener:
    """Serve the contract on one address."""

    def __init__(self, settings: Settings, probed: Callable[[bool], None] = lambda refused: None) -> None:
        """Make a listener.

        Args:
            settings: The settings of the server.
            probed: Called when a health check was answered, with whether it was told that the server takes no work.
        """
        self.port = 0
        """The port that it got; 0 for a unix socket."""
        self._settings = settings
        self._health = CheckedHealth(probed)
        self._server: grpc.aio.Server | None = None
        self._local: LocalCalls | None = None

    @property
    def address(self) -> str:
        """Return the address with the port that it got."""
        address = self._settings.address
        return address if address.startswith("unix") else f"{address.rpartition(':')[0]}:{self.port}"

    def bind(
        self,
        runs: Runs,
        calls: Calls,
        signer: Signer,
        facts: Callable[[], ServerFacts],
        credentials: grpc.ServerCredentials | None,
        peers: Peers | None = None,
    ) -> None:
        """Make the gRPC server and take its address; `start` begins to serve.

        Args:
            runs: What the services work on.
            calls: Admits calls.
            signer: Signs snapshots.
            facts: Tells about the server.
            credentials: TLS credentials; None listens without TLS.
            peers: The other replicas; None if there can be none.

        Raises:
            OSError: The address cannot be used.
        """
        gate = Gate(runs.pool, audited=self._settings.audit_log is not None)
        if gate.audit is not None:
            runs.family.audit.listener = gate.audit.done_to_child
            runs.schedules.audit.listener = gate.audit.done
        handlers = Handlers()
        gatekeeper = Gatekeeper(handlers, calls, gate, peers)
        server = grpc.aio.server(handlers=(gatekeeper,), options=self._options(shared=peers is not None))
        self._local = local = LocalCalls(gatekeeper)
        heartbeat = self._settings.heartbeat
        add_services(
            handlers, runs.pool.registry, runs, gate, signer, facts, heartbeat=heartbeat, peers=peers, local=local
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, handlers)  # type: ignore[arg-type]  # all that it needs
        if self._settings.shows_reflection:
            # Imported here: most servers have no need of it.
            from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            # Not `enable_server_reflection`, which would take the handlers for a server of threads.
            servicer = reflection.aio.ReflectionServicer(names)
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, handlers)  # type: ignore[no-untyped-call]
        self._server = server
        self.port = self._take_address(server, credentials)

    @property
    def local(self) -> LocalCalls:
        """Return the services for callers of this process, such as its web; after `bind`."""
        assert self._local is not None
        return self._local

    async def start(self) -> None:
        """Begin to serve."""
        assert self._server is not None
        await self._server.start()

    async def stop(self, seconds: float = _END_SECONDS) -> None:
        """Serve no more; cut the calls that are still under way after so many seconds."""
        if self._server is not None:
            await asyncio.sleep(_TAKE_SECONDS)
            await self._server.stop(seconds)

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether the server takes work."""
        kinds = health_pb2.HealthCheckResponse
        for service in ("", *SERVICES):
            await self._health.set(service, kinds.SERVING if serving else kinds.NOT_SERVING)

    def _options(self, *, shared: bool) -> tuple[tuple[str, int], ...]:
        most = _WALL * self._settings.max_message_bytes + _SLACK
        return (
            # Two servers on one port would silently share its connections.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", min(_LARGEST, most)),
            ("grpc.max_send_message_length", -1),
            ("grpc.http2.min_ping_interval_without_data_ms", _PEER_MILLISECONDS if shared else _PING_MILLISECONDS),
            ("grpc.keepalive_permit_without_calls", 1),
        )

    def _take_address(self, server: grpc.aio.Server, credentials: grpc.ServerCredentials | None) -> int:
        address = self._settings.address
        if not is_free(address):
            raise OSError(f"cannot listen on {address}: another server listens there; --address names another port")
        try:
            if credentials is not None:
                port = server.add_secure_port(address, credentials)
            else:
                port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is the port taken?") from error
        if port == 0:
            raise OSError(f"cannot listen on {address}: is the port taken?")
        return port
