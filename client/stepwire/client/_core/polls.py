"""Long waits made of short calls: `result`, `wait` and `wait_for_event`."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

import grpc
from pydantic import BaseModel

from stepwire.client import errors, models
from stepwire.client._core.answers import to_outcome, to_run_info
from stepwire.client._core.backoff import Backoff, Clock
from stepwire.client._core.call import Call, Operation
from stepwire.client._core.event_types import encode_event, type_name
from stepwire.client._core.payload import JSON, to_json_bytes, to_payload
from stepwire.client._core.reconnect import is_connection_loss, is_silence
from stepwire.client._core.run_calls import RunCalls
from stepwire.client._core.times import to_duration
from stepwire.client.events import EventLike
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

# Seconds of one poll, so that no call is open for ever.
POLL = 30.0
# Seconds that a poll may take beyond the wait that it asks the server for.
SLACK = 5.0
# A proxy that ends calls after a fixed time gets polls of this part of that time, but never shorter than SHORTEST.
SAFE_PART = 0.7
SHORTEST = 1.0
# Seconds after which longer polls are tried again: the cut may have been a restart, not a proxy's limit.
RELAX = 600.0


class Waiting:
    """The time of one long wait: how long each poll is, and when to give up.

    Args:
        timeout: Seconds that the caller waits; None for no limit.
        reconnect_timeout: Seconds without an answer after which a lost server is given up; None for never.
        late: The text of the DeadlineError.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        timeout: float | None,
        reconnect_timeout: float | None,
        *,
        late: str,
        clock: Clock = time.monotonic,
    ) -> None:
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout must be 0 or more, not {timeout:g}")
        self._clock = clock
        self._end = None if timeout is None else clock() + timeout
        self._reconnect = reconnect_timeout
        self._late = late
        self._backoff = Backoff()
        self._lost_at: float | None = None
        self._answered = False
        self._longest = POLL
        self._shortened_at = 0.0

    def ask(self, method: str, request: Any) -> Operation[Any]:
        """Poll once and return the answer; repeat the poll when the connection is lost.

        Raises DeadlineError when the caller's time is over, the last error when the server is given up.
        """
        while True:
            poll = self._next_poll()
            request.timeout.CopyFrom(to_duration(poll))
            began = self._clock()
            try:
                # A copy: the driver keeps the request while the next poll changes it.
                answer = yield Call(method, copy.deepcopy(request), _as_it_is, safe=False, budget=poll + SLACK)
            except errors.StepwireError as error:
                if not is_connection_loss(error):
                    raise
                yield self._delay_after(error, self._clock() - began)
            else:
                self._answered, self._lost_at = True, None
                self._backoff.reset()
                return answer

    def check(self) -> None:
        """Raise DeadlineError when the caller's time is over."""
        if self._remaining() == 0:
            raise errors.DeadlineError(self._late, code=grpc.StatusCode.DEADLINE_EXCEEDED)

    def _remaining(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - self._clock())

    def _next_poll(self) -> float:
        if self._longest < POLL and self._clock() >= self._shortened_at + RELAX:
            self._longest = POLL
        remaining = self._remaining()
        return self._longest if remaining is None else min(self._longest, remaining)

    def _delay_after(self, error: errors.StepwireError, lasted: float) -> float:
        now = self._clock()
        # A connection that was refused or has fallen silent says nothing about a proxy's limit.
        if lasted >= SHORTEST and not is_silence(error):
            self._longest = min(POLL, max(SHORTEST, SAFE_PART * lasted))
            self._shortened_at = now
        if self._lost_at is None:
            self._lost_at = now
        delay = self._backoff.next(error)
        if self._end is not None and now + delay > self._end + SLACK:
            if not self._answered:
                raise error  # nothing is known of the run, not even that it lives
            text = f"{self._late}; the last call failed: {error}"
            raise errors.DeadlineError(text, code=grpc.StatusCode.DEADLINE_EXCEEDED) from error
        if self._reconnect is not None and now + delay > self._lost_at + self._reconnect:
            raise error
        return delay


def _as_it_is(response: Any) -> Any:
    return response


def wait_for_result(run: RunCalls, timeout: float | None, as_: Any) -> Operation[Any]:
    """Wait for the end of a run and return its result; parameters and errors as of `Run.result`."""
    ended = yield from _wait_for_end(run, timeout)
    return run.to_result(to_outcome(ended.outcome), as_)


def wait_for_end(run: RunCalls, timeout: float | None) -> Operation[models.RunInfo]:
    """Wait for the end of a run and return the run; parameters and errors as of `Run.wait`."""
    ended = yield from _wait_for_end(run, timeout)
    return to_run_info(ended, run.types)


def _wait_for_end(run: RunCalls, timeout: float | None) -> Operation[types.Run]:
    late = f"run {run.run_id} has not ended within {timeout or 0:g} s"
    waiting = Waiting(timeout, run.settings.reconnect_timeout, late=late)
    request = runs.WaitRunRequest(run_id=run.run_id, encoding=JSON)
    while True:
        response = yield from waiting.ask("RunService.WaitRun", request)
        if response.run.HasField("outcome"):
            found: types.Run = response.run
            return found
        waiting.check()


def wait_for_event(
    run: RunCalls,
    event_type: str | type[BaseModel],
    waiter_event: EventLike | None,
    waiter_id: str | None,
    requirements: Mapping[str, Any] | None,
    timeout: float | None,
) -> Operation[Any]:
    """Observe the log until an event fits; parameters and errors as of `Context.wait_for_event`."""
    name = type_name(event_type)
    types = run.types if isinstance(event_type, str) else run.types.extended([event_type])
    late = f"no {name} came within {timeout or 0:g} s"
    waiting = Waiting(timeout, run.settings.reconnect_timeout, late=late)
    request = runs.WaitForEventRequest(run_id=run.run_id, event_type=name, waiter_id=waiter_id or "", encoding=JSON)
    if requirements:
        request.requirements.CopyFrom(to_payload(dict(requirements)))
    if waiter_event is not None:
        request.waiter_event.CopyFrom(encode_event(waiter_event))
    if run.places.beginning is None:
        run.places.beginning = (yield run.info()).last_sequence
    wanted = (name, to_json_bytes(dict(sorted((requirements or {}).items()))))
    request.after_sequence = run.places.after(wanted)
    while True:
        try:
            response = yield from waiting.ask("RunService.WaitForEvent", request)
        except errors.OutOfRangeError as error:
            first = error.first_available
            if first is None or request.after_sequence >= first - 1:
                raise
            request.after_sequence = first - 1  # what was trimmed cannot be seen any more
            continue
        if response.HasField("entry"):
            run.places.found(wanted, response.entry.sequence)
            return types.decode(response.entry)
        if response.run_ended:
            raise errors.FailedPreconditionError(
                f"run {run.run_id} ended while waiting for {name}",
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="RUN_ENDED",
            )
        waiting.check()
        request.after_sequence = response.sequence
