"""The servicers: convert, call, convert."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import grpc

from stepwire.server.registry import Registry
from stepwire.server.rpc import convert
from stepwire.server.rpc.converse import Session
from stepwire.server.rpc.entry_codec import Framer, entry_message
from stepwire.server.rpc.gate.calls import CALL, caller_of_call
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.payloads import json_of, payload
from stepwire.server.rpc.signing import Signer
from stepwire.server.runs import Principal, Runs, RunState
from stepwire.server.runs.errors import InvalidError, Violation, WorkflowNotFoundError
from stepwire.server.runs.event_waits import EventQuery
from stepwire.server.runs.payloads import digest, parse_json, parse_object
from stepwire.server.runs.requests import StartRequest
from stepwire.server.runs.state import StateChange
from stepwire.server.store import RunQuery
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
from stepwire.workflow.hosting import RegistrySerializer, legacy_view

HEARTBEAT_SECONDS = 15.0
_EVENTS_FIELD = run_service_pb2.StreamEventsResponse.DESCRIPTOR.fields_by_name["events"].number


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
    signer: Signer,
    *,
    heartbeat: float = HEARTBEAT_SECONDS,
) -> None:
    """Serve the contract on a gRPC server; silent streams say every `heartbeat` seconds that they live."""
    service = RunService(runs, signer, heartbeat)
    workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server(WorkflowService(registry), server)
    run_service_pb2_grpc.add_RunServiceServicer_to_server(service, server)
    state_service_pb2_grpc.add_StateServiceServicer_to_server(StateService(runs.state), server)
    snapshot_service_pb2_grpc.add_SnapshotServiceServicer_to_server(SnapshotService(runs, signer), server)


def principal_of(context: Context) -> Principal:
    """Return the caller."""
    return caller_of_call()


class WorkflowService(workflow_service_pb2_grpc.WorkflowServiceServicer):
    """Describe the served workflows."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListWorkflows(
        self, request: workflow_service_pb2.ListWorkflowsRequest, context: Context
    ) -> workflow_service_pb2.ListWorkflowsResponse:
        scopes = principal_of(context).scopes
        names = [name for name in self._registry.names() if scopes.sees(name)]
        if request.page_token:
            last = str(convert.page_place(request.page_token, "workflows", str)[0])
            names = [name for name in names if name > last]
        size = convert.page_size(request.page_size)
        response = workflow_service_pb2.ListWorkflowsResponse()
        for name in names[:size]:
            served = self._registry.get(name)
            assert served is not None
            summary = served.doc.strip().split("\n", 1)[0]
            response.workflows.add(name=name, version=served.version, description=summary)
        if len(names) > size:
            response.next_page_token = convert.page_token([names[size - 1]], "workflows")
        return response

    async def GetWorkflow(
        self, request: workflow_service_pb2.GetWorkflowRequest, context: Context
    ) -> workflow_service_pb2.GetWorkflowResponse:
        served = self._registry.get(request.name)
        if served is None or not principal_of(context).scopes.sees(request.name):
            raise WorkflowNotFoundError("No workflow of this name is served", workflow=request.name[:128])
        return workflow_service_pb2.GetWorkflowResponse(workflow=convert.workflow(served))


