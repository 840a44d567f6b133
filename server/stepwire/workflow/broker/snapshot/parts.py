"""The keys of a snapshot's parts: the one place that knows their grammar.

==============  ============  ======================================================================
key             function      the part
==============  ============  ======================================================================
``h``           `HEAD`        the head: counters, clocks, the outcome, the format version
``s/<name>``    `state`       a top-level value of the state
``d/<id>``      `delivery`    a delivery: its event, status, attempts and collects
``a/<id>/<n>``  `answer`      the n-th answer that a delivery's waits got
``x/<id>/<n>``  `effects`     page n of the digests of a delivery's sends and writes
``b/<number>``  `buffered`    a collected event
``w/<number>``  `waiter`      an open waiter
``f/<number>``  `stream`      an open stream of events that steps collect
``u/<id>``      `undo`        what values were before a delivery changed them in place
``c/<number>``  `child`       a run that a step has started
==============  ============  ======================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = [
    "ANSWER",
    "BUFFERED",
    "CHILD",
    "DELIVERY",
    "EFFECTS",
    "EFFECT_PAGE_BYTES",
    "EFFECT_SIZE",
    "HEAD",
    "STATE",
    "STREAM",
    "UNDO",
    "WAITER",
    "PartKey",
    "answer",
    "buffered",
    "child",
    "delivery",
    "effects",
    "name_of",
    "number_of",
    "numbers_of",
    "paged",
    "pages_of",
    "parse",
    "state",
    "state_name",
    "stream",
    "undo",
    "waiter",
]

HEAD: Final = "h"
"""The key of the head, and its kind. The first character of every key is its kind."""
STATE: Final = "s"
DELIVERY: Final = "d"
ANSWER: Final = "a"
EFFECTS: Final = "x"
BUFFERED: Final = "b"
WAITER: Final = "w"
UNDO: Final = "u"
STREAM: Final = "f"
CHILD: Final = "c"

EFFECT_SIZE: Final = 8
"""Bytes of the digest of one send or write."""
EFFECT_PAGE_BYTES: Final = 512 * EFFECT_SIZE
"""Bytes of digests in one part."""


class PartKey(NamedTuple):
    """A key taken apart.

    Attributes:
        kind: HEAD, STATE, DELIVERY, ANSWER, EFFECTS, BUFFERED, WAITER, UNDO, STREAM or CHILD.
        name: The name of a state value; else empty.
        number: The id of the delivery, or the number of the collected event, waiter or child; else 0.
        item: The number of the answer or the page; else 0.
    """

    kind: str
    name: str
    number: int
    item: int


def state(name: str) -> str:
    """Return the key of a top-level value of the state."""
    return f"s/{name}"


def delivery(number: int) -> str:
    """Return the key of a delivery."""
    return f"d/{number}"


def answer(number: int, index: int) -> str:
    """Return the key of an answer that delivery `number` got."""
    return f"a/{number}/{index}"


def effects(number: int, page: int) -> str:
    """Return the key of a page of the effects of delivery `number`."""
    return f"x/{number}/{page}"


def buffered(number: int) -> str:
    """Return the key of a collected event."""
    return f"b/{number}"


def waiter(number: int) -> str:
    """Return the key of an open waiter."""
    return f"w/{number}"


def undo(number: int) -> str:
    """Return the key of what values were before delivery `number` changed them."""
    return f"u/{number}"


def stream(number: int) -> str:
    """Return the key of an open stream."""
    return f"f/{number}"


def child(number: int) -> str:
    """Return the key of a run that a step has started."""
    return f"c/{number}"


def pages_of(size: int) -> range:
    """Return the pages that so many bytes of effects take."""
    return range(-(-size // EFFECT_PAGE_BYTES))


def paged(digests: bytes) -> Iterator[bytes]:
    """Cut the effects of a delivery into pages."""
    for page in pages_of(len(digests)):
        yield digests[page * EFFECT_PAGE_BYTES : (page + 1) * EFFECT_PAGE_BYTES]


def name_of(key: str) -> str:
    """Return the name in the key of a state value."""
    return key[2:]


def state_name(key: str) -> str | None:
    """Return the name of a state value; None for the key of another part."""
    return key[2:] if key.startswith("s/") else None


def parse(key: str) -> PartKey:
    """Take a key apart. ValueError when it is none."""
    if key == HEAD:
        return PartKey(HEAD, "", 0, 0)
    kind, slash, rest = key.partition("/")
    if slash:
        if kind == STATE:
            return PartKey(STATE, rest, 0, 0)
        if kind in (DELIVERY, BUFFERED, WAITER, UNDO, STREAM, CHILD):
            return PartKey(kind, "", int(rest), 0)
        if kind in (ANSWER, EFFECTS):
            number, _, index = rest.partition("/")
            return PartKey(kind, "", int(number), int(index))
    raise ValueError("not the key of a part")


def number_of(key: str) -> int:
    """Return the number in the key of a delivery, a collected event, a waiter, a stream, an undo or a child."""
    return int(key[2:])


def numbers_of(keys: Iterable[str], kind: str) -> list[int]:
    """Return the numbers of the keys of one kind, ascending."""
    return sorted([int(key[2:]) for key in keys if key[0] == kind])
