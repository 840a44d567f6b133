"""A conversation with a run, for threads: its own thread receives, the caller's threads send and take."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Any, Self

import grpc

from stepwire.client._core.converse import METHOD, ConverseCore
from stepwire.client._core.sends import FutureLike
from stepwire.client._core.status import from_rpc_error
from stepwire.client._sync.transport import SyncTransport
from stepwire.client.errors import StepwireError
from stepwire.client.events import EventLike
from stepwire.client.models import Outcome, RunInfo, SendResult
from stepwire.v1 import run_service_pb2 as runs

Outbox = queue.SimpleQueue[runs.ConverseRequest | None]


class SyncConversation:
    """As `Conversation`, for threads: iterate for events; `send` returns a concurrent future."""

    def __init__(
        self,
        transport: SyncTransport,
        make_core: Callable[[Callable[[], FutureLike]], ConverseCore],
        timeout: float,
    ) -> None:
        self._transport = transport
        self._core = make_core(Future)
        self._timeout = timeout
        # Guards the core, the outbox and the call. Reentrant: a future's callback may send.
        self._changed = threading.Condition(threading.RLock())
        self._left = threading.Event()
        self._outbox: Outbox | None = None
        self._call: Any = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._timer: threading.Timer | None = None
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

    def send(self, event: EventLike, step: str | None = None) -> Future[SendResult]:
        """Send an event to one step, or to all steps and waiters that take it; return the future result."""
        if self._thread is None:
            raise RuntimeError("the conversation is not open")
        with self._changed:
            future, frame = self._core.send(event, step)
            self._write(frame)
        result: Future[SendResult] = future
        return result

    def cancel(self, reason: str = "") -> None:
        """Cancel the run, as `Conversation.cancel`. `SyncRun.cancel` waits for the server's answer."""
        with self._changed:
            self._write(self._core.cancel(reason))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._changed:
            while True:
                event = self._core.pop()
                self._write(self._core.ack())
                if event is not None:
                    return event
                if self._core.ended:
                    raise StopIteration
                if self._error is not None:
                    raise self._error
                if self._thread is None or self._left.is_set():
                    raise RuntimeError("the conversation is not open")
                self._changed.wait()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._pump, name=f"converse {self.run_id}", daemon=True)
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._core.info or self._error)
                if self._error is not None:
                    raise self._error
        except BaseException:  # also Ctrl-C: nobody else would end the thread
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                with self._changed:
                    pending = self._core.pending
                wait(pending, timeout=self._timeout)
        finally:
            self._stop()

    def _stop(self) -> None:
        with self._changed:
            self._left.set()
            if self._call is not None:
                self._call.cancel()
            if self._timer is not None:
                self._timer.cancel()
        if self._thread is not None:
            self._thread.join()

    def _write(self, frame: runs.ConverseRequest | None) -> None:
        if frame is not None and self._outbox is not None:
            self._outbox.put(frame)

    def _repeat(self) -> None:
        """Write the frames whose repeat is due, and come back when others are. Called with the lock."""
        frames, at = self._core.repeats()
        for frame in frames:
            self._write(frame)
        if at is not None and at < self._repeat_at and not self._left.is_set():
            if self._timer is not None:
                self._timer.cancel()
            self._repeat_at = at
            self._timer = threading.Timer(at - time.monotonic(), self._repeat_later)
            self._timer.daemon = True
            self._timer.start()

    def _repeat_later(self) -> None:
        with self._changed:
            self._repeat_at = math.inf
            self._repeat()

    def _pump(self) -> None:
        """Keep a connection open until the run has ended or the caller has left."""
        error: BaseException | None = None
        try:
            replicas = self._transport.replicas
            while True:
                index = replicas.pick(self.run_id)
                failure = self._connection(index)
                if self._core.ended or self._left.is_set():
                    break
                delay = self._core.delay_after(failure)
                replicas.failed(self.run_id, index)
                self._left.wait(delay)
            if not self._left.is_set():
                self._transport.run(self._core.settle())
        except BaseException as raised:  # noqa: BLE001 - the thread's caller gets it, in __next__
            error = raised
        with self._changed:
            self._error = error
            self._core.fail(error or StepwireError("the conversation was left before the result came"))
            self._changed.notify_all()

    def _connection(self, index: int) -> StepwireError | None:
        """Serve one connection; return why it ended."""
        outbox: Outbox = queue.SimpleQueue()
        with self._changed:
            if self._left.is_set():
                return None
            for frame in self._core.opening():
                outbox.put(frame)
            self._outbox = outbox
            call = self._call = self._transport.open(METHOD, iter(outbox.get, None), index)
        try:
            with self._transport.alarm(self._core.heartbeats, call) as alarm:
                for frame in call:
                    self._transport.contact.made()
                    with self._changed:
                        self._core.receive(frame)
                        self._write(self._core.ack())
                        self._repeat()
                        self._changed.notify_all()
                        if self._core.ended:
                            break
                        if self._core.unserved is not None:
                            return self._core.unserved
                    alarm.received()
                    alarm.waiting()
        except grpc.RpcError as error:
            return alarm.loss() or self._transport.contact.judge(from_rpc_error(error), index)
        finally:
            with self._changed:
                self._outbox = None
            outbox.put(None)
            call.cancel()
        return None
