"""What schedules do to runs, and declared schedules to schedules: here, or at the replica that can.

What is to be done is a name with JSON-able arguments, so that it can be told to another replica.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import (
    DrainingError,
    LimitError,
    RunElsewhereError,
    RunIdTakenError,
    RunNotFoundError,
    RunsError,
    StoreDownError,
    WorkflowNotFoundError,
)
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.lifecycle import RunLifecycle
from stepwire.server.runs.origin import Origin
from stepwire.server.runs.requests import StartRequest
from stepwire.server.store import TERMINAL

__all__ = ["OtherReplicas", "Starter", "may_pass"]

Do = Callable[..., Awaitable[object]]


class OtherReplicas(Protocol):
    """Have other replicas do things."""

    async def act(self, address: str, what: str, given: Mapping[str, Any], replica: int = 0) -> Any:
        """Have a replica do something. RunsError if it refuses, StoreDownError if it does not answer.

        `replica` is its id, if that is known: another one that answers at the address does nothing.
        """


def may_pass(error: RunsError) -> bool:
    """Tell whether what failed so may succeed later."""
    if isinstance(error, LimitError):
        return error.retry_after is not None
    return isinstance(error, StoreDownError | DrainingError | RunElsewhereError)


class Starter:
    """Start and cancel runs, and do what else was added, here or at the replica that can."""

    def __init__(self, pool: RunPool, lifecycle: RunLifecycle) -> None:
        self._pool = pool
        self._lifecycle = lifecycle
        self._does: dict[str, Do] = {"start": self._start, "cancel": self._cancel}
        self.others: OtherReplicas | None = None
        """The other replicas; None if there can be none."""

    def may_be_served(self, error: RunsError) -> bool:
        """Tell whether a workflow that is not served now may be soon: the replica that serves it may be restarting."""
        return self._pool.cluster.shared and error.code_reason == WorkflowNotFoundError.reason

    def add(self, what: str, do: Do) -> None:
        """Add something that can be done, as `do` does it here."""
        self._does[what] = do

    def does(self, what: str) -> Do | None:
        """Return what does something here; None for what is not known. RunElsewhereError if another replica has to."""
        return self._does.get(what)

    async def act_anywhere(self, what: str, given: Mapping[str, Any]) -> None:
        """Do something here, or at the replica that can.

        Args:
            what: What to do.
            given: Its arguments, JSON-able.

        Raises:
            RunsError: It is refused; `may_pass` tells whether to try again.
        """
        try:
            await self._does[what](**given)
        except RunElsewhereError as error:
            if self.others is None or not error.address:
                raise
            try:
                await self.others.act(error.address, what, given, error.replica)
            except (StoreDownError, RunElsewhereError):
                if error.key is not None:
                    self._pool.routes.forget(error.key)
                raise

    async def start(self, caller: Principal, request: StartRequest) -> None:
        """Start a run, unless its schedule has started one of its run_id already.

        Raises:
            RunIdTakenError: The run of this run_id is not the schedule's.
            RunsError: As `act_anywhere`.
        """
        given = {
            "caller": [caller.name, caller.namespace],
            "workflow": request.workflow,
            "input": None if request.input is None else request.input.decode(),
            "run_id": request.run_id,
            "labels": dict(request.labels),
            "timeout": request.timeout,
            "origin": request.origin,
        }
        await self.act_anywhere("start", given)

    async def _start(
        self, caller: tuple[str, str], input: str | None, origin: tuple[str, float, bool], **fields: Any
    ) -> None:
        request = StartRequest(
            input=None if input is None else input.encode(), use_existing=True, origin=Origin(*origin), **fields
        )
        record = await self._lifecycle.start(Principal(*caller), request)
        found = Origin.of(record)
        if found is None or found.schedule_id != origin[0]:
            message = "A run with this run_id exists, and the schedule has not started it"
            raise RunIdTakenError(message, run_id=request.run_id)

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> None:
        """Cancel a run; one that has ended or was deleted is left alone. RunsError, as `act_anywhere`."""
        given = {"caller": [caller.name, caller.namespace], "run_id": run_id, "reason": reason}
        await self.act_anywhere("cancel", given)

    async def _cancel(self, caller: tuple[str, str], run_id: str, reason: str) -> None:
        try:
            await self._lifecycle.cancel(Principal(*caller), run_id, reason)
        except RunNotFoundError:
            return

    async def has_ended(self, caller: Principal, run_id: str) -> bool:
        """Tell whether a run has ended or was deleted. StoreDownError if that is not known."""
        record = await self._pool.records.find(caller.key(run_id))
        return record is None or record.status in TERMINAL

    async def origin(self, caller: Principal, run_id: str) -> Origin | None:
        """Return which schedule started a run; None if there is no such run, or none did."""
        record = await self._pool.records.find(caller.key(run_id))
        return None if record is None else Origin.of(record)

    async def wait(self, caller: Principal, run_id: str) -> None:
        """Wait until a run has ended or was deleted."""
        try:
            await self._lifecycle.wait(caller, run_id, None)
        except RunNotFoundError:
            return
