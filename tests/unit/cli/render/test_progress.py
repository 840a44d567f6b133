"""Events as lines, and the live line."""

from __future__ import annotations

import io

from rich.console import Console
from tests.unit.cli.render.things import event, shown

from stepwire.cli.render.progress import Progress, event_line
from stepwire.client import EntryKind, RunStatus


def test_event_line_is_one_line() -> None:
    line = event_line(event("Tick", 12, n=3, text="a\nb\x1b[2J")).plain
    assert "12" in line
    assert "Tick n=3" in line
    assert "(work)" in line
    assert "\n" not in line
    assert "\x1b" not in line
    assert event_line(event("Tick", kind=EntryKind.RECEIVED)).plain.count("→") == 1


def test_lines_wait_while_a_question_is_at_the_terminal() -> None:
    file = io.StringIO()
    with Progress(Console(file=file, width=100), live=False) as progress:
        progress.event(event("First"))
        with progress.pause():
            progress.event(event("Second", 2))
            assert "Second" not in file.getvalue()
        assert "Second" in file.getvalue()
    assert progress.events == 2


def test_live_line() -> None:
    progress = Progress(Console(file=io.StringIO(), width=100), live=False, clock=iter([10.0, 75.0]).__next__)
    progress.status, progress.events, progress.questions, progress.last = RunStatus.WAITING, 3, 1, "Tick"
    line = shown(progress)
    assert "waiting  1m05s  3 events  1 open question  last: Tick" in line
