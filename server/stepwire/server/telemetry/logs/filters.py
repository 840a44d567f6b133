"""Which records reach the log, and what is written beside each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from stepwire.server.telemetry.code_origin import package_of_file

__all__ = ["About", "Fields", "Libraries"]

Fields = Callable[[], Mapping[str, str | int]]
"""Returns what the running code works on, by name; called for each record."""

_MAX_FIELD: Final = 256
"""Characters of a field that are written: clients choose some of them."""


class About(logging.Filter):
    """Put the fields of the code that logs into its record, as `about`.

    Fields of the record itself, in `stepwire`, come first: the records of a run may be made by any task.
    """

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; let every record pass."""
        about = {**self._fields(), **getattr(record, "stepwire", {})}
        record.about = {
            name: value[:_MAX_FIELD] if isinstance(value, str) else value
            for name, value in about.items()
            if value is not None and value != ""
        }
        return True


class Libraries(logging.Filter):
    """Let records of libraries pass from WARNING on.

    A library is what is installed, except Stepwire and the packages of `own`. Code that is not installed is the
    author's, whatever its loggers are called.
    """

    def __init__(self, own: Collection[str]) -> None:
        super().__init__()
        self._own = {"", "stepwire", *own}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record passes."""
        return (
            record.levelno >= logging.WARNING
            or package_of_file(record.pathname) in self._own
            or record.name.partition(".")[0] in self._own
        )
