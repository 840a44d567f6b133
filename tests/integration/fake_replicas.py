"""Servers that answer GetRun and nothing else, note who called them, and name an owner in trailing metadata."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, types_pb2


@dataclass
class FakeReplica(run_service_pb2_grpc.RunServiceServicer):
    """A replica.

    Attributes:
        owner: The address that it names; empty for none.
        down: Whether it refuses calls as a stopping server does.
        slow: Seconds that an answer takes.
        calls: The authorization of each call.
        address: Where it listens.
    """

    owner: str = ""
    down: bool = False
    slow: float = 0.0
    calls: list[str] = field(default_factory=list)
    address: str = ""

    async def GetRun(self, request: runs.GetRunRequest, context: Any) -> runs.GetRunResponse:
        """Return a run."""
        metadata = dict(context.invocation_metadata())
        self.calls.append(metadata.get("authorization", ""))
        await asyncio.sleep(self.slow)
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        if self.owner:
            context.set_trailing_metadata((("stepwire-owner", self.owner),))
        status = types_pb2.RUN_STATUS_RUNNING
        return runs.GetRunResponse(run=types_pb2.Run(run_id=request.run_id, workflow="w", status=status))


@asynccontextmanager
async def replicas(count: int) -> AsyncIterator[list[FakeReplica]]:
    """Serve some replicas."""
    found, servers = [], []
    try:
        for _ in range(count):
            replica, server = FakeReplica(), grpc.aio.server(options=(("grpc.so_reuseport", 0),))
            run_service_pb2_grpc.add_RunServiceServicer_to_server(replica, server)
            replica.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            found.append(replica)
            servers.append(server)
        yield found
    finally:
        for server in servers:
            await server.stop(None)
