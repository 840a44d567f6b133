"""Serve the contract: one servicer for each service, whose methods convert, call and convert."""

from __future__ import annotations

import grpc

from stepwire.server.registry import Registry
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.log_reader import DEFAULT_INTERVAL
from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.rpc.services.run_service import RunService
from stepwire.server.rpc.services.snapshot_service import SnapshotService
from stepwire.server.rpc.services.state_service import StateService
from stepwire.server.rpc.services.workflow_service import WorkflowService
from stepwire.server.rpc.signing import Signer
from stepwire.server.runs import Runs
from stepwire.v1 import (
    run_service_pb2,
    run_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
    state_service_pb2,
    state_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

__all__ = ["SERVICES", "add_services"]

SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (workflow_service_pb2, "WorkflowService"),
        (run_service_pb2, "RunService"),
        (state_service_pb2, "StateService"),
        (snapshot_service_pb2, "SnapshotService"),
    )
)
"""The full names of the contract's services."""


def add_services(
    server: grpc.aio.Server,
    registry: Registry,
    runs: Runs,
    gate: Gate,
    signer: Signer,
    *,
    heartbeat: float = DEFAULT_INTERVAL,
) -> None:
    """Serve the contract on a gRPC server.

    Args:
        server: The server, not started yet. Its outermost interceptor must be a GateInterceptor with the same gate.
        registry: The served workflows.
        runs: The runs of this server.
        gate: Admits the frames of conversations.
        signer: Signs the snapshots that leave the server.
        heartbeat: Seconds after which a silent stream sends a heartbeat.
    """
    service = RunService(runs, RunActions(runs, signer), gate, heartbeat)
    workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server(WorkflowService(registry), server)
    run_service_pb2_grpc.add_RunServiceServicer_to_server(service, server)
    state_service_pb2_grpc.add_StateServiceServicer_to_server(StateService(runs.state), server)
    snapshot_service_pb2_grpc.add_SnapshotServiceServicer_to_server(SnapshotService(runs, signer), server)
