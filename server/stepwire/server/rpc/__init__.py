"""The contract on the wire: servicers, conversion, errors."""

from stepwire.server.rpc.entries import CODEC
from stepwire.server.rpc.interceptor import ErrorInterceptor
from stepwire.server.rpc.services import RunService, SnapshotService, StateService, WorkflowService
from stepwire.server.rpc.signing import Signer

__all__ = [
    "CODEC",
    "ErrorInterceptor",
    "RunService",
    "Signer",
    "SnapshotService",
    "StateService",
    "WorkflowService",
]
