"""The schedules of a service, for threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from stepwire.client._core.schedule_calls import ScheduleCalls
from stepwire.client._sync.transport import SyncTransport
from stepwire.client.schedules import Schedule, ScheduleSpec


class SyncSchedules:
    """As `Schedules`, blocking."""

    def __init__(self, transport: SyncTransport, calls: ScheduleCalls) -> None:
        self._transport = transport
        self._calls = calls

    def create(
        self, schedule_id: str, spec: ScheduleSpec, *, paused: bool = False, request_id: str | None = None
    ) -> Schedule:
        """Create a schedule.

        Args:
            schedule_id: Its id: 1 to 64 of letters, digits and ._-
            spec: What it does.
            paused: Whether it begins paused.
            request_id: An id that makes the call safe to repeat; None chooses one.
        """
        return self._transport.unary(self._calls.create(schedule_id, spec, paused=paused, request_id=request_id))

    def get(self, schedule_id: str) -> Schedule:
        """Return a schedule as the server knows it. Raises NotFoundError."""
        return self._transport.unary(self._calls.get(schedule_id))

    def list(
        self, *, workflow: str | None = None, labels: Mapping[str, str] | None = None, page_size: int = 100
    ) -> Iterator[Schedule]:
        """Iterate over the schedules that match both filters, newest first."""
        return self._transport.pages(self._calls.list(workflow, labels, page_size))

    def update(self, schedule_id: str, spec: ScheduleSpec, *, etag: str = "") -> Schedule:
        """Replace what a schedule does.

        Args:
            schedule_id: The schedule.
            spec: What it does from now on.
            etag: Update it only if it still has this etag; "" for in any case.
        """
        return self._transport.unary(self._calls.update(schedule_id, spec, etag))

    def pause(self, schedule_id: str, reason: str = "") -> Schedule:
        """Have due times start nothing until `resume`. Raises NotFoundError."""
        return self._transport.unary(self._calls.pause(schedule_id, reason))

    def resume(self, schedule_id: str) -> Schedule:
        """End the pause; due times that passed meanwhile start nothing. Raises NotFoundError."""
        return self._transport.unary(self._calls.resume(schedule_id))

    def trigger(self, schedule_id: str, *, request_id: str | None = None) -> str:
        """Start a run now, and return its id; `Client.run` makes a handle of it.

        Args:
            schedule_id: The schedule.
            request_id: An id that makes the call safe to repeat; None chooses one.
        """
        return self._transport.unary(self._calls.trigger(schedule_id, request_id))

    def delete(self, schedule_id: str) -> None:
        """Delete a schedule; its runs stay. Raises NotFoundError."""
        self._transport.unary(self._calls.delete(schedule_id))

    def backfill(
        self,
        schedule_id: str,
        start: datetime,
        end: datetime,
        *,
        at_once: bool = False,
        request_id: str | None = None,
    ) -> int:
        """Have the due times of a range in the past start their runs, in the background; return how many there are.

        Args:
            schedule_id: The schedule.
            start: The due times from this one on.
            end: The due times before this one; not later than now.
            at_once: Whether the runs start beside each other, rather than one after another.
            request_id: An id that makes the call safe to repeat; None chooses one.
        """
        call = self._calls.backfill(schedule_id, start, end, at_once=at_once, request_id=request_id)
        return self._transport.unary(call)
