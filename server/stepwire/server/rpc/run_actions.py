"""What a unary method and a frame of a conversation do alike: convert the request, then call the runs."""

from __future__ import annotations

import asyncio

from stepwire.server.principal import Principal
from stepwire.server.rpc.convert import runs as convert
from stepwire.server.rpc.convert.snapshots import snapshot_data
from stepwire.server.rpc.gate.call import this_call
from stepwire.server.rpc.payloads import read_payload
from stepwire.server.rpc.signing import Signer
from stepwire.server.runs import Runs
from stepwire.server.runs.requests import SnapshotData
from stepwire.server.store import RunRecord
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import types_pb2
from stepwire.workflow.hosting import Receipt


class RunActions:
    """Start, write to and cancel runs, given the requests of the contract's methods."""

    def __init__(self, runs: Runs, signer: Signer) -> None:
        self._lifecycle = runs.lifecycle
        self._events = runs.events
        self._signer = signer

    async def start(self, caller: Principal, request: pb.StartRunRequest, wait: float = 0.0) -> RunRecord:
        """Start a run and return its record; the end of a new run may be waited for up to `wait` seconds.

        Raises:
            RunsError: As StartRun says; a snapshot must carry this server's signature.
        """
        snapshot = None
        if request.WhichOneof("source") == "snapshot":
            snapshot = await asyncio.to_thread(self._verified, request.snapshot)  # it may have megabytes
        data = await read_payload(request.input, "INVALID_INPUT")
        return await self._lifecycle.start(caller, convert.start_request(request, snapshot, data), wait)

    def _verified(self, snapshot: types_pb2.ContextSnapshot) -> SnapshotData:
        self._signer.verify(snapshot)
        return snapshot_data(snapshot)

    async def send(self, caller: Principal, request: pb.SendEventRequest) -> tuple[int, int]:
        """Send an event to a run's steps and waiters. RunsError, as SendEvent says."""
        receipt = await self._events.send(
            caller,
            request.run_id,
            request.event.type,
            await read_payload(request.event.payload, "INVALID_EVENT") or b"",
            request.step,
            request.request_id,
        )
        if child := getattr(receipt, "child", ""):
            this_call().relayed = child
        return receipt.sequence, receipt.delivered

    async def publish(self, caller: Principal, request: pb.PublishEventRequest) -> Receipt:
        """Write an event to a run's stream. RunsError, as PublishEvent says."""
        return await self._events.publish(
            caller,
            request.run_id,
            request.event.type,
            await read_payload(request.event.payload, "INVALID_EVENT") or b"",
            request.request_id,
        )

    async def cancel(self, caller: Principal, request: pb.CancelRunRequest) -> RunRecord:
        """Cancel a run and return its record. RunsError, as CancelRun says."""
        return await self._lifecycle.cancel(caller, request.run_id, request.reason)
