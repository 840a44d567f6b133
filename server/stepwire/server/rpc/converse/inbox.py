"""Act on the frames that a client sends in a conversation."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from stepwire.server.rpc.errors import status_of
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.gate.ending import interrupted
from stepwire.server.rpc.gate.method_scopes import CANCEL, CONVERSE, SEND
from stepwire.server.rpc.payloads import takes_a_thread
from stepwire.server.rpc.peers.forwarding import Forwarder
from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.runs.errors import InvalidError, RunElsewhereError, RunLeftError, Violation
from stepwire.v1 import run_service_pb2 as pb
from stepwire.workflow.hosting import start_task

_MAX_SENDS_UNDER_WAY = 256
"""Sends whose result the client has not read: a client that sends and does not read is not received from."""


class Inbox:
    """Receive the frames that follow the first one, and queue the results of sends.

    A send runs in a task of its own, in the order of the frames. A send that is refused fails its frame; any other
    frame that is refused fails the conversation: `check` raises its error. Sends and cancels go on when the client
    leaves, because it asked for them.

    Args:
        call: The conversation's call.
        gate: Admits each frame as it admits a call of the method that does the same.
        actions: Does what frames ask for.
        acked: Called with the sequence of each acknowledgement.
        forwarder: Passes on what a run of another replica is asked; None if there are none.
    """

    # Most conversations only listen: what is for sends is made at the first one.
    __slots__ = (
        "_acked",
        "_acting",
        "_actions",
        "_call",
        "_error",
        "_forwarder",
        "_gate",
        "_in_turn",
        "_news",
        "_reading",
        "_results",
        "_sends",
        "under_way",
    )

    def __init__(
        self,
        call: Call,
        gate: Gate,
        actions: RunActions,
        acked: Callable[[int], None],
        forwarder: Forwarder | None = None,
    ) -> None:
        self._call = call
        self._gate = gate
        self._actions = actions
        self._acked = acked
        self._forwarder = forwarder
        self._in_turn = 0
        """Frames that are done one after the other, because their run is not here. Later ones follow them."""
        self._results: deque[pb.ConverseResponse] | None = None
        self._sends: asyncio.Semaphore | None = None
        self._reading: asyncio.Task[None] | None = None
        self._acting: dict[asyncio.Task[None], None] = {}
        """The frames under way, in their order."""
        self._error: BaseException | None = None
        self._news: asyncio.Future[None] | None = None
        self.under_way = 0
        """Sends without a result."""

    def open(self, frames: AsyncIterator[pb.ConverseRequest]) -> None:
        """Start to read the client's frames, until it closes its side."""
        self._reading = start_task(self._read(frames), name="stepwire-converse-read")

    def close(self) -> None:
        """Read no more frames. What they asked for is still done."""
        if self._reading is not None:
            # A cancelled task keeps its traceback, whose frames hold this inbox: let go of it to close no circle.
            reading, self._reading = self._reading, None
            reading.cancel()

    def watch(self, news: asyncio.Future[None]) -> asyncio.Future[None]:
        """Have a future resolve with the next result or acknowledgement, and return it."""
        self._news = news
        return news

    def check(self) -> None:
        """Raise the error of a frame that ends the conversation."""
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # the traceback holds this frame

    @property
    def has_news(self) -> bool:
        """Whether there are results, or an error."""
        return bool(self._results) or self._error is not None

    def results(self) -> Iterator[pb.ConverseResponse]:
        """Yield the results that are there."""
        while self._results:
            # Only now may another send begin: a client that does not read fills no queue.
            if self._sends is not None:
                self._sends.release()
            yield self._results.popleft()

    def finished(self) -> asyncio.Future[Any]:
        """Return a future that resolves once no frame is under way. Cancelling it cancels none of them.

        Call it once the run has ended: no frame takes long then.
        """
        return start_task(asyncio.wait([*self._acting]) if self._acting else asyncio.sleep(0))

    def passed_on(self) -> asyncio.Future[Any] | None:
        """Return a future that resolves once the frame is done that is passed on; None while there is none.

        Its answer may come later than the entries of its commit: they come in another stream, or from the store. Frames
        after it are not passed on before it is done. Cancelling the future does not cancel the frame.
        """
        first = next(iter(self._acting), None) if self._in_turn else None
        return None if first is None else start_task(asyncio.wait([first]))

    async def _read(self, frames: AsyncIterator[pb.ConverseRequest]) -> None:
        try:
            async for frame in frames:
                kind = frame.WhichOneof("frame")
                if kind == "send":
                    if self._sends is None:
                        self._sends = asyncio.Semaphore(_MAX_SENDS_UNDER_WAY)
                    await self._sends.acquire()
                    self.under_way += 1
                    sending = self._act(self._send(frame.send))
                    if takes_a_thread(frame.send.event.payload):
                        await asyncio.wait([sending])  # the frames after it must not overtake it
                elif kind == "ack":
                    self._acked(frame.ack.sequence)
                    self._signal()
                elif kind == "cancel":
                    # In a task, as a send, so that it follows the sends before it.
                    self._act(self._cancel(frame.cancel))
                else:
                    message = "Only send, ack and cancel may follow the first frame"
                    raise InvalidError("INVALID_FRAME", message, [Violation("frame", "is of another kind")])
        except BaseException as error:  # `interrupted` tells what ends the frame alone
            if (ending := interrupted(error)) is None:
                raise
            self._fail(ending)  # it ends the stream with a status
            del ending

    async def _send(self, send: pb.ConverseSend) -> None:
        result = pb.ConverseSendResult(request_id=send.request_id)
        try:
            request = pb.SendEventRequest(
                run_id=self._call.run_id, event=send.event, step=send.step, request_id=send.request_id
            )
            with self._gate.recorded(self._call, SEND, request, "send") as entry:
                queued = self._must_queue()
                async with self._turn() if queued else contextlib.nullcontext():
                    await self._gate.admit_frame(self._call, SEND, request)
                    if queued:
                        await entry.complete()  # else a look into the store could let a later frame overtake
                    result.sequence, result.delivered = await self._do_send(request)
        except BaseException as error:  # `interrupted` tells what ends the frame alone
            if (ending := interrupted(error)) is None:
                raise
            result.error.CopyFrom(status_of(ending, CONVERSE, self._gate.metrics))  # as SendEvent would answer
            del ending
        self.under_way -= 1
        if self._results is None:
            self._results = deque()
        self._results.append(pb.ConverseResponse(send_result=result))
        self._signal()

    async def _cancel(self, cancel: pb.ConverseCancel) -> None:
        try:
            request = pb.CancelRunRequest(run_id=self._call.run_id, reason=cancel.reason)
            with self._gate.recorded(self._call, CANCEL, request, "cancel") as entry:
                await self._gate.admit_frame(self._call, CANCEL, request)
                await entry.complete()
                await self._do_cancel(request)
        except BaseException as error:  # `interrupted` tells what ends the frame alone
            if (ending := interrupted(error)) is None:
                raise
            self._fail(ending)  # it ends the stream with the status that CancelRun would answer
            del ending

    async def _do_send(self, request: pb.SendEventRequest) -> tuple[int, int]:
        call = self._call

        async def act() -> tuple[int, int]:
            return await self._actions.send(call.caller, request)

        if self._forwarder is None:
            return await act()
        if not self._in_turn:
            with contextlib.suppress(RunElsewhereError, RunLeftError):
                return await act()
        async with self._turn():
            key = call.caller.key(request.run_id)
            answer, _ = await self._forwarder.carry(call, SEND, request, act, key=key)
        if isinstance(answer, bytes):
            response = pb.SendEventResponse.FromString(answer)
            return response.sequence, response.delivered
        return (answer["sequence"], answer["delivered"]) if isinstance(answer, dict) else answer

    async def _do_cancel(self, request: pb.CancelRunRequest) -> None:
        call = self._call
        if self._forwarder is None:
            await self._actions.cancel(call.caller, request)
            return
        async with self._turn():
            await self._forwarder.carry(call, CANCEL, request, lambda: self._actions.cancel(call.caller, request))

    def _must_queue(self) -> bool:
        """Tell whether a frame must wait for those before it.

        The frames of a run in memory reach it in their order. Those of any other run read the store first, and reads
        overtake each other.
        """
        return self._forwarder is not None and (self._in_turn > 0 or not self._gate.has(self._call))

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until all frames before the one of this task are done; meanwhile no later one begins."""
        self._in_turn += 1
        try:
            me = asyncio.current_task()
            while earlier := list(itertools.takewhile(lambda task: task is not me, self._acting)):
                await asyncio.wait(earlier[-1:])  # nearly always the last one to end
            yield
        finally:
            self._in_turn -= 1

    def _act(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = start_task(work, name="stepwire-converse-frame")
        self._acting[task] = None
        task.add_done_callback(self._acting.pop)
        return task

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._signal()

    def _signal(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
