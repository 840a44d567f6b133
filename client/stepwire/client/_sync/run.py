"""A run on the server, for threads."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TextIO

from pydantic import BaseModel

from stepwire.client import models
from stepwire.client._core.converse import MAX_UNACKED
from stepwire.client._core.polls import wait_for_end, wait_for_result
from stepwire.client._core.progress import Progress
from stepwire.client._core.run_calls import RunCalls
from stepwire.client._sync.context import SyncContext
from stepwire.client._sync.converse import SyncConversation
from stepwire.client._sync.transport import SyncTransport


class SyncRun:
    """As `Run`, blocking; made by `SyncClient.start_run` and `SyncClient.run`."""

    def __init__(self, transport: SyncTransport, calls: RunCalls) -> None:
        self._transport = transport
        self._calls = calls
        self.context = SyncContext(transport, calls)

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
    ) -> Generator[Any, None, None]:
        """Iterate over the log after a sequence, to the end of the run."""
        return self._transport.follow(self._calls.follow(after, types, internal, follow))

    def result(self, timeout: float | None = None, as_: Any = None) -> Any:
        """Wait for the end of the run, at most `timeout` seconds, and return its result."""
        return self._transport.run(wait_for_result(self._calls, timeout, as_))

    def wait(self, timeout: float | None = None) -> models.RunInfo:
        """Wait for the end of the run, at most `timeout` seconds, and return the run, however it ended."""
        return self._transport.run(wait_for_end(self._calls, timeout))

    def show(self, file: TextIO | None = None, *, as_: Any = None) -> Any:
        """Write a line for each event of the run to a file as they come; return what `result` does."""
        progress = Progress(file)
        with closing(self.events()) as events:
            for event in events:
                progress.tell(event)
        return self.result(as_=as_)

    def info(self) -> models.RunInfo:
        """Return the run as the server knows it. Raises NotFoundError."""
        return self._transport.unary(self._calls.info())

    def cancel(self, reason: str = "") -> models.RunInfo:
        """Cancel the run. A run that has ended stays as it is. Raises NotFoundError."""
        return self._transport.unary(self._calls.cancel(reason))

    def reload(self) -> models.RunInfo:
        """Take a run that waits or is blocked to the code that is served now; return it. As `Run.reload`."""
        return self._transport.unary(self._calls.reload())

    def retry(self, at: int = 0, *, labels: Mapping[str, str] | None = None, request_id: str | None = None) -> SyncRun:
        """Start a run that goes on from what this one failed at; return it. As `Run.retry`."""
        return SyncRun(self._transport, self._transport.unary(self._calls.retry(at, labels, request_id)))

    def pause(self, reason: str = "") -> models.RunInfo:
        """Pause the run: nothing new starts, what runs finishes, input is kept.

        Raises:
            NotFoundError: There is no such run.
            FailedPreconditionError: It has ended.
        """
        return self._transport.unary(self._calls.pause(reason))

    def resume(self) -> models.RunInfo:
        """End the pause of the run. Raises as `pause`."""
        return self._transport.unary(self._calls.resume())

    def delete(self) -> None:
        """Delete the run with its log and snapshots. Raises FailedPreconditionError unless it has ended."""
        self._transport.unary(self._calls.delete())

    def snapshot(self, sequence: int = 0, context_dict: bool = False) -> models.Snapshot:
        """Return the snapshot at a sequence.

        Args:
            sequence: The sequence; 0 for the last committed snapshot.
            context_dict: Also return the context with the keys of the 1.x model.

        Raises:
            NotFoundError: There is no snapshot at `sequence`.
        """
        return self._transport.unary(self._calls.snapshot(sequence, context_dict))

    def snapshots(self) -> Iterator[models.SnapshotInfo]:
        """Iterate over the snapshots that the server keeps, newest first."""
        return self._transport.pages(self._calls.list_snapshots())

    def converse(
        self,
        after: int = 0,
        *,
        types: Sequence[str | type[BaseModel]] = (),
        internal: bool = False,
        max_unacked: int = MAX_UNACKED,
    ) -> SyncConversation:
        """Return a conversation, to be used with `with`; parameters as of `events`."""
        make = self._calls.conversation(after, types, internal, max_unacked)
        return SyncConversation(self._transport, make, self._calls.settings.timeout)
