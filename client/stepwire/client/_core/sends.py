"""The frames of a conversation that act on its run, until they are answered, and when they are repeated.

A send that is refused in passing, as when the outcome of its commit is unknown, is written again under its
`request_id`, as a unary SendEvent is. What is sent meanwhile waits behind it, and it waits for the answers of the sends
that were written after it: those that are refused too are written again in their order.

A cancel has no answer but the end of the run. It is written again on every connection that opens within its time.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from stepwire.client._core.answers import to_send_result
from stepwire.client._core.backoff import Clock
from stepwire.client._core.call import Call, Operation, new_request_id
from stepwire.client._core.retry import Attempts
from stepwire.client.errors import StepwireError
from stepwire.v1 import run_service_pb2 as runs


class FutureLike(Protocol):
    """What the futures of asyncio and concurrent.futures have in common."""

    def done(self) -> bool:
        """Say whether it has a result or an exception, or was cancelled."""

    def set_result(self, result: Any, /) -> None:
        """Set the result."""

    def set_exception(self, exception: Any, /) -> None:
        """Set the exception."""


class _Waiting:
    """A frame that waits for its answer.

    Attributes:
        frame: The frame.
        future: Gets the result; None for a cancel.
        end: When it is repeated no more, in the clock's seconds.
        attempts: Decides about repeats; None before the first one.
        written: It is on its way, or with the server.
        refusal: What the server answered last, until it is written again.
        refusals: How often it was refused on this connection.
        doubtful: It may have had its effect although no answer says so.
    """

    __slots__ = ("attempts", "doubtful", "end", "frame", "future", "refusal", "refusals", "written")

    def __init__(self, frame: runs.ConverseRequest, future: FutureLike | None, end: float, written: bool) -> None:
        self.frame = frame
        self.future = future
        self.end = end
        self.attempts: Attempts | None = None
        self.written = written
        self.refusal: StepwireError | None = None
        self.refusals = 0
        self.doubtful = False

    def fail(self, error: BaseException) -> None:
        """Fail the future, unless it is done."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


class Sends:
    """The sends and cancels of a conversation. Not safe for threads.

    Args:
        run_id: The run.
        budget: Seconds for all attempts of a frame together.
        addresses: How many addresses there are to try.
        clock: Monotonic seconds.

    Attributes:
        unserved: The refusal after which the conversation should go on at another address; None while there is none.
    """

    def __init__(self, run_id: str, budget: float, addresses: int, clock: Clock = time.monotonic) -> None:
        self._run_id = run_id
        self._budget = budget
        self._addresses = addresses
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}  # in the order in which the caller sent them
        self._holding = False
        self._due = 0.0
        self.unserved: StepwireError | None = None

    @property
    def pending(self) -> list[Any]:
        """Return the futures that have no result yet."""
        return [each.future for each in list(self._waiting.values()) if each.future is not None]

    def add(self, frame: runs.ConverseRequest, future: FutureLike | None) -> bool:
        """Take a frame, and say whether to write it now; else `due` returns it later."""
        key = frame.send.request_id if future is not None else new_request_id()
        end = self._clock() + self._budget
        self._waiting[key] = _Waiting(frame, future, end, written=not self._holding)
        return not self._holding

    def reopened(self) -> list[runs.ConverseRequest]:
        """Return all frames, for a new connection."""
        self._holding, self._due, self.unserved = False, 0.0, None
        for each in self._waiting.values():
            each.doubtful = each.doubtful or each.written
            each.written, each.refusal, each.refusals = True, None, 0
        return [each.frame for each in self._waiting.values()]

    def lost(self, error: StepwireError | None) -> float:
        """Forget the cancels that are repeated no more; return the seconds that the others ask to wait.

        `error` ended the connection. It may be the answer to a cancel.
        """
        delay, now = 0.0, self._clock()
        for key, each in list(self._waiting.items()):
            if each.future is not None:
                continue
            try:
                if now >= each.end:
                    del self._waiting[key]
                elif error is not None:
                    delay = max(delay, self._delay_after(each, error, self._addresses))
            except StepwireError:
                del self._waiting[key]
        return delay

    def refused(self, request_id: str, error: StepwireError) -> bool:
        """Take in the refusal of a send, and say whether it will be repeated."""
        each = self._waiting.get(request_id)
        if each is None or each.future is None or each.future.done():
            return False
        try:
            # The same connection is asked again, so it counts as the only address.
            delay = self._delay_after(each, error, 1)
        except StepwireError:
            return False
        each.written, each.refusal, each.doubtful = False, error, True
        each.refusals += 1
        if each.refusals > 1 and self._addresses > 1:
            self.unserved = error
        self._holding = True
        self._due = max(self._due, self._clock() + delay)
        return True

    def _delay_after(self, each: _Waiting, error: StepwireError, addresses: int) -> float:
        if each.attempts is None:
            left = each.end - self._clock()
            each.attempts = Attempts(left, safe=True, clock=self._clock, addresses=addresses)
        return each.attempts.delay_after(error)

    def answered(self, request_id: str) -> FutureLike | None:
        """Return the future of a send that is answered; None if nobody waits for it any more."""
        each = self._waiting.pop(request_id, None)
        return None if each is None or each.future is None or each.future.done() else each.future

    def due(self) -> tuple[list[runs.ConverseRequest], float | None]:
        """Return the held frames to write now, and when to ask again, in the clock's seconds.

        That is None if nothing is held. An answer that comes may make it earlier.
        """
        if not self._holding:
            return [], None
        now = self._clock()
        for key, each in list(self._waiting.items()):
            if each.future is not None and each.future.done():  # the caller gave it up
                if not each.written:
                    del self._waiting[key]
            elif each.refusal is not None and now >= each.end:
                del self._waiting[key]
                each.fail(each.refusal)
        waiting = self._waiting.values()
        refused = [each.end for each in waiting if each.refusal is not None]
        answers_come = any(each.written and each.future is not None for each in waiting)
        if refused and (answers_come or now < self._due):
            return [], min(refused if answers_come else [self._due, *refused])
        held = [each for each in waiting if not each.written]
        for each in held:
            each.written, each.refusal = True, None
        self._holding, self._due = False, 0.0
        return [each.frame for each in held], None

    def settle(self) -> Operation[None]:
        """Ask by SendEvent for the results of the sends whose effect is in doubt: the conversation tells no more."""
        for key, each in list(self._waiting.items()):
            if each.future is None or each.future.done():
                continue
            send = each.frame.send
            request = runs.SendEventRequest(
                run_id=self._run_id, event=send.event, step=send.step, request_id=send.request_id
            )
            budget = max(0.0, each.end - self._clock())
            try:
                result = yield Call("RunService.SendEvent", request, to_send_result, safe=True, budget=budget)
            except StepwireError as error:
                each.fail(error)
            else:
                if not each.future.done():
                    each.future.set_result(result)
            self._waiting.pop(key, None)

    def fail(self, error: BaseException, *, doubtful: bool = True) -> None:
        """Fail the sends and forget the cancels; keep the sends whose effect is in doubt unless `doubtful`."""
        for key, each in list(self._waiting.items()):
            if doubtful or not each.doubtful or each.future is None:
                self._waiting.pop(key, None)
                each.fail(error)
