"""Serve RunService: start runs, follow them and talk with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from stepwire.server.rpc.converse import Session
from stepwire.server.rpc.convert import pages
from stepwire.server.rpc.convert import runs as convert
from stepwire.server.rpc.convert.times import just_before, time_of, wait_of
from stepwire.server.rpc.entry_codec import shown_entry
from stepwire.server.rpc.framer import Framer
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.gate.call import caller_of_call, this_call
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.log_reader import LogReader
from stepwire.server.rpc.payloads import read_payload
from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.runs import Runs
from stepwire.server.runs.event_waits import EventQuery
from stepwire.server.runs.payloads import digest, parse_object
from stepwire.server.store import RunQuery, RunRecord
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc as grpc_code

STREAM_ACCEPTED: Final = (("stepwire-accepted", "1"),)
"""The first metadata of a stream that will come: a caller knows before the first event that it was not refused."""
_EVENTS_FIELD = pb.StreamEventsResponse.DESCRIPTOR.fields_by_name["events"].number

_FIRST_BATCH: Final = 50
"""Records to read at first for a list: a few with large results must not bring a thousand into memory."""


class RunService(grpc_code.RunServiceServicer):
    """Start runs, follow them and talk with them."""

    def __init__(self, runs: Runs, actions: RunActions, gate: Gate, interval: float) -> None:
        self._pool = runs.pool
        self._lifecycle = runs.lifecycle
        self._waits = runs.waits
        self._actions = actions
        self._gate = gate
        self._interval = interval

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:
        caller = caller_of_call()
        wait = wait_of(request, "wait")
        record = await self._actions.start(caller, request)
        if wait is not None:
            record, _ = await self._lifecycle.wait(caller, record.key.run_id, wait)
        return pb.StartRunResponse(run=await convert.shown(record, request.encoding))

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        record = await self._pool.get(caller_of_call(), request.run_id)
        return pb.GetRunResponse(run=await convert.shown(record, request.encoding))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        caller = caller_of_call()
        size, basic = pages.page_size(request.page_size), convert.is_basic(request.view)
        query = RunQuery(
            namespace=caller.namespace,
            workflow=request.workflow,
            statuses=convert.status_names(request.statuses),
            labels=dict(request.labels),
            created_after=just_before(request.created_after) if request.HasField("created_after") else None,
            created_before=time_of(request.created_before) if request.HasField("created_before") else None,
            limit=0,
            workflows=caller.scopes.workflows if caller.scopes.restricted else None,
        )
        bound = digest(
            "runs", query.namespace, query.workflow, list(query.statuses), query.labels,
            query.created_after, query.created_before, query.workflows,
        )  # fmt: skip
        if request.page_token:
            created_at, run_id = pages.page_place(request.page_token, bound, float, str)
            query.before = (created_at, run_id)
        response, page = pb.ListRunsResponse(), pages.Page(size)
        place: list[Any] = []
        async for record in self._listed(query, size + 1):
            run = await convert.shown(record, request.encoding, basic=basic)
            if not page.takes(run):
                response.next_page_token = pages.page_token(place, bound)
                break
            response.runs.append(run)
            place = [record.created_at, record.key.run_id]
        return response

    async def _listed(self, query: RunQuery, limit: int) -> AsyncIterator[RunRecord]:
        """Yield at most `limit` runs, read in growing batches: few of them may fill a page."""
        batch = _FIRST_BATCH
        while limit > 0:
            query.limit = min(batch, limit)
            records = await self._lifecycle.list_runs(query)
            for record in records:
                yield record
            if not records:
                return
            query.before = (records[-1].created_at, records[-1].key.run_id)
            limit -= len(records)
            batch *= 4

    async def WaitRun(self, request: pb.WaitRunRequest, context: Context) -> pb.WaitRunResponse:
        timeout = wait_of(request, "timeout")
        record, timed_out = await self._lifecycle.wait(caller_of_call(), request.run_id, timeout)
        return pb.WaitRunResponse(run=await convert.shown(record, request.encoding), timed_out=timed_out)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        record = await self._actions.cancel(caller_of_call(), request)
        return pb.CancelRunResponse(run=await convert.shown(record, request.encoding))

    async def DeleteRun(self, request: pb.DeleteRunRequest, context: Context) -> pb.DeleteRunResponse:
        await self._lifecycle.delete(caller_of_call(), request.run_id)
        return pb.DeleteRunResponse()

    async def SendEvent(self, request: pb.SendEventRequest, context: Context) -> pb.SendEventResponse:
        sequence, delivered = await self._actions.send(caller_of_call(), request)
        return pb.SendEventResponse(sequence=sequence, delivered=delivered)

    async def PublishEvent(self, request: pb.PublishEventRequest, context: Context) -> pb.PublishEventResponse:
        sequence, _ = await self._actions.publish(caller_of_call(), request)
        return pb.PublishEventResponse(sequence=sequence)

    async def WaitForEvent(self, request: pb.WaitForEventRequest, context: Context) -> pb.WaitForEventResponse:
        prompt = None
        if request.HasField("waiter_event"):
            data = await read_payload(request.waiter_event.payload, "INVALID_EVENT")
            prompt = (request.waiter_event.type, data or b"")
        required = await read_payload(request.requirements, "INVALID_REQUEST") or b""
        query = EventQuery(
            type_name=request.event_type,
            requirements=parse_object(required, "INVALID_REQUEST", "requirements"),
            after=request.after_sequence if request.HasField("after_sequence") else None,
            timeout=wait_of(request, "timeout"),
            prompt=prompt,
            waiter_id=request.waiter_id,
        )
        found = await self._waits.wait_for(caller_of_call(), request.run_id, query)
        response = pb.WaitForEventResponse(
            timed_out=found.timed_out, run_ended=found.run_ended, sequence=found.sequence
        )
        if found.entry is not None:
            response.entry.CopyFrom(await shown_entry(found.entry, request.encoding))
        return response

    async def StreamEvents(
        self, request: pb.StreamEventsRequest, context: Context
    ) -> AsyncIterator[pb.StreamEventsResponse | bytes]:
        call = this_call()
        await self._pool.check_seen(call.caller, request.run_id)
        options, feeds, key = request.options, self._pool.feeds, call.caller.key(request.run_id)
        feed = await feeds.open(key)
        try:
            framer = Framer(
                _EVENTS_FIELD,
                request.after_sequence,
                encoding=options.encoding,
                internal=options.include_internal,
                types=options.event_types,
            )
            reader = LogReader(feeds, key, feed, framer, call, self._interval, _heartbeat)
            end = reader.record.last_sequence if request.no_follow else None
            reader.at_hand()  # refuses a cursor outside the log
            await context.send_initial_metadata(STREAM_ACCEPTED)
            while True:
                if not reader.at_hand():
                    async for beat in reader.load():
                        yield beat
                progress = reader.progress
                async for frame in reader.frames():
                    yield frame
                if reader.at_end or (end is not None and framer.position >= end):
                    break
                for beat in reader.beats():
                    yield beat
                    progress = True
                if not progress:
                    await reader.wait(reader.changed())
            if (rest := framer.rest()) is not None:
                yield rest
            outcome = await convert.shown_outcome(reader.record, options.encoding)
            if outcome is not None:
                yield pb.StreamEventsResponse(finished=pb.RunFinished(outcome=outcome))
        finally:
            feeds.close(key, feed)

    async def Converse(
        self, request_iterator: AsyncIterator[pb.ConverseRequest], context: Context
    ) -> AsyncIterator[pb.ConverseResponse | bytes]:
        session = Session(this_call(), self._gate, self._pool, self._actions, self._interval)
        async for frame in session.converse(request_iterator):
            yield frame


def _heartbeat(sequence: int, interval: float) -> pb.StreamEventsResponse:
    return pb.StreamEventsResponse(heartbeat=convert.heartbeat(sequence, interval))
