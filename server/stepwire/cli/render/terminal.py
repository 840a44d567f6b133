"""Where a command writes: results on standard output, everything else for people on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from stepwire.cli.render.text import clean, clean_json, indented
from stepwire.client import StepwireError

__all__ = ["Output", "error_text", "to_json"]


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return JSON text, on one line unless `indent` is given."""
    separators = (",", ":") if indent is None else None
    return clean_json(json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, default=str))


def error_text(error: StepwireError) -> str:
    """Return `error: REASON: message`, a line for each field that the server refused, and the reference."""
    reason = error.reason or (error.code.name if error.code is not None else type(error).__name__)
    # A server's text names no run: it would echo what anybody asked for.
    run = f": {clean(error.metadata.get('run_id', ''), keep='')}" if reason == "RUN_NOT_FOUND" else ""
    lines = [indented(f"error: {reason}: {error.message}{run}")]
    lines += [
        f"  {clean(item.field, keep='')}: {clean(item.description, keep='')}" for item in error.unnamed_violations
    ]
    if error.reference_id:
        lines.append(f"  reference: {clean(error.reference_id, keep='')}")
    return "\n".join(lines)


class Output:
    """Write for people, or for scripts when `json` is set. Then standard output holds only JSON."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.out = Console(highlight=False, markup=False, emoji=False, width=_width(sys.stdout))
        self.err = Console(stderr=True, highlight=False, markup=False, emoji=False, width=_width(sys.stderr))

    @property
    def interactive(self) -> bool:
        """Say whether a person can read and answer."""
        return not self.json and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def live(self) -> bool:
        """Say whether standard error is a terminal that can redraw lines."""
        return not self.json and sys.stderr.isatty() and not self.err.is_dumb_terminal

    @property
    def width(self) -> int | None:
        """The width of the terminal that standard output is; None for a file or a pipe."""
        return self.out.width if self.out.is_terminal else None

    def document(self, value: Any) -> None:
        """Write a JSON document, indented for people, on one line for scripts."""
        if self.json:
            self.record(value)
        else:
            self.text(to_json(value, indent=2))

    def record(self, value: Mapping[str, Any] | Any) -> None:
        """Write a line of JSON and flush it."""
        sys.stdout.write(to_json(value) + "\n")
        sys.stdout.flush()

    def result(self, value: Any) -> None:
        """Write the result of a run: text as it is, anything else as JSON."""
        self.text(
            value if isinstance(value, str) and not self.json else to_json(value, indent=None if self.json else 2)
        )

    def text(self, text: str) -> None:
        """Write text to standard output, cleaned when that is a terminal."""
        sys.stdout.write((clean(text) if sys.stdout.isatty() else text) + "\n")
        sys.stdout.flush()

    def show(self, item: RenderableType) -> None:
        """Write a table or styled text to standard output."""
        if isinstance(item, Text):
            self.line(item)
            return
        for row in self.out.render_lines(item, pad=False):
            self.line(_without_blanks(row))

    def note(self, text: str, style: str = "") -> None:
        """Write a line for people to standard error."""
        self.err.print(Text(clean(text), style=style), soft_wrap=True)
        self.err.file.flush()

    def line(self, line: Text) -> None:
        """Write styled text as one line to standard output."""
        self.out.print(line, soft_wrap=True)
        self.out.file.flush()

    def progress_note(self, text: str, style: str = "dim") -> None:
        """Write a line about the progress, for people only."""
        if not self.json:
            self.note(text, style)

    def error(self, error: StepwireError) -> None:
        """Write an error to standard error."""
        self.note(error_text(error), style="red")


def _without_blanks(row: list[Segment]) -> Text:
    """Return a row of a table without the blanks that fill its last column."""
    text = Text()
    for segment in row:
        text.append(segment.text, segment.style)
    text.rstrip()
    return text


def _width(stream: TextIO) -> int | None:
    """Return None for a terminal, whose width rich finds, else a width at which columns stay whole."""
    return None if stream.isatty() else 250
