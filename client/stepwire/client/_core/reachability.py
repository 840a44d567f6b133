"""Find out why a server cannot be reached: gRPC's channels do not say, calls do."""

from __future__ import annotations

import grpc

from stepwire.client._core.call import Call
from stepwire.client._core.channel import port_advice
from stepwire.client._core.reconnect import is_connection_loss
from stepwire.client.errors import DeadlineError, StepwireError, UnavailableError
from stepwire.v1 import workflow_service_pb2 as workflows

# Seconds for the call that finds out. It fails at once when the last attempt to connect has failed.
PROBE_TIMEOUT = 0.2


def probe() -> Call[None]:
    """Return a call that fails with the reason when the server cannot be reached."""
    request = workflows.ListWorkflowsRequest(page_size=1)
    return Call("WorkflowService.ListWorkflows", request, lambda _: None, safe=False, budget=PROBE_TIMEOUT)


def check_reached(error: StepwireError, address: str, timeout: float) -> None:
    """Raise UnavailableError when the error of a probe means that the server was not reached."""
    if isinstance(error, DeadlineError):
        text = f"{address} does not answer within {timeout:g} s"
        advice = port_advice(address)
        raise UnavailableError(text, code=grpc.StatusCode.UNAVAILABLE, advice=advice) from None
    if is_connection_loss(error) and not error.reason:
        raise error
