"""Serve ServerService: tell about the server, and about who calls."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from stepwire.server.rpc.convert.times import timestamp
from stepwire.server.rpc.gate.call import caller_of_call
from stepwire.server.rpc.grpc_types import Context
from stepwire.v1 import server_service_pb2 as pb
from stepwire.v1 import server_service_pb2_grpc as grpc_code

__all__ = ["ServerFacts", "ServerService"]


class ServerFacts(NamedTuple):
    """What a server tells about itself: nothing secret, no paths.

    Attributes:
        version: The version of Stepwire.
        started_at: When it began to serve, in seconds since the epoch.
        store: Where runs are kept: memory, sqlite or postgresql.
        replicas: How many replicas take runs.
        unready: Why it takes no work now; empty when it does.
        authenticates: Whether callers must authenticate.
        settings: Settings that matter, as text.
    """

    version: str
    started_at: float
    store: str
    replicas: int
    unready: str
    authenticates: bool
    settings: Mapping[str, str]


class ServerService(grpc_code.ServerServiceServicer):
    """Tell about the server, and about who calls."""

    def __init__(self, facts: Callable[[], ServerFacts]) -> None:
        self._facts = facts

    async def GetServer(self, request: pb.GetServerRequest, context: Context) -> pb.GetServerResponse:
        facts = self._facts()
        return pb.GetServerResponse(
            version=facts.version,
            python_version=platform.python_version(),
            started_at=timestamp(facts.started_at),
            time=timestamp(time.time()),
            store=facts.store,
            replicas=facts.replicas,
            unready=facts.unready,
            authenticates=facts.authenticates,
            settings=facts.settings,
        )

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Context) -> pb.WhoAmIResponse:
        caller = caller_of_call()
        return pb.WhoAmIResponse(
            principal=caller.name,
            namespaces=[caller.namespace],
            scopes=list(caller.scopes),
            expires_at=None if caller.expires is None else timestamp(caller.expires),
        )
