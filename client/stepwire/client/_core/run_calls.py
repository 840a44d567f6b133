"""The calls on one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from stepwire.client import errors, models
from stepwire.client._core import answers
from stepwire.client._core.call import Call, Pages, Settings, new_request_id
from stepwire.client._core.converse import ConverseCore
from stepwire.client._core.event_types import EventTypes, describe, encode_event
from stepwire.client._core.payload import JSON, from_payload
from stepwire.client._core.places import Places
from stepwire.client._core.reconnect import Reconnect
from stepwire.client._core.sends import FutureLike, Sends
from stepwire.client._core.stream import Follow, stream_options
from stepwire.client.events import EventLike
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots


class RunCalls:
    """Make the calls on one run.

    Args:
        run_id: The run.
        settings: Those of the client.
        types: The classes that events in answers become.
        beginning: The sequence after which waits for events begin; None for the end of the log at the first wait.
    """

    def __init__(self, run_id: str, settings: Settings, types: EventTypes, beginning: int | None = None) -> None:
        if not run_id:
            raise ValueError("run_id must not be empty")
        self.run_id = run_id
        self.settings = settings
        self.types = types
        self.places = Places(beginning)

    def info(self) -> Call[models.RunInfo]:
        """Return the call of GetRun."""
        request = runs.GetRunRequest(run_id=self.run_id, encoding=JSON)
        return self.call("RunService.GetRun", request, self._to_info, safe=True)

    def cancel(self, reason: str) -> Call[models.RunInfo]:
        """Return the call of CancelRun."""
        request = runs.CancelRunRequest(run_id=self.run_id, reason=reason, encoding=JSON)
        return self.call("RunService.CancelRun", request, self._to_info, safe=True)

    def delete(self) -> Call[None]:
        """Return the call of DeleteRun."""
        request = runs.DeleteRunRequest(run_id=self.run_id)
        return self.call("RunService.DeleteRun", request, lambda _: None, safe=False)

    def reload(self) -> Call[models.RunInfo]:
        """Return the call of ReloadRun."""
        request = runs.ReloadRunRequest(run_id=self.run_id, encoding=JSON)
        return self.call("RunService.ReloadRun", request, self._to_info, safe=True)

    def retry(self, at: int, labels: Mapping[str, str] | None, request_id: str | None) -> Call[RunCalls]:
        """Return the call of RetryRun; its answer makes the calls on the new run."""
        request = runs.RetryRunRequest(
            run_id=self.run_id,
            at_sequence=at,
            labels=dict(labels or {}),
            request_id=request_id or "",  # the call is safe without one
            encoding=JSON,
        )
        return self.call("RunService.RetryRun", request, self._to_retried, safe=True)

    def _to_retried(self, response: Any) -> RunCalls:
        return RunCalls(response.run.run_id, self.settings, self.types, 0)

    def pause(self, reason: str) -> Call[models.RunInfo]:
        """Return the call of PauseRun."""
        request = runs.PauseRunRequest(run_id=self.run_id, reason=reason, encoding=JSON)
        return self.call("RunService.PauseRun", request, self._to_info, safe=True)

    def resume(self) -> Call[models.RunInfo]:
        """Return the call of ResumeRun."""
        request = runs.ResumeRunRequest(run_id=self.run_id, encoding=JSON)
        return self.call("RunService.ResumeRun", request, self._to_info, safe=True)

    def send_event(self, event: EventLike, step: str | None, request_id: str | None = None) -> Call[models.SendResult]:
        """Return the call of SendEvent."""
        request = runs.SendEventRequest(
            run_id=self.run_id,
            event=encode_event(event),
            step=step or "",
            request_id=request_id or new_request_id(),
        )
        return self.call("RunService.SendEvent", request, answers.to_send_result, safe=True)

    def publish_event(self, event: EventLike, request_id: str | None = None) -> Call[int]:
        """Return the call of PublishEvent."""
        request = runs.PublishEventRequest(
            run_id=self.run_id, event=encode_event(event), request_id=request_id or new_request_id()
        )
        return self.call("RunService.PublishEvent", request, lambda r: int(r.sequence), safe=True)

    def snapshot(self, sequence: int, context_dict: bool) -> Call[models.Snapshot]:
        """Return the call of GetSnapshot."""
        request = snapshots.GetSnapshotRequest(
            run_id=self.run_id,
            sequence=sequence,
            include_context_dict=context_dict,
            encoding=JSON,
        )
        return self.call("SnapshotService.GetSnapshot", request, answers.to_snapshot, safe=True)

    def list_snapshots(self) -> Pages[models.SnapshotInfo]:
        """Return the pages of ListSnapshots."""
        return Pages(
            "SnapshotService.ListSnapshots",
            snapshots.ListSnapshotsRequest(run_id=self.run_id),
            lambda response: [answers.to_snapshot_info(item) for item in response.snapshots],
            self.settings.timeout,
        )

    def to_result(self, outcome: models.Outcome, as_: Any = None) -> Any:
        """Return the result of an outcome, or raise how the run ended otherwise."""
        run = f"run {self.run_id}"
        if outcome.status is models.RunStatus.FAILED:
            failure = outcome.failure
            where = f" in step {failure.step}" if failure and failure.step else ""
            parts = [failure.error_type, failure.message] if failure else [outcome.reason]
            text = ": ".join(filter(None, [f"{run} failed{where}", *parts]))
            raise errors.RunFailedError(self.run_id, outcome, text)
        if outcome.status is models.RunStatus.CANCELLED:
            text = ": ".join(filter(None, [f"{run} was cancelled", outcome.reason]))
            raise errors.RunCancelledError(self.run_id, outcome, text)
        if outcome.status is models.RunStatus.TIMED_OUT:
            text = ": ".join(filter(None, [f"{run} timed out", outcome.reason]))
            raise errors.RunTimedOutError(self.run_id, outcome, text)
        # A plain StopEvent's result is a value of its own; only a custom one is the event's fields.
        plain = outcome.event_type == "StopEvent"
        as_ = as_ if as_ is not None or plain else self.types.find(outcome.event_type)
        try:
            return from_payload(outcome.payload, as_)
        except ValidationError as error:
            raise errors.EventDecodeError(f"the result of {run} does not fit the type: {describe(error)}") from None

    def follow(self, after: int, types: Sequence[str | type[BaseModel]], internal: bool, follow: bool) -> Follow:
        """Return the stream of the run's log."""
        return Follow(
            self.run_id,
            self.types,
            after=after,
            options=stream_options(types, internal),
            follow=follow,
            reconnect=Reconnect(self.settings.reconnect_timeout, addresses=self.settings.addresses),
        )

    def conversation(
        self, after: int, types: Sequence[str | type[BaseModel]], internal: bool, max_unacked: int
    ) -> Callable[[Callable[[], FutureLike]], ConverseCore]:
        """Return a factory of a conversation's core; its argument makes the driver's futures."""
        return lambda new_future: ConverseCore(
            self.run_id,
            self.types,
            after=after,
            options=stream_options(types, internal),
            max_unacked=max_unacked,
            reconnect=Reconnect(self.settings.reconnect_timeout, addresses=self.settings.addresses),
            sends=Sends(self.run_id, self.settings.timeout, self.settings.addresses),
            new_future=new_future,
        )

    def _to_info(self, response: Any) -> models.RunInfo:
        return answers.to_run_info(response.run, self.types)

    def call(self, method: str, request: Any, parse: Callable[[Any], Any], *, safe: bool) -> Call[Any]:
        """Return a call that may take the client's timeout."""
        return Call(method, request, parse, safe=safe, budget=self.settings.timeout)
