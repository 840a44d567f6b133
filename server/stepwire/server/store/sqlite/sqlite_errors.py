"""Translate errors of SQLite into errors of the port."""

from __future__ import annotations

import sqlite3

from stepwire.server.store.errors import StoreCorruptError, StoreError, StoreUnavailableError

HARMLESS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    TypeError,
    ValueError,
)
"""Errors that the values of one statement cause; the transaction around it can go on."""


def code_of(error: BaseException) -> int:
    """Return the primary result code of SQLite; 0 when there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def translate(error: Exception, action: str) -> StoreError:
    """Return the error to raise when SQLite could not do `action`. Its message holds no values."""
    code = code_of(error)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    message = f"the store cannot {action}: {name}"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorruptError(message)
    return StoreUnavailableError(message, full=code == sqlite3.SQLITE_FULL)
