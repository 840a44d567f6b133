"""The events of a run as lines, and a live line below them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from stepwire.cli.render.activity import failure_text
from stepwire.cli.render.styles import STATUS_STYLES
from stepwire.cli.render.text import clean, duration, fields_text, span
from stepwire.client import (
    ChildEvent,
    EntryKind,
    EventMeta,
    EventRole,
    Execution,
    ExecutionStatus,
    GenericEvent,
    RunStatus,
    event_meta,
)

__all__ = ["Progress", "child_text", "event_line", "event_text", "execution_line", "execution_text"]

_ROLE_STYLES = {
    EventRole.INPUT_REQUIRED: "yellow",
    EventRole.HUMAN_RESPONSE: "yellow",
    EventRole.START: "blue",
    EventRole.STOP: "green",
}
_KIND_MARKS = {EntryKind.RECEIVED: "→", EntryKind.SENT: "·"}


def event_line(event: GenericEvent, limit: int = 60) -> Text:
    """Return an event of a log on one line: local time, sequence, type, fields. Internal events are marked."""
    meta: EventMeta = event_meta(event)
    if meta.execution is not None:
        return execution_line(meta, meta.execution)
    line = Text()
    line.append(f"{meta.time.astimezone():%H:%M:%S} ", style="dim")
    line.append(f"{meta.sequence:>4} ", style="dim")
    line.append_text(event_text(event, limit))
    if meta.step:
        line.append(f"  ({clean(meta.step, keep='')})", style="dim")
    return line


def event_text(event: GenericEvent, limit: int = 60) -> Text:
    """Return an event with the mark of its kind, its type and its fields."""
    meta = event_meta(event)
    if meta.child is not None:
        return child_text(meta.child)
    text = Text()
    text.append(f"{_KIND_MARKS.get(meta.kind, ' ')} ", style="dim")
    text.append(clean(meta.type, keep=""), style=_ROLE_STYLES.get(meta.role, "bold"))
    if fields := fields_text(event.to_dict(), limit):
        text.append(f" {fields}")
    return text


def child_text(child: ChildEvent) -> Text:
    """Return what became of a child: `⇢ run 3f2a9c… of inner started`."""
    text = Text()
    text.append("⇢ ", style="dim")
    text.append(f"run {child.run_id} of {clean(child.workflow, keep='')} ")
    word = "started" if child.status is RunStatus.RUNNING else str(child.status).replace("_", " ")
    text.append(word, style=STATUS_STYLES.get(child.status, ""))
    return text


def execution_line(meta: EventMeta, execution: Execution) -> Text:
    """Return an attempt at a step on a line, of more lines if its error has more."""
    line = Text()
    line.append(f"{meta.time.astimezone():%H:%M:%S} ", style="dim")
    line.append(f"{meta.sequence:>4} ", style="dim")
    failed = execution.error is not None or execution.status is ExecutionStatus.LOST
    line.append("! " if failed else "  ", style="red" if failed else "dim")
    line.append(execution_text(meta.step, execution), style="red" if failed else "dim")
    return line


def execution_text(step: str, execution: Execution) -> str:
    """Return what became of an attempt: `charge failed after 0.2s, attempt 2, next attempt in 4.0s: Down: …`."""
    text = f"{clean(step, keep='')} {str(execution.status).replace('_', ' ')}"
    if execution.duration is not None:
        text += f" after {span(execution.duration.total_seconds())}"
    if execution.attempt > 1 or execution.error is not None:
        text += f", attempt {execution.attempt}"
    if execution.next_attempt_at is not None:
        text += f", the next at {execution.next_attempt_at.astimezone():%H:%M:%S}"
    if execution.error is not None:
        text += f": {clean(failure_text(execution.error), keep=chr(10))}".replace("\n", "\n" + " " * 16)
    return text


class Progress:
    """Print lines, and below them a live line with status, elapsed time, counts and the last event.

    A context manager. Without `live` there is no live line.

    Attributes:
        status: The status of the run; None before it is known.
        trouble: What is wrong at the moment, for the live line; "" for nothing.
        questions: The number of open questions.
    """

    def __init__(self, console: Console, *, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = clock()
        self._spinner = Spinner("dots", style="cyan")
        self._live = _live(self, console) if live else None
        self._held: list[Text] | None = None
        self.status: RunStatus | None = None
        self.trouble = ""
        self.events = 0
        self.questions = 0
        self.last = ""

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        self._release()

    @property
    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._started

    def event(self, event: GenericEvent) -> None:
        """Count an event and print its line."""
        self.events += 1
        self.last = event.type
        self.line(event_line(event))

    def line(self, line: Text) -> None:
        """Print a line, or hold it back while a question is at the terminal."""
        if self._held is not None:
            self._held.append(line)
        else:
            self._print(line)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave the terminal to a question for the length of a block: no live line, and lines wait."""
        if self._live is not None:
            self._live.stop()
        self._held = []
        try:
            yield
        finally:
            self._release()
            if self._live is not None:
                self._live.start()

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for line in held:
            self._print(line)

    def _print(self, line: Text) -> None:
        # Only a live line needs lines to be wrapped. Without one they stay whole, for other programs.
        self._console.print(line, soft_wrap=self._live is None)

    def __rich__(self) -> Table:
        """Return the live line."""
        parts = Text(overflow="ellipsis", no_wrap=True)
        parts.append(str(self.status or "starting"), style=STATUS_STYLES.get(self.status, "") if self.status else "")
        parts.append(f"  {duration(self.elapsed)}  {self.events} event{'' if self.events == 1 else 's'}")
        if self.questions:
            parts.append(f"  {self.questions} open question{'' if self.questions == 1 else 's'}", style="yellow")
        if self.last:
            parts.append(f"  last: {clean(self.last, keep='')}", style="dim")
        if self.trouble:
            parts.append(f"  {clean(self.trouble, keep='')}", style="red")
        grid = Table.grid(padding=(0, 1))
        grid.add_row(self._spinner, parts)
        return grid


def _live(progress: Progress, console: Console) -> Live:
    return Live(
        progress,
        console=console,
        refresh_per_second=8,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
