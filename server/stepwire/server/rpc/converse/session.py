"""One conversation: open a run, then send its entries and the results of what the client sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from stepwire.server.rpc.converse.inbox import Inbox
from stepwire.server.rpc.convert import runs as convert
from stepwire.server.rpc.framer import Framer
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.gate.method_scopes import START, STREAM
from stepwire.server.rpc.log_reader import LogReader
from stepwire.server.rpc.peers.forwarding import Forwarder
from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.runs.active import ActiveDeliveries, Activity
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.log.feed import check_cursor
from stepwire.server.store import RunKey, RunRecord
from stepwire.v1 import run_service_pb2 as pb

_EVENTS_FIELD = pb.ConverseResponse.DESCRIPTOR.fields_by_name["events"].number

Frame = pb.ConverseResponse | bytes


class Opening(NamedTuple):
    """What the first frame chose: the run, the cursor, the options, and the window of unacknowledged entries.

    `started` is True if it started the run.
    """

    key: RunKey
    after: int
    options: pb.StreamOptions
    window: int
    started: bool


class Session:
    """Talk with one run until it ends or the client leaves. A disconnect detaches, it never cancels.

    Args:
        call: The conversation's call.
        gate: Admits each frame.
        pool: Finds the run and its feed.
        active: Tells what the run works on.
        actions: Does what frames ask for.
        interval: Seconds after which a silent conversation sends a heartbeat.
        forwarder: Passes on what a run of another replica is asked; None if there are none.
    """

    __slots__ = ("_actions", "_active", "_call", "_forwarder", "_gate", "_interval", "_pool")

    def __init__(
        self,
        call: Call,
        gate: Gate,
        pool: RunPool,
        active: ActiveDeliveries,
        actions: RunActions,
        interval: float,
        forwarder: Forwarder | None = None,
    ) -> None:
        self._call = call
        self._gate = gate
        self._pool = pool
        self._active = active
        self._actions = actions
        self._interval = interval
        self._forwarder = forwarder

    async def converse(self, frames: AsyncIterator[pb.ConverseRequest]) -> AsyncIterator[Frame]:
        """Yield the frames for the client."""
        opening = await self._open(await anext(frames, None))
        key, after, options, window, started = opening
        self._call.run_id = key.run_id
        feeds = self._pool.feeds
        feed = await feeds.open(key)
        framer = Framer(
            _EVENTS_FIELD,
            after,
            encoding=options.encoding,
            internal=options.include_internal,
            types=options.event_types,
            window=window,
        )
        encoding: int = options.encoding
        del opening, options  # a silent conversation holds as little as can be
        reader = LogReader(feeds, key, feed, framer, self._call, self._interval, _heartbeat)
        inbox = Inbox(self._call, self._gate, self._actions, framer.ack, self._forwarder)
        try:
            check_cursor(reader.record, after)
            # A run that was just started has done nothing yet that is worth a wait for its next commit.
            activity = (
                Activity(reader.record, [])
                if started
                else await self._active.of_family(self._call.caller, reader.record)
            )
            yield await self._opened(activity, after, encoding)
            del activity
            inbox.open(frames)
            async for frame in self._output(reader, inbox):
                yield frame
                del frame
            outcome = await convert.shown_outcome(reader.record, encoding)
            yield pb.ConverseResponse(finished=pb.RunFinished(outcome=outcome))
        finally:
            feeds.close(key, feed)
            inbox.close()

    async def _open(self, first: pb.ConverseRequest | None) -> Opening:
        kind = None if first is None else first.WhichOneof("frame")
        if first is None or kind not in ("start", "attach"):
            violation = Violation("frame", "is neither")
            raise InvalidError("INVALID_FRAME", "The first frame must be start or attach", [violation])
        caller = self._call.caller
        if kind == "start":
            begin = first.start
            options, window = self._options(begin.options), _window(begin.max_unacked)
            with self._gate.recorded(self._call, START, begin.request, "start") as entry:
                await self._gate.admit_frame(self._call, START, begin.request)
                key, workflow = await self._start(begin.request)
                entry.made(key.run_id)
            if workflow != begin.request.workflow:  # one that existed: starting its like was not asked for
                request = pb.StreamEventsRequest(run_id=key.run_id, options=options)
                await self._gate.admit_frame(self._call, STREAM, request)
            return Opening(key, 0, options, window, True)
        attach = first.attach
        self._call.limits.check_held("stream", attach.ByteSize())
        options, window = self._options(attach.options), _window(attach.max_unacked)
        request = pb.StreamEventsRequest(run_id=attach.run_id, after_sequence=attach.after_sequence, options=options)
        await self._gate.admit_frame(self._call, STREAM, request)
        await self._pool.records.check_seen(caller, attach.run_id)
        return Opening(caller.key(attach.run_id), attach.after_sequence, options, window, False)

    async def _start(self, request: pb.StartRunRequest) -> tuple[RunKey, str]:
        """Start a run, here or at another replica; return its key and the name of its workflow."""
        caller = self._call.caller
        if self._forwarder is None:
            record = await self._actions.start(caller, request)
            return record.key, record.workflow
        answer, _ = await self._forwarder.carry(
            self._call, START, request, lambda: self._actions.start(caller, request)
        )
        if isinstance(answer, RunRecord):
            return answer.key, answer.workflow
        assert isinstance(answer, bytes)
        run = pb.StartRunResponse.FromString(answer).run
        return caller.key(run.run_id), run.workflow

    def _options(self, options: pb.StreamOptions) -> pb.StreamOptions:
        """Return a copy of options that does not keep their frame in memory. LimitError if they are too long."""
        self._call.limits.check_held("stream", options.ByteSize())
        return pb.StreamOptions.FromString(options.SerializeToString())

    async def _output(self, reader: LogReader, inbox: Inbox) -> AsyncIterator[Frame]:
        """Yield entries, results and heartbeats until the run has ended and its whole log was sent."""
        while True:
            news = inbox.watch(reader.changed())
            for result in inbox.results():
                yield result
            inbox.check()
            progress = False
            if not reader.framer.full:
                if not reader.at_hand():
                    async for beat in reader.load():
                        yield beat
                progress = reader.progress
                if progress and inbox.under_way:
                    # A result precedes the entries of its commit: the sends that it acknowledged run first.
                    if (passed_on := inbox.passed_on()) is None:
                        await asyncio.sleep(0)
                    else:
                        async for beat in reader.beats_during(passed_on):
                            yield beat
                for result in inbox.results():
                    yield result
                async for frame in reader.frames():
                    yield frame
            if reader.at_end:
                async for beat in reader.beats_during(inbox.finished()):
                    yield beat
                for result in inbox.results():
                    yield result
                return
            for beat in reader.beats():
                yield beat
            if not progress and not inbox.has_news:
                await reader.wait(news)

    async def _opened(self, activity: Activity, after: int, encoding: int) -> pb.ConverseResponse:
        record = activity.record
        registry, paused = self._pool.registry, self._pool.pauses.of(record)
        run = await convert.shown_activity(activity, encoding, registry=registry, paused=paused)
        first = record.first_available
        return pb.ConverseResponse(opened=pb.ConverseOpened(run=run, first_available=first, next_sequence=after + 1))


def _heartbeat(sequence: int, interval: float) -> pb.ConverseResponse:
    return pb.ConverseResponse(heartbeat=convert.heartbeat(sequence, interval))


def _window(max_unacked: int) -> int:
    if max_unacked < 0:
        violation = Violation("max_unacked", "must not be negative")
        raise InvalidError("INVALID_REQUEST", "The request is not valid", [violation])
    return max_unacked