class RunService(run_service_pb2_grpc.RunServiceServicer):
    """Start runs, follow them and talk with them."""

    def __init__(self, runs: Runs, signer: Signer, heartbeat: float) -> None:
        self._runs = runs
        self._events = runs.events
        self._signer = signer
        self._heartbeat = heartbeat

    def start_request(self, request: run_service_pb2.StartRunRequest) -> StartRequest:
        """Convert a StartRun, its snapshot verified."""
        snapshot = None
        if request.WhichOneof("source") == "snapshot":
            self._signer.verify(request.snapshot)
            snapshot = convert.snapshot_data(request.snapshot)
        return convert.start_request(request, snapshot)

    async def StartRun(
        self, request: run_service_pb2.StartRunRequest, context: Context
    ) -> run_service_pb2.StartRunResponse:
        caller = principal_of(context)
        wait = convert.wait_of(request, "wait")
        record = await self._runs.lifecycle.start(caller, self.start_request(request))
        if wait is not None:
            record, _ = await self._runs.lifecycle.wait(caller, record.key.run_id, wait)
        return run_service_pb2.StartRunResponse(run=convert.run(record, request.encoding))

    async def GetRun(self, request: run_service_pb2.GetRunRequest, context: Context) -> run_service_pb2.GetRunResponse:
        record = await self._runs.pool.get(principal_of(context), request.run_id)
        return run_service_pb2.GetRunResponse(run=convert.run(record, request.encoding))

    async def ListRuns(
        self, request: run_service_pb2.ListRunsRequest, context: Context
    ) -> run_service_pb2.ListRunsResponse:
        caller = principal_of(context)
        size = convert.page_size(request.page_size)
        query = RunQuery(
            namespace=caller.namespace,
            workflow=request.workflow,
            statuses=convert.status_names(request.statuses),
            labels=dict(request.labels),
            created_after=convert.just_before(request.created_after) if request.HasField("created_after") else None,
            created_before=convert.time_of(request.created_before) if request.HasField("created_before") else None,
            limit=size + 1,
            workflows=caller.scopes.workflows if caller.scopes.restricted else None,
        )
        bound = digest(
            "runs", query.namespace, query.workflow, list(query.statuses), query.labels,
            query.created_after, query.created_before, query.workflows,
        )  # fmt: skip
        if request.page_token:
            created_at, run_id = convert.page_place(request.page_token, bound, float, str)
            query.before = (created_at, run_id)
        records = await self._runs.lifecycle.list_runs(query)
        response = run_service_pb2.ListRunsResponse()
        for record in records[:size]:
            response.runs.append(convert.run(record, request.encoding))
        if len(records) > size:
            last = records[size - 1]
            response.next_page_token = convert.page_token([last.created_at, last.key.run_id], bound)
        return response

    async def WaitRun(
        self, request: run_service_pb2.WaitRunRequest, context: Context
    ) -> run_service_pb2.WaitRunResponse:
        timeout = convert.wait_of(request, "timeout")
        record, timed_out = await self._runs.lifecycle.wait(principal_of(context), request.run_id, timeout)
        return run_service_pb2.WaitRunResponse(run=convert.run(record, request.encoding), timed_out=timed_out)

    async def CancelRun(
        self, request: run_service_pb2.CancelRunRequest, context: Context
    ) -> run_service_pb2.CancelRunResponse:
        record = await self._runs.lifecycle.cancel(principal_of(context), request.run_id, request.reason)
        return run_service_pb2.CancelRunResponse(run=convert.run(record, request.encoding))

    async def DeleteRun(
        self, request: run_service_pb2.DeleteRunRequest, context: Context
    ) -> run_service_pb2.DeleteRunResponse:
        await self._runs.lifecycle.delete(principal_of(context), request.run_id)
        return run_service_pb2.DeleteRunResponse()

    async def SendEvent(
        self, request: run_service_pb2.SendEventRequest, context: Context
    ) -> run_service_pb2.SendEventResponse:
        sequence, delivered = await self._events.send(
            principal_of(context),
            request.run_id,
            request.event.type,
            json_of(request.event.payload, "INVALID_EVENT") or b"",
            request.step,
            request.request_id,
        )
        return run_service_pb2.SendEventResponse(sequence=sequence, delivered=delivered)

    async def PublishEvent(
        self, request: run_service_pb2.PublishEventRequest, context: Context
    ) -> run_service_pb2.PublishEventResponse:
        sequence, _ = await self._events.publish(
            principal_of(context),
            request.run_id,
            request.event.type,
            json_of(request.event.payload, "INVALID_EVENT") or b"",
            request.request_id,
        )
        return run_service_pb2.PublishEventResponse(sequence=sequence)

    async def WaitForEvent(
        self, request: run_service_pb2.WaitForEventRequest, context: Context
    ) -> run_service_pb2.WaitForEventResponse:
        prompt = None
        if request.HasField("waiter_event"):
            prompt = (request.waiter_event.type, json_of(request.waiter_event.payload, "INVALID_EVENT") or b"")
        required = json_of(request.requirements, "INVALID_REQUEST") or b""
        query = EventQuery(
            type_name=request.event_type,
            requirements=parse_object(required, "INVALID_REQUEST", "requirements"),
            after=request.after_sequence if request.HasField("after_sequence") else None,
            timeout=convert.wait_of(request, "timeout"),
            prompt=prompt,
            waiter_id=request.waiter_id,
        )
        found = await self._runs.waits.wait_for(principal_of(context), request.run_id, query)
        response = run_service_pb2.WaitForEventResponse(
            timed_out=found.timed_out, run_ended=found.run_ended, sequence=found.sequence
        )
        if found.entry is not None:
            response.entry.CopyFrom(entry_message(found.entry, request.encoding))
        return response

    async def StreamEvents(
        self, request: run_service_pb2.StreamEventsRequest, context: Context
    ) -> AsyncIterator[run_service_pb2.StreamEventsResponse | bytes]:
        caller = principal_of(context)
        key = caller.key(request.run_id)
        await self._runs.pool.check_seen(caller, request.run_id)
        call = CALL.get()
        options = request.options
        after = request.after_sequence
        framer = Framer(
            _EVENTS_FIELD,
            after,
            encoding=options.encoding,
            internal=options.include_internal,
            types=options.event_types,
        )
        feeds = self._runs.pool.feeds
        feed = await feeds.open(key)
        try:
            follow = not request.no_follow
            time = asyncio.get_running_loop().time
            beat_at = time() + self._heartbeat
            async for chunks in feeds.read(key, feed, after, follow=follow, idle=self._heartbeat):
                quiet = not chunks
                for number, portion in enumerate(framer.portions(chunks)):
                    if number:
                        await asyncio.sleep(0)
                    for frame in framer.frames(portion):
                        yield frame
                        beat_at = time() + self._heartbeat
                        if call is not None:
                            call.sequence = framer.sent
                # Nothing new, or nothing that the filter lets through.
                if quiet or time() >= beat_at:
                    beat_at = time() + self._heartbeat
                    beat = run_service_pb2.Heartbeat(sequence=framer.sent)
                    yield framer.rest() or run_service_pb2.StreamEventsResponse(heartbeat=beat)
            if (rest := framer.rest()) is not None:
                yield rest
            outcome = convert.outcome(feeds.record(key, feed, framer.sent), options.encoding)
            if outcome is not None:
                finished = run_service_pb2.RunFinished(outcome=outcome)
                yield run_service_pb2.StreamEventsResponse(finished=finished)
        finally:
            feeds.close(key, feed)

    async def Converse(
        self, request_iterator: AsyncIterator[run_service_pb2.ConverseRequest], context: Context
    ) -> AsyncIterator[run_service_pb2.ConverseResponse | bytes]:
        session = Session(principal_of(context), self._runs, self.start_request, self._heartbeat)
        async for frame in session.converse(request_iterator):
            yield frame


