"""A run on the server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TextIO

from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._aio.context import Context
from stepwire.client._aio.converse import Conversation
from stepwire.client._aio.transport import AioTransport
from stepwire.client._core.converse import MAX_UNACKED
from stepwire.client._core.polls import wait_for_end, wait_for_result
from stepwire.client._core.progress import Progress
from stepwire.client._core.run_calls import RunCalls


class Run:
    """A run on the server; made by `Client.start_run` and `Client.run`."""

    def __init__(self, transport: AioTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = calls
        self.context = Context(transport, calls)

    @property
    def run_id(self) -> str:
        """Return the id of the run."""
        return self._calls.run_id

    def __repr__(self) -> str:
        return f"Run({self.run_id!r})"

    def events(
        self,
        after: int = 0,
        *,
        types: Sequence[str | type[BaseModel]] = (),
        internal: bool = False,
        follow: bool = True,
    ) -> AsyncGenerator[Any, None]:
        """Iterate over the events of the log, to the end of the run.

        A lost connection is opened again where it was: no event is missed or repeated. A caller that leaves the
        iteration early closes it: `async with contextlib.aclosing(run.events()) as events`.

        Args:
            after: The sequence after which to begin.
            types: Only events of these types, and the terminal one. Empty for all.
            internal: Also the events that were sent to and by steps.
            follow: Go on until the run ends; else end at the present end of the log.

        Raises:
            NotFoundError: There is no such run.
            OutOfRangeError: The log no longer has, or not yet, what comes after `after`.
            StreamGapError: Entries are missing.
            EventDecodeError: An event does not fit the class that is registered for its type.
        """
        return self._transport.follow(self._calls.follow(after, types, internal, follow))

    async def result(self, timeout: float | None = None, as_: Any = None) -> Any:
        """Wait for the end of the run and return its result.

        Args:
            timeout: Seconds to wait; None for no limit.
            as_: The type of the result, any that pydantic validates. Without it, the result is a registered
                custom stop event, else plain JSON values.

        Raises:
            RunFailedError, RunCancelledError, RunTimedOutError: The run ended without a result.
            DeadlineError: The run has not ended within `timeout`.
        """
        return await self._transport.run(wait_for_result(self._calls, timeout, as_))

    async def wait(self, timeout: float | None = None) -> models.RunInfo:
        """Wait for the end of the run and return the run, however it ended: its `outcome` says how.

        Args:
            timeout: Seconds to wait; None for no limit.

        Raises:
            DeadlineError: The run has not ended within `timeout`.
        """
        return await self._transport.run(wait_for_end(self._calls, timeout))

    async def show(self, file: TextIO | None = None, *, as_: Any = None) -> Any:
        """Write a line for each event of the run as it comes; return what `result` returns.

        Args:
            file: Where the lines go; None for standard error.
            as_: As of `result`.
        """
        progress = Progress(file)
        async with aclosing(self.events()) as events:
            async for event in events:
                progress.tell(event)
        return await self.result(as_=as_)

    async def info(self) -> models.RunInfo:
        """Return the run as the server knows it. Raises NotFoundError."""
        return await self._transport.unary(self._calls.info())

    async def cancel(self, reason: str = "") -> models.RunInfo:
        """Cancel the run. A run that has ended stays as it is. Raises NotFoundError."""
        return await self._transport.unary(self._calls.cancel(reason))

    async def reload(self) -> models.RunInfo:
        """Take a run that waits or is blocked to the code that is served now; return it.

        Raises:
            FailedPreconditionError: The run has ended, or does not fit that code; the message says why.
        """
        return await self._transport.unary(self._calls.reload())

    async def retry(
        self, at: int = 0, *, labels: Mapping[str, str] | None = None, request_id: str | None = None
    ) -> Run:
        """Start a run that goes on from what this one failed at, with whole retry budgets; return it.

        Steps that are through are not done again. Repeating the call returns the same run.

        Args:
            at: Go on from the snapshot at this sequence instead of from the end; 0 is the end.
            labels: Labels of the new run, added to those of this one.
            request_id: An id under which the server knows this call; it is safe to repeat without one, too.

        Raises:
            NotFoundError: There is no such run, or no snapshot at `at`.
            FailedPreconditionError: The run has not failed, timed out or been cancelled, or it left nothing to go on
                with.
        """
        return Run(self._transport, await self._transport.unary(self._calls.retry(at, labels, request_id)))

    async def pause(self, reason: str = "") -> models.RunInfo:
        """Pause the run: nothing new starts, what runs finishes, input is kept.

        Raises:
            NotFoundError: There is no such run.
            FailedPreconditionError: It has ended.
        """
        return await self._transport.unary(self._calls.pause(reason))

    async def resume(self) -> models.RunInfo:
        """End the pause of the run. Raises as `pause`."""
        return await self._transport.unary(self._calls.resume())

    async def delete(self) -> None:
        """Delete the run with its log and snapshots. Raises FailedPreconditionError unless it has ended."""
        await self._transport.unary(self._calls.delete())

    async def snapshot(self, sequence: int = 0, context_dict: bool = False) -> models.Snapshot:
        """Return the snapshot at a sequence.

        Args:
            sequence: The sequence; 0 for the last committed snapshot.
            context_dict: Also return the context with the keys of the 1.x model.

        Raises:
            NotFoundError: There is no snapshot at `sequence`.
        """
        return await self._transport.unary(self._calls.snapshot(sequence, context_dict))

    def snapshots(self) -> AsyncIterator[models.SnapshotInfo]:
        """Iterate over the snapshots that the server keeps, newest first."""
        return self._transport.pages(self._calls.list_snapshots())

    def converse(
        self,
        after: int = 0,
        *,
        types: Sequence[str | type[BaseModel]] = (),
        internal: bool = False,
        max_unacked: int = MAX_UNACKED,
    ) -> Conversation:
        """Return a conversation, for `async with`.

        Args:
            after: As of `events`.
            types: As of `events`.
            internal: As of `events`.
            max_unacked: How many events may wait in this client before the server pauses.
        """
        make = self._calls.conversation(after, types, internal, max_unacked)
        return Conversation(self._transport, make, self._calls.settings.timeout)
