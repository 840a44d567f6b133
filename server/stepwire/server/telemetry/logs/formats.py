"""The two forms of a log line: text for people, JSON for programs.

No text that a client or a step chooses can forge a line or move a terminal's cursor: control characters are escaped,
and so are those that turn the direction of writing.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["JsonFormatter", "LineFormatter", "escaped"]

_COLOURS: Final = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}


class LineFormatter(logging.Formatter):
    """Write `time level [name=value…] message`; a traceback follows, indented.

    The fields stand before the message, where no text in the message can be taken for a field.
    """

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Line ends inside the message are escaped, so that nobody can forge a line."""
        time = datetime.fromtimestamp(record.created).astimezone()
        level = f"{record.levelname:<8}"
        if self._colours and record.levelname in _COLOURS:
            level = f"\x1b[{_COLOURS[record.levelname]}m{level}\x1b[0m"
        line = f"{time:%Y-%m-%d %H:%M:%S}.{int(record.msecs):03} {level} "
        if about := getattr(record, "about", {}):
            line += f"[{' '.join(f'{name}={_word(str(value))}' for name, value in about.items())}] "
        line += escaped(_message(record))
        details = []
        if record.exc_info and record.exc_info[0] is not None:
            details.append(self.formatException(record.exc_info))
        if record.stack_info:
            details.append(self.formatStack(record.stack_info))
        return "\n    ".join([line, *(escaped(part) for detail in details for part in detail.split("\n"))])


class JsonFormatter(logging.Formatter):
    """Write one JSON object a line: time (RFC 3339, UTC), level, logger, message, the fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. It is ASCII, so that nothing in it is a control character for a terminal."""
        time = datetime.fromtimestamp(record.created, UTC)
        document: dict[str, Any] = {
            "time": f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond:06}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **getattr(record, "about", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            document["exception"] = record.exc_info[0].__name__
            document["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            document["stack"] = self.formatStack(record.stack_info)
        # JSON leaves one control character as it is: DEL.
        return json.dumps(document).replace("\x7f", "\\u007f")


def escaped(text: str) -> str:
    """Escape what is not printable, and what turns the direction of writing."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - any code may log; the rest of the line must not be lost
        return f"{record.msg} (its arguments do not fit)"


def _word(value: str) -> str:
    """Return a value that ends where it seems to: quoted when it holds a separator or a quote."""
    return escaped(json.dumps(value)) if not value.isprintable() or set(value) & set(' "=\\[]') else value
