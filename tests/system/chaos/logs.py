"""The final log of a run, as the checker looks things up in it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.system.chaos.history import Record

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@dataclass(slots=True)
class FinalLog:
    """The final log of a run, and what is looked up in it."""

    record: Record
    entries: list[list[Any]]
    at: dict[int, list[Any]] = field(default_factory=dict)
    received: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    """(type, what identifies it) → sequences, of what came from outside."""
    streamed: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for entry in self.entries:
            sequence, kind, type_name, fields = entry
            self.at[sequence] = entry
            if kind == "RECEIVED":
                self.received[type_name, identity(type_name, fields)].append(sequence)
            elif kind == "STREAM":
                self.streamed[type_name, identity(type_name, fields)].append(sequence)

    @property
    def ended(self) -> bool:
        return self.record["status"] in ENDED


def identity(type_name: str, fields: Record) -> str:
    """Return what tells an event from every other of its type."""
    if type_name == "Answer":
        return str(fields.get("text"))  # a question may be answered more than once, each answer has its own text
    return str(fields.get("token") or fields.get("tokens", ""))
