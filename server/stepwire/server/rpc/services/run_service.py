"""Serve RunService: start runs, follow them and talk with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from stepwire.server.rpc.converse import Session
from stepwire.server.rpc.convert import pages
from stepwire.server.rpc.convert import runs as convert
from stepwire.server.rpc.convert.run_query import bound_to, run_query
from stepwire.server.rpc.convert.times import wait_of
from stepwire.server.rpc.entry_codec import shown_entry
from stepwire.server.rpc.framer import Framer
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.gate.call import caller_of_call, this_call
from stepwire.server.rpc.gate.method_scopes import WAIT_FOR_EVENT
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.log_reader import LogReader
from stepwire.server.rpc.many_runs import ManyRuns
from stepwire.server.rpc.payloads import read_payload
from stepwire.server.rpc.peers.forwarding import Forwarder
from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.runs import Runs
from stepwire.server.runs.active import Activity
from stepwire.server.runs.event_waits import EventQuery
from stepwire.server.runs.obstacles import obstacle
from stepwire.server.runs.payloads import parse_object
from stepwire.server.store import TERMINAL, RunQuery, RunRecord
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc as grpc_code
from stepwire.v1 import types_pb2

STREAM_ACCEPTED: Final = (("stepwire-accepted", "1"),)
"""The first metadata of a stream that will come: a caller knows before the first event that it was not refused."""
_EVENTS_FIELD = pb.StreamEventsResponse.DESCRIPTOR.fields_by_name["events"].number

_FIRST_BATCH: Final = 50
"""Records to read at first for a list: a few with large results must not bring a thousand into memory."""


class RunService(grpc_code.RunServiceServicer):
    """Start runs, follow them and talk with them."""

    def __init__(
        self, runs: Runs, actions: RunActions, gate: Gate, interval: float, forwarder: Forwarder | None = None
    ) -> None:
        self._pool = runs.pool
        self._lifecycle = runs.lifecycle
        self._retries = runs.retries
        self._pauses = runs.pauses
        self._waits = runs.waits
        self._active = runs.active
        self._actions = actions
        self._many = ManyRuns(runs, actions, gate, forwarder)
        self._gate = gate
        self._interval = interval
        self._forwarder = forwarder

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:
        caller = caller_of_call()
        wait = wait_of(request, "wait")
        time = asyncio.get_running_loop().time
        began = time()
        record = await self._actions.start(caller, request, wait or 0.0)
        if wait is not None and record.status not in TERMINAL:
            # A repeat of a start, or a run that left memory meanwhile.
            record, _ = await self._lifecycle.wait(caller, record.key.run_id, max(0.0, began + wait - time()))
        return pb.StartRunResponse(run=await self._shown(record, request.encoding))

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        record = await self._pool.records.get(caller_of_call(), request.run_id)
        activity = await self._active.of_family(caller_of_call(), record)
        return pb.GetRunResponse(run=await self._shown_activity(activity, request.encoding))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        caller = caller_of_call()
        size, basic = pages.page_size(request.page_size), convert.is_basic(request.view)
        query = run_query(caller, request)
        bound = bound_to(query)
        if request.page_token:
            created_at, run_id = pages.page_place(request.page_token, bound, float, str)
            query.before = (created_at, run_id)
        response, page = pb.ListRunsResponse(), pages.Page(size)
        place: list[Any] = []
        async for record in self._listed(query, size + 1):
            if basic:
                run = await self._shown(record, request.encoding, basic=True)
            else:
                run = await self._shown_whole(record, request.encoding)
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

    async def _shown(self, record: RunRecord, encoding: int, *, basic: bool = False) -> types_pb2.Run:
        served, paused = self._pool.registry.get(record.workflow), self._pool.pauses.of(record)
        message = await convert.shown(record, encoding, served=served, basic=basic, paused=paused)
        if served is None:
            message.blocked_reason = obstacle(self._pool, record)
        return message

    async def _shown_whole(self, record: RunRecord, encoding: int) -> types_pb2.Run:
        return await self._shown_activity(await self._active.of(record), encoding)

    async def _shown_activity(self, activity: Activity, encoding: int) -> types_pb2.Run:
        paused = self._pool.pauses.of(activity.record)
        return await convert.shown_activity(activity, encoding, registry=self._pool.registry, paused=paused)

    async def WaitRun(self, request: pb.WaitRunRequest, context: Context) -> pb.WaitRunResponse:
        timeout = wait_of(request, "timeout")
        record, timed_out = await self._lifecycle.wait(caller_of_call(), request.run_id, timeout)
        return pb.WaitRunResponse(run=await self._shown(record, request.encoding), timed_out=timed_out)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        record = await self._actions.cancel(caller_of_call(), request)
        return pb.CancelRunResponse(run=await self._shown(record, request.encoding))

    async def DeleteRun(self, request: pb.DeleteRunRequest, context: Context) -> pb.DeleteRunResponse:
        await self._lifecycle.delete(caller_of_call(), request.run_id)
        return pb.DeleteRunResponse()

    async def ReloadRun(self, request: pb.ReloadRunRequest, context: Context) -> pb.ReloadRunResponse:
        record = await self._lifecycle.reload(caller_of_call(), request.run_id)
        return pb.ReloadRunResponse(run=await self._shown(record, request.encoding))

    async def RetryRun(self, request: pb.RetryRunRequest, context: Context) -> pb.RetryRunResponse:
        record = await self._retries.retry(caller_of_call(), convert.retry_request(request))
        return pb.RetryRunResponse(run=await self._shown(record, request.encoding))

    async def PauseRun(self, request: pb.PauseRunRequest, context: Context) -> pb.PauseRunResponse:
        record = await self._pauses.pause(caller_of_call(), request.run_id, request.reason)
        return pb.PauseRunResponse(run=await self._shown(record, request.encoding))

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: Context) -> pb.ResumeRunResponse:
        record = await self._pauses.resume(caller_of_call(), request.run_id)
        return pb.ResumeRunResponse(run=await self._shown(record, request.encoding))

    async def ApplyToRuns(
        self, request: pb.ApplyToRunsRequest, context: Context
    ) -> AsyncIterator[pb.ApplyToRunsResponse]:
        async for progress in self._many.apply(this_call(), request):
            yield progress

    async def SendEvent(self, request: pb.SendEventRequest, context: Context) -> pb.SendEventResponse:
        sequence, delivered = await self._actions.send(caller_of_call(), request)
        return pb.SendEventResponse(sequence=sequence, delivered=delivered)

    async def PublishEvent(self, request: pb.PublishEventRequest, context: Context) -> pb.PublishEventResponse:
        sequence, _ = await self._actions.publish(caller_of_call(), request)
        return pb.PublishEventResponse(sequence=sequence)

    async def WaitForEvent(self, request: pb.WaitForEventRequest, context: Context) -> pb.WaitForEventResponse:
        call, forwarder = this_call(), self._forwarder
        if forwarder is None or call.hop or not request.HasField("waiter_event"):
            return await self._wait_for_event(request)
        # Another replica may have the run, and has to write the prompt. The wait stays here: it survives that one.
        time = asyncio.get_running_loop().time
        timeout = wait_of(request, "timeout")
        end = None if timeout is None else time() + timeout
        prompting = pb.WaitForEventRequest()
        prompting.CopyFrom(request)
        prompting.timeout.FromMilliseconds(0)
        answer, _ = await forwarder.carry(
            call, WAIT_FOR_EVENT, prompting, lambda: self._wait_for_event(prompting), context.time_remaining()
        )
        found = pb.WaitForEventResponse.FromString(answer) if isinstance(answer, bytes) else answer
        assert isinstance(found, pb.WaitForEventResponse)
        if not found.timed_out:
            return found
        request.ClearField("waiter_event")
        request.after_sequence = found.sequence
        if end is not None:
            request.timeout.FromMilliseconds(max(0, int((end - time()) * 1000)))
        return await self._wait_for_event(request)

    async def _wait_for_event(self, request: pb.WaitForEventRequest) -> pb.WaitForEventResponse:
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
        await self._pool.records.check_seen(call.caller, request.run_id)
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

    def Converse(
        self, request_iterator: AsyncIterator[pb.ConverseRequest], context: Context
    ) -> AsyncIterator[pb.ConverseResponse | bytes]:
        call, interval, forwarder = this_call(), self._interval, self._forwarder
        session = Session(call, self._gate, self._pool, self._active, self._actions, interval, forwarder)
        return session.converse(request_iterator)


def _heartbeat(sequence: int, interval: float) -> pb.StreamEventsResponse:
    return pb.StreamEventsResponse(heartbeat=convert.heartbeat(sequence, interval))
