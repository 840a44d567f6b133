"""Serve SnapshotService: give the snapshots of runs."""

from __future__ import annotations

import asyncio
import json

from stepwire.server.rpc.convert import pages
from stepwire.server.rpc.convert import snapshots as convert
from stepwire.server.rpc.convert.times import timestamp
from stepwire.server.rpc.gate.call import caller_of_call
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.payloads import write_payload
from stepwire.server.rpc.signing import Signer
from stepwire.server.runs import Runs
from stepwire.server.runs.errors import WorkflowNotFoundError
from stepwire.server.runs.payloads import digest
from stepwire.v1 import snapshot_service_pb2 as pb
from stepwire.v1 import snapshot_service_pb2_grpc as grpc_code
from stepwire.workflow.hosting import RegistrySerializer, legacy_view, run_of


class SnapshotService(grpc_code.SnapshotServiceServicer):
    """Give the snapshots of runs."""

    def __init__(self, runs: Runs, signer: Signer) -> None:
        self._runs = runs
        self._signer = signer

    async def GetSnapshot(self, request: pb.GetSnapshotRequest, context: Context) -> pb.GetSnapshotResponse:
        caller = caller_of_call()
        record = await self._runs.pool.records.get(caller, request.run_id)
        snapshot = await self._runs.snapshots.of(record, request.sequence)
        served = self._runs.pool.registry.get(record.workflow)
        state_type = served.state_type if served is not None else ""
        status = convert.snapshot_status(snapshot, record)
        # In a thread: a snapshot may have megabytes.
        message = await asyncio.to_thread(convert.snapshot_message, snapshot, status, state_type)
        response = pb.GetSnapshotResponse(snapshot=await asyncio.to_thread(self._signer.sign, message))
        if request.include_context_dict:
            await self._runs.snapshots.check_code(record)
            if served is None:
                raise WorkflowNotFoundError(record.workflow, "The run's workflow is not served here")
            found = await self._runs.snapshots.context_of(served, snapshot)
            view = legacy_view(run_of(found).broker, RegistrySerializer(served.names), stepwise=False)
            data = json.dumps(view, ensure_ascii=False).encode()
            response.context_dict.CopyFrom(await write_payload(data, request.encoding))
        return response

    async def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Context) -> pb.ListSnapshotsResponse:
        size = pages.page_size(request.page_size)
        bound = digest("snapshots", request.run_id)
        before = int(pages.page_place(request.page_token, bound, int)[0]) if request.page_token else None
        found = await self._runs.snapshots.infos(caller_of_call(), request.run_id, before, size + 1)
        response = pb.ListSnapshotsResponse()
        for sequence, at, stored in found[:size]:
            response.snapshots.add(sequence=sequence, created_at=timestamp(at), size_bytes=stored)
        if len(found) > size:
            response.next_page_token = pages.page_token([found[size - 1].sequence], bound)
        return response
