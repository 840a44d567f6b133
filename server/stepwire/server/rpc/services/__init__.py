"""Serve the contract: one servicer for each service, whose methods convert, call and convert."""

from __future__ import annotations

from collections.abc import Callable

from stepwire.server.registry import Registry
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.local import LocalCalls
from stepwire.server.rpc.log_reader import DEFAULT_INTERVAL
from stepwire.server.rpc.peers.peers import Peers
from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.rpc.services.run_service import RunService
from stepwire.server.rpc.services.schedule_service import ScheduleService
from stepwire.server.rpc.services.server_service import ServerFacts, ServerService
from stepwire.server.rpc.services.snapshot_service import SnapshotService
from stepwire.server.rpc.services.state_service import StateService
from stepwire.server.rpc.services.workflow_service import WorkflowService
from stepwire.server.rpc.signing import Signer
from stepwire.server.runs import Runs
from stepwire.v1 import (
    run_service_pb2,
    run_service_pb2_grpc,
    schedule_service_pb2,
    schedule_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
    state_service_pb2,
    state_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

__all__ = ["SERVICES", "ServerFacts", "add_services"]

SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (workflow_service_pb2, "WorkflowService"),
        (run_service_pb2, "RunService"),
        (state_service_pb2, "StateService"),
        (snapshot_service_pb2, "SnapshotService"),
        (server_service_pb2, "ServerService"),
        (schedule_service_pb2, "ScheduleService"),
    )
)
"""The full names of the contract's services."""


def add_services(
    server: Handlers,
    registry: Registry,
    runs: Runs,
    gate: Gate,
    signer: Signer,
    facts: Callable[[], ServerFacts],
    *,
    heartbeat: float = DEFAULT_INTERVAL,
    peers: Peers | None = None,
    local: LocalCalls | None = None,
) -> None:
    """Serve the contract by the handlers of a gRPC server.

    Args:
        server: The handlers that a Gatekeeper with the same gate stands before.
        registry: The served workflows.
        runs: The runs of this server.
        gate: Admits the frames of conversations.
        signer: Signs the snapshots that leave the server.
        facts: Tells about the server.
        heartbeat: Seconds after which a silent stream sends a heartbeat.
        peers: The other replicas; None if there can be none.
        local: The services behind the gate, for the calls that replicas pass on; needed if there can be any.
    """
    forwarder = None if peers is None else peers.forwarder
    service = RunService(runs, RunActions(runs, signer), gate, heartbeat, forwarder)
    workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server(WorkflowService(runs), server)
    run_service_pb2_grpc.add_RunServiceServicer_to_server(service, server)
    state_service_pb2_grpc.add_StateServiceServicer_to_server(StateService(runs.state), server)
    snapshot_service_pb2_grpc.add_SnapshotServiceServicer_to_server(SnapshotService(runs, signer), server)
    server_service_pb2_grpc.add_ServerServiceServicer_to_server(ServerService(facts), server)
    schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server(ScheduleService(runs.schedules), server)
    if peers is not None and local is not None:
        peers.serve(server, local, runs.schedules.starter)
