"""The calls that concern one run, and the operations made of them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from pydantic import BaseModel, ValidationError

from stepwire.client import errors
from stepwire.client import models as _types
from stepwire.client._core.calls import Call, Operation, Pages, Settings, new_request_id
from stepwire.client._core.converse import ConverseCore, FutureLike
from stepwire.client._core.payload import JSON, from_payload, to_duration, to_payload
from stepwire.client._core.stream import Follow, Reconnect, stream_options
from stepwire.client.events import EventLike, EventTypes, describe, encode_event, type_name
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots

# Long waits are made of polls of this length, so that no call is open without end.
POLL = 30.0
# What a call may take beyond the wait that it asks the server for.
SLACK = 5.0


class RunCalls:
    """Make the calls of one run; its answers' events become the classes of `types`."""

    def __init__(self, run_id: str, settings: Settings, types: EventTypes) -> None:
        if not run_id:
            raise ValueError("run_id is empty")
        self.run_id = run_id
        self.settings = settings
        self.types = types

    def info(self) -> Call[_types.RunInfo]:
        """Return the call of GetRun."""
        request = runs.GetRunRequest(run_id=self.run_id, encoding=JSON)
        return self.call("RunService.GetRun", request, self._to_info, safe=True)

    def cancel(self, reason: str) -> Call[_types.RunInfo]:
        """Return the call of CancelRun."""
        request = runs.CancelRunRequest(run_id=self.run_id, reason=reason, encoding=JSON)
        return self.call("RunService.CancelRun", request, self._to_info, safe=False)

    def delete(self) -> Call[None]:
        """Return the call of DeleteRun."""
        request = runs.DeleteRunRequest(run_id=self.run_id)
        return self.call("RunService.DeleteRun", request, lambda _: None, safe=False)

    def send_event(self, event: EventLike, step: str | None) -> Call[_types.SendResult]:
        """Return the call of SendEvent."""
        request = runs.SendEventRequest(
            run_id=self.run_id,
            event=encode_event(event),
            step=step or "",
            request_id=new_request_id(),
        )
        return self.call("RunService.SendEvent", request, _types.to_send_result, safe=True)

    def publish_event(self, event: EventLike) -> Call[int]:
        """Return the call of PublishEvent."""
        request = runs.PublishEventRequest(run_id=self.run_id, event=encode_event(event), request_id=new_request_id())
        return self.call("RunService.PublishEvent", request, lambda r: int(r.sequence), safe=True)

    def snapshot(self, sequence: int, context_dict: bool) -> Call[_types.Snapshot]:
        """Return the call of GetSnapshot."""
        request = snapshots.GetSnapshotRequest(
            run_id=self.run_id,
            sequence=sequence,
            include_context_dict=context_dict,
            encoding=JSON,
        )
        return self.call("SnapshotService.GetSnapshot", request, _types.to_snapshot, safe=True)

    def list_snapshots(self) -> Pages[_types.SnapshotInfo]:
        """Return the pages of ListSnapshots."""
        return Pages(
            "SnapshotService.ListSnapshots",
            snapshots.ListSnapshotsRequest(run_id=self.run_id),
            lambda response: [_types.to_snapshot_info(item) for item in response.snapshots],
            self.settings.timeout,
        )

    def result(self, timeout: float | None, as_: Any) -> Operation[Any]:
        """Wait for the end of the run; return its result or raise how it ended otherwise."""
        wait = _Wait(timeout, self.settings.reconnect_timeout)
        while True:
            poll = wait.poll()
            request = runs.WaitRunRequest(run_id=self.run_id, timeout=to_duration(poll), encoding=JSON)
            response = yield wait.call("RunService.WaitRun", request, poll)
            if response.run.HasField("outcome"):
                return self.to_result(_types.to_outcome(response.run.outcome), as_)
            if wait.over():
                raise errors.DeadlineError(
                    f"run {self.run_id} has not ended within {timeout:g} s",
                    code=grpc.StatusCode.DEADLINE_EXCEEDED,
                )

    def to_result(self, outcome: _types.Outcome, as_: Any = None) -> Any:
        """Return the result of an outcome, or raise how the run ended otherwise."""
        run = f"run {self.run_id}"
        if outcome.status is _types.RunStatus.FAILED:
            failure = outcome.failure
            where = f" in step {failure.step}" if failure and failure.step else ""
            parts = [failure.error_type, failure.message] if failure else [outcome.reason]
            text = ": ".join(filter(None, [f"{run} failed{where}", *parts]))
            raise errors.RunFailedError(self.run_id, outcome, text)
        if outcome.status is _types.RunStatus.CANCELLED:
            text = ": ".join(filter(None, [f"{run} was cancelled", outcome.reason]))
            raise errors.RunCancelledError(self.run_id, outcome, text)
        if outcome.status is _types.RunStatus.TIMED_OUT:
            text = ": ".join(filter(None, [f"{run} timed out", outcome.reason]))
            raise errors.RunTimedOutError(self.run_id, outcome, text)
        # A plain StopEvent's result is a value of its own; only a custom one is the event's fields.
        plain = outcome.event_type == "StopEvent"
        as_ = as_ if as_ is not None or plain else self.types.find(outcome.event_type)
        try:
            return from_payload(outcome.payload, as_)
        except ValidationError as error:
            raise errors.EventDecodeError(f"the result of {run} does not fit the type: {describe(error)}") from None

    def wait_for_event(
        self,
        event_type: str | type[BaseModel],
        waiter_event: EventLike | None,
        waiter_id: str | None,
        requirements: Mapping[str, Any] | None,
        timeout: float | None,
    ) -> Operation[Any]:
        """Observe the log until an event fits; raise when the time or the run is over."""
        name = type_name(event_type)
        types = self.types if isinstance(event_type, str) else self.types.extended([event_type])
        wait = _Wait(timeout, self.settings.reconnect_timeout)
        request = runs.WaitForEventRequest(
            run_id=self.run_id, event_type=name, waiter_id=waiter_id or "", encoding=JSON
        )
        if requirements:
            request.requirements.CopyFrom(to_payload(dict(requirements)))
        if waiter_event is not None:
            request.waiter_event.CopyFrom(encode_event(waiter_event))
        # "After now" must stay the same moment when the first call has to be repeated.
        request.after_sequence = (yield self.info()).last_sequence
        while True:
            poll = wait.poll()
            request.timeout.CopyFrom(to_duration(poll))
            response = yield wait.call("RunService.WaitForEvent", request, poll)
            if response.HasField("entry"):
                return types.decode(response.entry)
            if response.run_ended:
                raise errors.FailedPreconditionError(
                    f"run {self.run_id} ended while waiting for {name}",
                    code=grpc.StatusCode.FAILED_PRECONDITION,
                    reason="RUN_ENDED",
                )
            if wait.over():
                raise errors.DeadlineError(
                    f"no {name} came within {timeout:g} s",
                    code=grpc.StatusCode.DEADLINE_EXCEEDED,
                )
            request.after_sequence = response.sequence

    def follow(self, after: int, types: Sequence[str | type[BaseModel]], internal: bool, follow: bool) -> Follow:
        """Return the stream of the run's log."""
        return Follow(
            self.run_id,
            self.types,
            after=after,
            options=stream_options(types, internal),
            follow=follow,
            reconnect=Reconnect(self.settings.reconnect_timeout),
        )

    def conversation(
        self, after: int, types: Sequence[str | type[BaseModel]], internal: bool, max_unacked: int
    ) -> Callable[[Callable[[], FutureLike]], ConverseCore]:
        """Return what makes a conversation's core, given how to make a future."""
        return lambda new_future: ConverseCore(
            self.run_id,
            self.types,
            after=after,
            options=stream_options(types, internal),
            max_unacked=max_unacked,
            reconnect=Reconnect(self.settings.reconnect_timeout),
            new_future=new_future,
        )

    def _to_info(self, response: Any) -> _types.RunInfo:
        return _types.to_run_info(response.run, self.types)

    def call(self, method: str, request: Any, parse: Callable[[Any], Any], *, safe: bool) -> Call[Any]:
        """Return a call within the client's timeout."""
        return Call(method, request, parse, safe=safe, budget=self.settings.timeout)


class _Wait:
    """The time of a long wait: cut into polls, with room to come back to a lost server."""

    def __init__(self, timeout: float | None, reconnect_timeout: float | None) -> None:
        if timeout is not None and timeout < 0:
            raise ValueError("timeout is negative")
        self._end = None if timeout is None else time.monotonic() + timeout
        self._reconnect = reconnect_timeout

    def remaining(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def poll(self) -> float:
        remaining = self.remaining()
        return POLL if remaining is None else min(POLL, remaining)

    def over(self) -> bool:
        return self.remaining() == 0

    def call(self, method: str, request: Any, poll: float) -> Call[Any]:
        bounds = [
            None if bound is None else bound + SLACK + extra
            for bound, extra in ((self.remaining(), 0.0), (self._reconnect, poll))
        ]
        known = [bound for bound in bounds if bound is not None]
        # The request is changed for the next poll; a repeat of this one must not see that.
        return Call(
            method,
            copy.deepcopy(request),
            lambda response: response,
            safe=True,
            budget=min(known) if known else None,
            per_attempt=poll + SLACK,
        )
