"""Show the events of a run as they come, put its questions, see how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stepwire.cli.following.answering import Answering
from stepwire.cli.following.answers import Answers
from stepwire.cli.following.view import RunView
from stepwire.cli.render.line_reader import LineReader
from stepwire.cli.render.progress import Progress, event_line
from stepwire.cli.render.questions import Asker
from stepwire.cli.render.records import event_record, outcome_record, run_record
from stepwire.cli.render.terminal import Output
from stepwire.client import (
    Client,
    DeadlineError,
    EntryKind,
    GenericEvent,
    Run,
    RunInfo,
    UnavailableError,
    event_meta,
)

__all__ = ["Follower"]

# Seconds between looks at the run's status. Some changes are not in the log, such as a wait without a prompt. So the
# status is looked at soon after an event, and then less and less often.
_FIRST_LOOK, _LAST_LOOK = 0.1, 2.0


class Follower:
    """Follow one run to its end.

    Args:
        client: The client.
        run: The run.
        output: Where everything is shown.
        answers: Answers to use before anyone is asked.
        ask: Ask the person at the terminal. Otherwise a question is printed and left to be answered elsewhere.
        after: The sequence after which the log is shown.
        types: Only events of these types are shown, and the terminal one. Empty for all.
        internal: Also show the events that were sent to and by steps.
        events_to_stdout: Write events to standard output, as their own lines for scripts. Otherwise they go to
            standard error, and for scripts to standard output as `{"run": …}`, `{"event": …}`, `{"question": …}` and
            `{"outcome": …}`.
    """

    def __init__(
        self,
        client: Client,
        run: Run,
        output: Output,
        *,
        answers: Answers,
        ask: bool,
        after: int = 0,
        types: Sequence[str] = (),
        internal: bool = False,
        events_to_stdout: bool = False,
    ) -> None:
        self._run = run
        self._output = output
        self._types = frozenset(types)
        self._internal = internal
        self._bare = events_to_stdout
        console = output.out if events_to_stdout else output.err
        self._progress = Progress(console, live=output.live and not events_to_stdout)
        self._view = RunView(client, run, after)
        self._answering = Answering(
            run,
            self._view,
            output,
            answers=answers,
            asker=Asker(output.err, LineReader()) if ask else None,
            pause=self._progress.pause,
            records=not events_to_stdout,
        )
        self._activity = asyncio.Event()

    @property
    def resume_after(self) -> int:
        """Return the sequence to come back at."""
        return self._view.resume_after

    @property
    def elapsed(self) -> float:
        """Return the seconds since this began."""
        return self._progress.elapsed

    async def follow(self) -> RunInfo:
        """Follow the run; return it as it ended. Cancelling leaves the run as it is."""
        info = await self._view.open()
        if self._output.json and not self._bare:
            self._output.record({"run": run_record(info)})
        with self._progress:
            await self._work()
        info = await self._run.info()
        if self._output.json and not self._bare and info.outcome is not None:
            self._output.record({"outcome": outcome_record(info.outcome)})
        return info

    async def _work(self) -> None:
        reading = asyncio.create_task(self._read())
        others = [asyncio.create_task(self._look()), asyncio.create_task(self._answering.answer_all())]
        try:
            done, _ = await asyncio.wait([reading, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # only reading ends without an error
        finally:
            for task in (reading, *others):
                task.cancel()
            await asyncio.gather(reading, *others, return_exceptions=True)

    async def _read(self) -> None:
        async for event in self._run.events(self._view.sequence, internal=True):
            self._view.take(event)
            self._activity.set()
            if self._shown(event):
                self._show(event)

    def _shown(self, event: GenericEvent) -> bool:
        meta = event_meta(event)
        if meta.execution is not None and not self._internal:
            # A person sees why nothing goes on; a script asks for what is internal.
            return meta.execution.error is not None and not self._output.json and not self._types
        if meta.kind in (EntryKind.RECEIVED, EntryKind.SENT, EntryKind.CHILD) and not self._internal:
            return False
        return not self._types or meta.type in self._types or meta.kind is EntryKind.TERMINAL

    def _show(self, event: GenericEvent) -> None:
        if self._output.json:
            record = event_record(event)
            self._output.record(record if self._bare else {"event": record})
        elif event_meta(event).execution is not None:
            self._progress.line(event_line(event))
        elif self._bare or event_meta(event).kind is not EntryKind.TERMINAL:  # `run` writes the outcome itself
            self._progress.event(event)

    async def _look(self) -> None:
        delay = _FIRST_LOOK
        while True:
            try:
                async with asyncio.timeout(delay):
                    await self._activity.wait()
            except TimeoutError:
                delay = min(delay * 2, _LAST_LOOK)
            else:
                self._activity.clear()
                delay = _FIRST_LOOK
            try:
                info = await self._view.refresh()
            except (UnavailableError, DeadlineError):
                # The stream of events knows when to give up.
                self._progress.trouble = "the server does not answer"
                continue
            self._progress.trouble = ""
            self._progress.status = info.status
            self._progress.questions = len(self._view.questions())
            self._answering.forget_closed()
