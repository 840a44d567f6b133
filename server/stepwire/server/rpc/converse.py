"""Converse: one session of the bidirectional stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from stepwire.server.principal import WRITE
from stepwire.server.rpc import convert
from stepwire.server.rpc.entry_codec import Framer
from stepwire.server.rpc.errors import status_of
from stepwire.server.rpc.gate.calls import CALL, permit, permit_start
from stepwire.server.rpc.payloads import json_of
from stepwire.server.runs import Principal, Runs, StartRequest
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.runs.log.feed import Feed, check_cursor
from stepwire.server.store import TERMINAL, RunKey, RunRecord
from stepwire.v1 import run_service_pb2 as pb

_EVENTS_FIELD = pb.ConverseResponse.DESCRIPTOR.fields_by_name["events"].number
_MAX_SENDS_UNDER_WAY = 256
_METHOD = "/stepwire.v1.RunService/Converse"


class Session:
    """Talk with one run until it ends or the client goes. A disconnect detaches, it never cancels."""

    def __init__(
        self,
        caller: Principal,
        runs: Runs,
        start_request: Callable[[pb.StartRunRequest], StartRequest],
        heartbeat: float,
    ) -> None:
        self._caller = caller
        self._runs = runs
        self._events = runs.events
        self._start_request = start_request
        self._heartbeat = heartbeat
        self._run_id = ""
        self._workflow = ""
        self._call = CALL.get()
        self._results: deque[pb.ConverseResponse] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sends = asyncio.Semaphore(_MAX_SENDS_UNDER_WAY)
        self._error: BaseException | None = None
        self._news: asyncio.Future[None] | None = None
        self._under_way = 0
        """Sends without a result."""
        self._window = 0
        self._framer: Framer | None = None

    async def converse(self, frames: AsyncIterator[pb.ConverseRequest]) -> AsyncIterator[pb.ConverseResponse | bytes]:
        """Give the frames of the answer."""
        first = await anext(frames, None)
        record, after, options = await self._open(first)
        del first
        self._run_id = record.key.run_id
        self._workflow = record.workflow
        if self._call is not None:
            self._call.run_id = self._run_id
        key = record.key
        feeds = self._runs.pool.feeds
        feed = await feeds.open(key)
        try:
            check_cursor(feeds.record(key, feed, after), after)
            yield self._opened(feeds.record(key, feed, after), after, options.encoding)
            framer = self._framer = Framer(
                _EVENTS_FIELD,
                after,
                encoding=options.encoding,
                internal=options.include_internal,
                types=options.event_types,
                window=self._window,
            )
            self._spawn(self._read(frames))
            async for frame in self._output(key, feed, framer):
                yield frame
            outcome = convert.outcome(feeds.record(key, feed, framer.sent), options.encoding)
            yield pb.ConverseResponse(finished=pb.RunFinished(outcome=outcome))
        finally:
            feeds.close(key, feed)
            for task in self._tasks:
                # What the client asked for before it went is done; nobody hears of it.
                if task.get_name() == "read":
                    task.cancel()

    async def _open(self, frame: pb.ConverseRequest | None) -> tuple[RunRecord, int, pb.StreamOptions]:
        kind = None if frame is None else frame.WhichOneof("frame")
        if frame is not None and kind == "start":
            request = frame.start.request
            permit_start(self._caller, request.workflow)
            options = self._options(frame.start.options)
            if self._call is not None:
                self._call.spend(self._runs.pool.sync_backlog)
                self._call.limits.check_request(request)
            record = await self._runs.lifecycle.start(self._caller, self._start_request(request))
            self._window = _window(frame.start.max_unacked)
            return record, 0, options
        if frame is not None and kind == "attach":
            options = self._options(frame.attach.options)
            record = await self._runs.pool.get(self._caller, frame.attach.run_id)
            self._window = _window(frame.attach.max_unacked)
            return record, frame.attach.after_sequence, options
        raise InvalidError(
            "INVALID_FRAME", "The first frame must be start or attach", [Violation("frame", "is neither")]
        )

    def _options(self, options: pb.StreamOptions) -> pb.StreamOptions:
        """Return options that do not keep their frame in memory. LimitError when they are too long."""
        if self._call is not None:
            self._call.limits.check_held("stream", options.ByteSize())
        return pb.StreamOptions.FromString(options.SerializeToString())

    def _opened(self, record: RunRecord, after: int, encoding: int) -> pb.ConverseResponse:
        return pb.ConverseResponse(
            opened=pb.ConverseOpened(
                run=convert.run(record, encoding),
                first_available=record.first_available,
                next_sequence=after + 1,
            )
        )

    # -- out --------------------------------------------------------------------------------------------------

    async def _output(self, key: RunKey, feed: Feed, framer: Framer) -> AsyncIterator[pb.ConverseResponse | bytes]:
        feeds = self._runs.pool.feeds
        time = asyncio.get_running_loop().time
        beat_at = time() + self._heartbeat
        while True:
            news = self._news = feed.changed()
            while self._results:
                yield self._next_result()
            if self._error is not None:
                raise self._error
            progress = False
            if not framer.full:
                chunks = await feeds.ready(key, feed, framer.position)
                if chunks and self._under_way:
                    # A send_result precedes the entries of its commit: the sends that it acknowledged run first.
                    await asyncio.sleep(0)
                while self._results:
                    yield self._next_result()
                progress = bool(chunks)
                for number, portion in enumerate(framer.portions(chunks)):
                    if number:
                        await asyncio.sleep(0)
                    for frame in framer.frames(portion):
                        yield frame
                        beat_at = time() + self._heartbeat
                        if self._call is not None:
                            self._call.sequence = framer.sent
            record = feeds.record(key, feed, framer.sent)
            if record.status in TERMINAL and framer.position >= record.last_sequence:
                await self._last_results()
                while self._results:
                    yield self._next_result()
                return
            if time() >= beat_at:
                beat_at = time() + self._heartbeat
                yield framer.rest() or pb.ConverseResponse(heartbeat=pb.Heartbeat(sequence=framer.sent))
            if progress or self._results or self._error is not None:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news, max(0.0, beat_at - time()))

    def _next_result(self) -> pb.ConverseResponse:
        # Only now may another send begin: who sends and does not read fills no queue.
        self._sends.release()
        return self._results.popleft()

    async def _last_results(self) -> None:
        """Wait for what is under way: the run has ended, so nothing takes long."""
        sends = [task for task in self._tasks if task.get_name() != "read"]
        if sends:
            await asyncio.wait(sends)

    # -- in ---------------------------------------------------------------------------------------------------

    async def _read(self, frames: AsyncIterator[pb.ConverseRequest]) -> None:
        """Act on the client's frames until it half-closes."""
        try:
            async for frame in frames:
                kind = frame.WhichOneof("frame")
                if kind == "send":
                    await self._sends.acquire()
                    self._under_way += 1
                    self._spawn(self._send(frame.send), "send")
                elif kind == "ack":
                    if self._framer is not None:
                        self._framer.ack(frame.ack.sequence)
                        self._signal()
                elif kind == "cancel":
                    # A task as sends are: it comes after those before it.
                    self._spawn(self._cancel(frame.cancel), "cancel")
                else:
                    raise InvalidError(
                        "INVALID_FRAME",
                        "After the first frame only send, ack and cancel may come",
                        [Violation("frame", "is something else")],
                    )
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the stream with a status
            self._fail(error)

    async def _cancel(self, cancel: pb.ConverseCancel) -> None:
        try:
            permit(self._caller, WRITE, self._workflow)
            await self._runs.lifecycle.cancel(self._caller, self._run_id, cancel.reason)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the stream with a status
            self._fail(error)

    async def _send(self, send: pb.ConverseSend) -> None:
        """Send one event; a bad one fails its frame, not the stream."""
        result = pb.ConverseSendResult(request_id=send.request_id)
        try:
            permit(self._caller, WRITE, self._workflow)
            if self._call is not None:
                self._call.spend(self._runs.pool.sync_backlog)
                self._call.limits.check_event(send.event.payload)
            receipt = await self._events.send(
                self._caller,
                self._run_id,
                send.event.type,
                json_of(send.event.payload, "INVALID_EVENT") or b"",
                send.step,
                send.request_id,
            )
            result.sequence, result.delivered = receipt
        except Exception as error:  # noqa: BLE001 - status_of turns whatever it is into what SendEvent would answer
            result.error.CopyFrom(status_of(error, _METHOD, self._runs.pool.metrics))
        self._under_way -= 1
        self._results.append(pb.ConverseResponse(send_result=result))
        self._signal()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._signal()

    def _signal(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _spawn(self, work: object, name: str = "read") -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _window(max_unacked: int) -> int:
    if max_unacked < 0:
        violation = Violation("max_unacked", "must not be negative")
        raise InvalidError("INVALID_REQUEST", "The request is not valid", [violation])
    return max_unacked
