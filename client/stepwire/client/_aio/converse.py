"""A conversation with a run."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import grpc

from stepwire.client._aio.alarm import Alarm
from stepwire.client._aio.transport import AioTransport
from stepwire.client._core.converse import METHOD, ConverseCore
from stepwire.client._core.sends import FutureLike
from stepwire.client._core.status import from_rpc_error
from stepwire.client.errors import StepwireError
from stepwire.client.events import EventLike
from stepwire.client.models import Outcome, RunInfo, SendResult
from stepwire.v1 import run_service_pb2 as runs

Outbox = asyncio.Queue[runs.ConverseRequest | None]


class Conversation:
    """Send events to a run and receive its log at the same time. `Run.converse` makes it.

    Iterate over it for the events. The iteration ends with the run, and then `outcome` is set. A lost connection is
    opened again: no event is missed or repeated, and each send takes effect once. Leaving the block waits for the
    sends under way and detaches; the run goes on.
    """

    def __init__(
        self,
        transport: AioTransport,
        make_core: Callable[[Callable[[], FutureLike]], ConverseCore],
        timeout: float,
    ) -> None:
        self._transport = transport
        self._core = make_core(lambda: asyncio.get_running_loop().create_future())
        self._timeout = timeout
        self._changed = asyncio.Event()
        self._outbox: Outbox | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._repeat_at = math.inf

    @property
    def run_id(self) -> str:
        """Return the id of the run."""
        return self._core.run_id

    @property
    def info(self) -> RunInfo:
        """Return the run as it was when the last connection opened, with its open questions."""
        if self._core.info is None:
            raise RuntimeError("the conversation is not open")
        return self._core.info

    @property
    def outcome(self) -> Outcome | None:
        """Return how the run ended, None until all its events were received."""
        return self._core.outcome

    def send(self, event: EventLike, step: str | None = None) -> asyncio.Future[SendResult]:
        """Send an event to one step, or to all steps and waiters that take it; return the future result.

        The future fails with the errors of `Context.send_event`, and the conversation goes on. As there, a send that is
        refused in passing is repeated within the client's timeout, and takes effect once.
        """
        if self._task is None:
            raise RuntimeError("the conversation is not open")
        future, frame = self._core.send(event, step)
        self._write(frame)
        result: asyncio.Future[SendResult] = future
        return result

    def cancel(self, reason: str = "") -> None:
        """Cancel the run. Its terminal event and the end of the iteration follow.

        It is repeated after a lost connection within the client's timeout, as long as the conversation is not left:
        `Run.cancel` waits for the server's answer.
        """
        self._write(self._core.cancel(reason))

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            self._changed.clear()
            event = self._core.pop()
            self._write(self._core.ack())
            if event is not None:
                return event
            if self._core.ended:
                raise StopAsyncIteration
            if self._task is None or self._task.cancelled():
                raise RuntimeError("the conversation is not open")
            if self._task.done():
                self._task.result()
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._pump(), name=f"converse {self.run_id}")
        self._task.add_done_callback(self._on_done)
        try:
            while self._core.info is None:
                if self._task.done():
                    self._task.result()
                self._changed.clear()
                await self._changed.wait()
        except BaseException:  # also a cancelled wait: nobody else would end the task
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None and self._core.pending:
                await asyncio.wait(self._core.pending, timeout=self._timeout)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.wait([self._task])

    def _on_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        self._core.fail(error or StepwireError("the conversation was left before the result came"))
        self._changed.set()

    def _write(self, frame: runs.ConverseRequest | None) -> None:
        if frame is not None and self._outbox is not None:
            self._outbox.put_nowait(frame)

    def _repeat(self) -> None:
        """Write the frames whose repeat is due, and come back when others are."""
        frames, at = self._core.repeats()
        for frame in frames:
            self._write(frame)
        if at is not None and at < self._repeat_at:
            if self._timer is not None:
                self._timer.cancel()
            self._repeat_at = at
            self._timer = asyncio.get_running_loop().call_later(at - time.monotonic(), self._repeat_later)

    def _repeat_later(self) -> None:
        self._repeat_at = math.inf
        self._repeat()

    async def _pump(self) -> None:
        """Keep a connection open until the run has ended."""
        replicas = self._transport.replicas
        while True:
            index = replicas.pick(self.run_id)
            failure = await self._connection(index)
            if self._core.ended:
                await self._transport.run(self._core.settle())
                return
            delay = self._core.delay_after(failure)
            replicas.failed(self.run_id, index)
            await asyncio.sleep(delay)

    async def _connection(self, index: int) -> StepwireError | None:
        """Serve one connection; return why it ended."""
        outbox: Outbox = asyncio.Queue()
        for frame in self._core.opening():
            outbox.put_nowait(frame)
        self._outbox = outbox
        call = self._transport.open(METHOD, _drain(outbox), index)
        try:
            with Alarm(self._core.heartbeats, call) as alarm:
                async for frame in call:
                    self._transport.contact.made()
                    self._core.receive(frame)
                    alarm.received()
                    self._write(self._core.ack())
                    self._repeat()
                    self._changed.set()
                    if self._core.ended:
                        break
                    if self._core.unserved is not None:
                        return self._core.unserved
                    alarm.waiting()
        except asyncio.CancelledError:
            failure = alarm.loss()
            if failure is None:
                raise
            return failure
        except grpc.RpcError as error:
            return self._transport.contact.judge(from_rpc_error(error), index)
        finally:
            self._outbox = None
            outbox.put_nowait(None)
            call.cancel()
        return None


async def _drain(outbox: Outbox) -> AsyncIterator[runs.ConverseRequest]:
    while (frame := await outbox.get()) is not None:
        yield frame
