"""What runs are found by beside their columns and labels: terms, of which an index has each under its run.

A term is a name and a value, as in `error=ConnectionError`. A run has few of them, and a commit writes the index only
when they change.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

__all__ = [
    "CLOSE",
    "ERROR",
    "EVENT",
    "PARENT",
    "SCHEDULE",
    "STARTED_BY",
    "STEP",
    "TELL",
    "UNDONE",
    "term",
    "term_parts",
    "terms_from",
    "terms_text",
]

_to_json = json.JSONEncoder(separators=(",", ":")).encode

STARTED_BY: Final = "by"
"""The caller that started the run."""
PARENT: Final = "parent"
"""The run that started the run."""
SCHEDULE: Final = "schedule"
"""The schedule that started the run."""
UNDONE: Final = "undone"
"""What is to be done about a run that has ended: `tell` its parent, or `close` its children."""
ERROR: Final = "error"
"""The type of the error that the run failed with, or that an attempt of it failed with that is to be repeated."""
STEP: Final = "step"
"""The step that the run failed in, waits in, or repeats."""
EVENT: Final = "event"
"""The type of event that the run waits for."""


@lru_cache(maxsize=4096)
def term(name: str, value: str) -> str:
    """Return the term of a name and a value. PostgreSQL cannot keep a zero character."""
    return f"{name}={value}".replace("\0", "")


TELL: Final = term(UNDONE, "tell")
"""The parent of the ended run has not heard of its end. `prune` keeps the run."""
CLOSE: Final = term(UNDONE, "close")
"""The children of the ended run are to be cancelled. `prune` keeps the run."""


def term_parts(text: str) -> tuple[str, str]:
    """Return the name and the value of a term."""
    name, _, value = text.partition("=")
    return name, value


@lru_cache(maxsize=1024)
def terms_text(terms: tuple[str, ...]) -> str:
    """Return terms as they are stored: a JSON array."""
    return _to_json(terms) if terms else "[]"


def terms_from(text: str) -> tuple[str, ...]:
    """Return stored terms."""
    return tuple(json.loads(text)) if text != "[]" else ()
