"""Show an error without its text: an exception of an author may quote a secret; its type and place do not."""

from __future__ import annotations

from types import TracebackType

_DEEPEST = 20
"""Causes that are shown; a chain may refer to itself."""


def without_texts(
    error: BaseException, depth: int = 0
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Return an error as `logging` takes it (exc_info): with types, causes and frames, and without any text."""
    kind = type(error)
    told = type(kind.__name__, (_Untold,), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
    shown = told()
    if depth < _DEEPEST:
        for name in ("__cause__", "__context__"):
            before = getattr(error, name)
            if before is not None:
                _, value, frames = without_texts(before, depth + 1)
                setattr(shown, name, value.with_traceback(frames))
    shown.__suppress_context__ = error.__suppress_context__
    return told, shown.with_traceback(error.__traceback__), error.__traceback__


class _Untold(Exception):
    def __str__(self) -> str:
        return "(its text is not logged: failure_detail is type)"
