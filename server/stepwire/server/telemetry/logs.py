"""The log of a server on standard error: a line, or a JSON object, for each message.

Beside each message stands what it is about, where that is known: run, workflow, step, principal and trace. Nobody who
chooses a text can forge a line or move a terminal's cursor: control characters are escaped, those that turn the
direction of writing too.
"""

from __future__ import annotations

import json
import logging
import sys
import sysconfig
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TextIO

__all__ = ["FORMATS", "LEVELS", "Fields", "JsonFormatter", "LineFormatter", "announce", "configure"]

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

Fields = Callable[[], Mapping[str, str | int]]
"""Gives what the code that logs is about, by name; called for each message."""

_MAX_FIELD = 256
"""Characters of what a message is about: some of it is what a client sent."""

_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}


class _About(logging.Filter):
    """Put what a message is about into its record, as long as the code that logs it runs.

    What the record says itself, as `stepwire`, goes before: a run's own records may be written by anyone's task.
    """

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        about = {**self._fields(), **getattr(record, "stepwire", {})}
        record.about = {
            name: value[:_MAX_FIELD] if isinstance(value, str) else value
            for name, value in about.items()
            if value is not None and value != ""
        }
        return True


_STDLIB: Final = frozenset(
    folder
    for name in ("stdlib", "platstdlib")
    if (path := sysconfig.get_path(name))
    for folder in (Path(path), Path(path).resolve())
)


class _Libraries(logging.Filter):
    """Hear libraries from WARNING on: what is installed, without Stepwire and the packages of `own`.

    Code that is not installed is the author's, whatever its loggers are called.
    """

    def __init__(self, own: Collection[str]) -> None:
        super().__init__()
        self._own = {"", "stepwire", *own}

    def filter(self, record: logging.LogRecord) -> bool:
        return (
            record.levelno >= logging.WARNING
            or _package(record.pathname) in self._own
            or record.name.partition(".")[0] in self._own
        )


@lru_cache(maxsize=4096)
def _package(path: str) -> str:
    """Return the top-level package of an installed file; empty for a file that is not."""
    parts = Path(path).parts
    for name in ("site-packages", "dist-packages"):
        if name in parts[:-1]:
            return parts[parts.index(name) + 1].removesuffix(".py")
    for folder in _STDLIB:
        if parts[: len(folder.parts)] == folder.parts:
            return parts[len(folder.parts)].removesuffix(".py")
    return ""


class LineFormatter(logging.Formatter):
    """Write `time level [name=value…] message`; what follows a message (a traceback) is indented.

    What a message is about stands before it, where no text in the message can be taken for it.
    """

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Line ends inside the message are escaped: nobody can forge a line."""
        time = datetime.fromtimestamp(record.created).astimezone()
        level = f"{record.levelname:<8}"
        if self._colours and record.levelname in _COLOURS:
            level = f"\x1b[{_COLOURS[record.levelname]}m{level}\x1b[0m"
        line = f"{time:%Y-%m-%d %H:%M:%S}.{int(record.msecs):03} {level} "
        if about := getattr(record, "about", {}):
            line += f"[{' '.join(f'{name}={_word(str(value))}' for name, value in about.items())}] "
        line += _escaped(_message(record))
        details = []
        if record.exc_info and record.exc_info[0] is not None:
            details.append(self.formatException(record.exc_info))
        if record.stack_info:
            details.append(self.formatStack(record.stack_info))
        return "\n    ".join([line, *(_escaped(part) for detail in details for part in detail.split("\n"))])


class JsonFormatter(logging.Formatter):
    """Write one JSON object on a line: time (RFC 3339, UTC), level, logger, message, what it is about, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: ASCII, so that nothing in it can be taken for a control character."""
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


class _Handler(logging.StreamHandler[TextIO]):
    """Lose what cannot be written: what logging would print about that is neither escaped nor free of secrets."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


def configure(
    level: str = "info",
    stream: TextIO | None = None,
    *,
    style: str = "text",
    fields: Fields | None = None,
    own: Collection[str] = (),
) -> None:
    """Send the log of this process to a stream (standard error), from a level on, in one of the FORMATS.

    The level holds for Stepwire and for the author's code: what is not installed, and the packages of `own`, which
    may be. Other libraries are heard from WARNING on, or all of them at level `debug`. `fields` tells what code is
    about.
    """
    stream = stream or sys.stderr
    handler = _Handler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else LineFormatter(colours=stream.isatty()))
    number = logging.getLevelNamesMapping()[level.upper()]
    if number > logging.DEBUG:
        handler.addFilter(_Libraries(own))
    if fields is not None:
        handler.addFilter(_About(fields))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    logging.captureWarnings(True)


def announce(text: str, style: str = "text") -> None:
    """Say on standard error, whatever the level, what those wait for who start a server."""
    if style == "json":
        logger = logging.getLogger("stepwire.server")
        logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, text, (), None))
    else:
        sys.stderr.write(f"stepwire: {_escaped(text)}\n")
    sys.stderr.flush()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - whoever wrote it; the rest of the line must not be lost
        return f"{record.msg} (its arguments do not fit)"


def _escaped(text: str) -> str:
    """Escape what is not printable; also what turns the direction of writing is not."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _word(value: str) -> str:
    """Return a value that ends where it seems to: quoted when it holds what stands between values, or a quote."""
    return _escaped(json.dumps(value)) if not value.isprintable() or set(value) & set(' "=\\[]') else value
