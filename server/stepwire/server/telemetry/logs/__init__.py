"""The log of the process, on standard error: a line or a JSON object for each record, written by a thread.

Beside each message stands what it is about, where that is known: run, workflow, step, principal, trace.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from typing import Final, TextIO

from stepwire.server.telemetry.logs.filters import About, Fields, Libraries
from stepwire.server.telemetry.logs.formats import JsonFormatter, LineFormatter, escaped
from stepwire.server.telemetry.logs.writer import LineWriter

__all__ = ["FORMATS", "LEVELS", "Fields", "LogHandler", "announce", "configure", "dropped", "flush"]

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")

_FLUSH_SECONDS: Final = 0.5
"""How long the end of the process waits for a log that nobody reads."""


class LogHandler(logging.Handler):
    """Format records where they are made, and have a thread write them."""

    def __init__(self, stream: TextIO, style: str) -> None:
        """Make a handler.

        Args:
            stream: Where the lines go.
            style: One of FORMATS.
        """
        super().__init__()
        self.style = style
        self.setFormatter(JsonFormatter() if style == "json" else LineFormatter(colours=stream.isatty()))
        self.writer = LineWriter(stream, self._dropped)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, soon. One that cannot be formatted is lost: logging's own report would not be escaped."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - any code may log anything
            return
        self.writer.put(line)

    def flush(self) -> None:
        """Wait until the records so far are written, half a second at most."""
        self.writer.flush(_FLUSH_SECONDS)

    def _dropped(self, count: int) -> str:
        text = "%d log records were dropped: standard error was not read fast enough"
        return self.format(logging.LogRecord("stepwire.server", logging.WARNING, __file__, 0, text, (count,), None))


_handler: LogHandler | None = None
"""The handler of this process, once it is configured."""


def configure(
    level: str = "info",
    stream: TextIO | None = None,
    *,
    style: str = "text",
    fields: Fields | None = None,
    own: Collection[str] = (),
) -> None:
    """Send the log of this process to a stream.

    Args:
        level: The lowest level that is logged, of Stepwire and of the author's code: what is not installed, and the
            packages of `own`. Other libraries are heard from WARNING on, or all of them at level `debug`.
        stream: Where it goes; standard error without one.
        style: One of FORMATS.
        fields: Returns what the code that logs works on.
        own: Installed packages that are the author's.
    """
    global _handler
    handler = LogHandler(stream or sys.stderr, style)
    number = logging.getLevelNamesMapping()[level.upper()]
    if number > logging.DEBUG:
        handler.addFilter(Libraries(own))
    if fields is not None:
        handler.addFilter(About(fields))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    logging.captureWarnings(True)
    _handler = handler


def announce(text: str) -> None:
    """Write to the log, whatever its level, what the caller that started the server waits for."""
    handler = _handler
    if handler is None:
        sys.stderr.write(f"stepwire: {escaped(text)}\n")
        sys.stderr.flush()
    elif handler.style == "json":
        handler.emit(logging.LogRecord("stepwire.server", logging.INFO, __file__, 0, text, (), None))
    else:
        handler.writer.put(f"stepwire: {escaped(text)}")


def flush() -> None:
    """Wait until the log so far is written, half a second at most."""
    if _handler is not None:
        _handler.flush()


def dropped() -> int:
    """Return how many records were dropped because nobody read the log."""
    return _handler.writer.dropped if _handler is not None else 0