class StateService(state_service_pb2_grpc.StateServiceServicer):
    """Read and write the states of runs."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    async def GetState(
        self, request: state_service_pb2.GetStateRequest, context: Context
    ) -> state_service_pb2.GetStateResponse:
        data, etag = await self._state.get(principal_of(context), request.run_id, request.path)
        return state_service_pb2.GetStateResponse(value=payload(data, request.encoding), etag=etag)

    async def SetState(
        self, request: state_service_pb2.SetStateRequest, context: Context
    ) -> state_service_pb2.SetStateResponse:
        values, size = [], 0
        for number, item in enumerate(request.values):
            data = json_of(item.value, "INVALID_STATE")
            if data is None:
                violation = Violation(f"values.{number}.value", "is required")
                raise InvalidError("INVALID_STATE", "A value is missing", [violation])
            size += len(data)
            values.append((item.path, parse_json(data, "INVALID_STATE", "The value")))
        etag = await self._state.set(_change_of(request), values, size)
        return state_service_pb2.SetStateResponse(etag=etag)

    async def UnsetState(
        self, request: state_service_pb2.UnsetStateRequest, context: Context
    ) -> state_service_pb2.UnsetStateResponse:
        etag = await self._state.unset(_change_of(request), list(request.paths))
        return state_service_pb2.UnsetStateResponse(etag=etag)

    async def ReplaceState(
        self, request: state_service_pb2.ReplaceStateRequest, context: Context
    ) -> state_service_pb2.ReplaceStateResponse:
        data = json_of(request.value, "INVALID_STATE")
        if data is None:
            raise InvalidError("INVALID_STATE", "The state is missing", [Violation("value", "is required")])
        value = parse_object(data, "INVALID_STATE", "The state")
        etag = await self._state.replace(_change_of(request), value)
        return state_service_pb2.ReplaceStateResponse(etag=etag)


def _change_of(
    request: state_service_pb2.SetStateRequest
    | state_service_pb2.UnsetStateRequest
    | state_service_pb2.ReplaceStateRequest,
) -> StateChange:
    """Return what all changes of a state say."""
    return StateChange(caller_of_call(), request.run_id, request.etag, request.request_id)


class SnapshotService(snapshot_service_pb2_grpc.SnapshotServiceServicer):
    """Give the snapshots of runs."""

    def __init__(self, runs: Runs, signer: Signer) -> None:
        self._runs = runs
        self._signer = signer

    async def GetSnapshot(
        self, request: snapshot_service_pb2.GetSnapshotRequest, context: Context
    ) -> snapshot_service_pb2.GetSnapshotResponse:
        caller = principal_of(context)
        record = await self._runs.pool.get(caller, request.run_id)
        snapshot = await self._runs.snapshots.of(record, request.sequence)
        served = self._runs.pool.registry.get(record.workflow)
        state_type = served.state_type if served is not None else ""
        message = convert.snapshot_message(snapshot, convert.snapshot_status(snapshot, record), state_type)
        response = snapshot_service_pb2.GetSnapshotResponse(snapshot=self._signer.sign(message))
        if request.include_context_dict:
            if served is None:
                raise WorkflowNotFoundError("The run's workflow is not served here", workflow=record.workflow)
            found = self._runs.snapshots.context_of(served, snapshot)
            view = legacy_view(found._broker, RegistrySerializer(served.names), stepwise=False)
            data = json.dumps(view, ensure_ascii=False).encode()
            response.context_dict.CopyFrom(payload(data, request.encoding))
        return response

    async def ListSnapshots(
        self, request: snapshot_service_pb2.ListSnapshotsRequest, context: Context
    ) -> snapshot_service_pb2.ListSnapshotsResponse:
        size = convert.page_size(request.page_size)
        bound = digest("snapshots", request.run_id)
        before = int(convert.page_place(request.page_token, bound, int)[0]) if request.page_token else None
        found = await self._runs.snapshots.infos(principal_of(context), request.run_id, before, size + 1)
        response = snapshot_service_pb2.ListSnapshotsResponse()
        for sequence, at, stored in found[:size]:
            response.snapshots.add(sequence=sequence, created_at=convert.timestamp(at), size_bytes=stored)
        if len(found) > size:
            response.next_page_token = convert.page_token([found[size - 1].sequence], bound)
        return response
