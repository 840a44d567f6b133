"""Serve StateService: read and write the states of runs."""

from __future__ import annotations

from stepwire.server.rpc.gate.call import caller_of_call
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.payloads import is_slow_to_write, payload, read_payload, write_payload
from stepwire.server.runs import RunState
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.runs.payloads import parse_json, parse_object, weight
from stepwire.server.runs.state import StateChange
from stepwire.v1 import state_service_pb2 as pb
from stepwire.v1 import state_service_pb2_grpc as grpc_code

_ANY = 1 << 62
"""Have `weight` take its short way: the runs weigh again what seems to be too much."""


class StateService(grpc_code.StateServiceServicer):
    """Read and write the states of runs."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    async def GetState(self, request: pb.GetStateRequest, context: Context) -> pb.GetStateResponse:
        data, etag = await self._state.get(caller_of_call(), request.run_id, request.path)
        slow = is_slow_to_write(len(data), request.encoding)
        value = await write_payload(data, request.encoding) if slow else payload(data, request.encoding)
        return pb.GetStateResponse(value=value, etag=etag)

    async def SetState(self, request: pb.SetStateRequest, context: Context) -> pb.SetStateResponse:
        values, size = [], 0
        for number, item in enumerate(request.values):
            data = await read_payload(item.value, "INVALID_STATE")
            if data is None:
                violation = Violation(f"values.{number}.value", "is required")
                raise InvalidError("INVALID_STATE", "A value is missing", [violation])
            size += weight(data, limit=_ANY)
            values.append((item.path, parse_json(data, "INVALID_STATE", "The value")))
        etag = await self._state.set(_change_of(request), values, size)
        return pb.SetStateResponse(etag=etag)

    async def UnsetState(self, request: pb.UnsetStateRequest, context: Context) -> pb.UnsetStateResponse:
        etag = await self._state.unset(_change_of(request), list(request.paths))
        return pb.UnsetStateResponse(etag=etag)

    async def ReplaceState(self, request: pb.ReplaceStateRequest, context: Context) -> pb.ReplaceStateResponse:
        data = await read_payload(request.value, "INVALID_STATE")
        if data is None:
            raise InvalidError("INVALID_STATE", "The state is missing", [Violation("value", "is required")])
        value = parse_object(data, "INVALID_STATE", "The state")
        etag = await self._state.replace(_change_of(request), value, weight(data, limit=_ANY))
        return pb.ReplaceStateResponse(etag=etag)


def _change_of(request: pb.SetStateRequest | pb.UnsetStateRequest | pb.ReplaceStateRequest) -> StateChange:
    """Return what all requests to change a state have in common."""
    return StateChange(caller_of_call(), request.run_id, request.etag, request.request_id)
