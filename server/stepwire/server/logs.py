"""The log of a server on standard error: one line for each message, with its time and level."""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import TextIO

__all__ = ["LEVELS", "LineFormatter", "configure"]

LEVELS = ("debug", "info", "warning", "error")

_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}


class LineFormatter(logging.Formatter):
    """Write `time level message`; what follows a message (a traceback) is indented."""

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Line ends inside the message are escaped: nobody can forge a line."""
        time = datetime.fromtimestamp(record.created).astimezone()
        level = f"{record.levelname:<8}"
        if self._colours and record.levelname in _COLOURS:
            level = f"\x1b[{_COLOURS[record.levelname]}m{level}\x1b[0m"
        message = "".join(char if char.isprintable() else repr(char)[1:-1] for char in record.getMessage())
        line = f"{time:%Y-%m-%d %H:%M:%S}.{int(record.msecs):03} {level} {message}"
        details = []
        if record.exc_info and record.exc_info[0] is not None:
            details.append(self.formatException(record.exc_info))
        if record.stack_info:
            details.append(self.formatStack(record.stack_info))
        return "\n    ".join([line, *(part for detail in details for part in detail.splitlines())])


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send the log of this process to a stream (standard error), from a level on.

    Other libraries are heard from WARNING on, or all of them at level `debug`.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(colours=stream.isatty()))
    number = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING) if number > logging.DEBUG else number)
    logging.getLogger("stepwire").setLevel(number)
    logging.captureWarnings(True)
