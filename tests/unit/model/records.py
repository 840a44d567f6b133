"""What the reference model is made of: events, deliveries, waits.

An event is a pair (name of its type, n); equal events are equal pairs, so only ids tell deliveries apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Ev = tuple[str, int]
Call = tuple[Any, ...]
"""One call of a body: its kind, then its arguments."""
Log = tuple[int, int, str, int | None, str, int]
"""Sequence, kind, type, n, step, delivered."""

STREAM, RECEIVED, SENT, TERMINAL = 1, 2, 3, 4
TIMEOUT, DEAD, ENDED = "timeout", "dead", "ended"
MAX_LOST = 5


@dataclass
class Item:
    """An event in a buffer, or held by a ledger."""

    number: int
    buffer: str
    event: Ev


@dataclass
class Work:
    """A delivery. What its executions were told is the ledger; `live` and what follows belong to one execution."""

    id: int
    step: str
    event: Ev
    sequence: int
    status: str = "queued"
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    first_started: float | None = None
    due: float | None = None
    collects: dict[str, list[list[Item] | None]] = field(default_factory=dict)
    answers: dict[tuple[str, int], Any] = field(default_factory=dict)
    withdrawn: dict[tuple[str, int], Any] = field(default_factory=dict)
    """The prompts of waits that were given up: they are not written again."""
    effects: list[Call] = field(default_factory=list)
    script: list[tuple[Call, Any]] = field(default_factory=list)
    """The calls that executions have made, with what each got at first: what the next one makes again."""
    faithful: bool = True
    """Every execution made the same calls and none failed, so that a call made again has no second effect."""
    undo: dict[str, Any] = field(default_factory=dict)
    """What values were before the delivery changed them in place: they are put back when it begins again."""
    live: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    """What values were when the execution got them, as long as nobody else has seen them since."""
    got: set[str] = field(default_factory=set)
    """The values that the execution has got since it, or somebody else, set them."""
    pos: int = 0
    nth_collect: Counter[str] = field(default_factory=Counter)
    nth_wait: Counter[str] = field(default_factory=Counter)
    replay: Counter[Call] = field(default_factory=Counter)
    awaited: int = 0
    settled: list[tuple[int, Any]] = field(default_factory=list)

    def reset(self) -> None:
        """Forget the execution."""
        self.live = False
        self.pos = self.awaited = 0
        self.before, self.got = {}, set()
        self.nth_collect, self.nth_wait, self.replay, self.settled = Counter(), Counter(), Counter(), []

    def repeats(self, effect: Call) -> bool:
        """Tell whether an earlier execution had the effect; else note it."""
        if self.replay[effect] > 0:
            self.replay[effect] -= 1
            return True
        self.effects.append(effect)
        if not any(self.replay.values()):
            self.lost = 0  # it got further than any execution before
        return False

    def held(self) -> list[Item]:
        return [item for results in self.collects.values() for items in results for item in items or ()]


@dataclass
class Wait:
    """An open waiter; `token` is what its body listens with, None when nobody does."""

    number: int
    id: str
    type: str | None
    n: int | None
    prompt: Ev | None
    due: float | None
    work: int | None
    index: int
    token: int | None = None


def in_order(items: Iterable[Item]) -> dict[tuple[str, str], list[int]]:
    """Return the numbers of buffered events by buffer and type."""
    found: dict[tuple[str, str], list[int]] = {}
    for item in items:
        found.setdefault((item.buffer, item.event[0]), []).append(item.number)
    return found
