"""The ledger: what the Context calls of a delivery got, kept until the delivery finishes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from stepwire.workflow.broker.snapshot.parts import EFFECT_SIZE
from stepwire.workflow.events import Event
from stepwire.workflow.state.own import given, keep
from stepwire.workflow.wire_names import field_name

__all__ = [
    "TIMED_OUT",
    "WRITTEN",
    "Answer",
    "Buffered",
    "Encoded",
    "Ledger",
    "Notify",
    "OwnForm",
    "TimedOut",
    "Withdrawn",
    "digest_of",
    "digest_under",
    "effects_by_digest",
    "has_fields",
    "kind_digest",
]


class Encoded:
    """A value of the state as a snapshot holds it."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class OwnForm:
    """A value of the state in the JSON that the class of the state writes and reads itself."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


class TimedOut:
    """The answer of a wait that reached its deadline."""

    __slots__ = ()


TIMED_OUT: Final = TimedOut()


class Withdrawn:
    """The mark of a wait whose body gave it up: when the body runs again, its question is not asked again."""

    __slots__ = ("prompt",)

    def __init__(self, prompt: Event | None) -> None:
        self.prompt = prompt


Answer = Event | TimedOut | BaseException
"""What ends a wait: an event, its deadline, or (outside the steps) the end of the run."""
Notify = Callable[[Answer], None]


class Buffered:
    """An event in a collect buffer; `number` is unique in the run. What the event is now is kept."""

    __slots__ = ("_kept", "buffer_id", "encoded", "number", "type")

    def __init__(self, number: int, buffer_id: str, event: Event, encoded: bytes | None) -> None:
        self.number = number
        self.buffer_id = buffer_id
        self.type = type(event)
        self._kept = keep(event)
        self.encoded = encoded

    def give(self) -> Event:
        """Return the event as it was, an object of its own each time."""
        return given(self._kept)


class Ledger:
    """Record the collects and waits of one delivery, by their place among the calls of their kind."""

    __slots__ = ("answers", "collects", "waits")

    def __init__(self) -> None:
        self.collects: dict[str, list[list[Buffered] | None]] = {}
        """By buffer: what each call took, in order; None for a call that took nothing."""
        self.waits: dict[str, dict[int, Answer | Withdrawn]] = {}
        """By waiter id: what its waits came to, by their number."""
        self.answers: list[tuple[str, int]] = []
        """The waits that are over, by id and number, in order: each is a part of the snapshot, written once."""

    def answer(self, waiter_id: str, index: int, answer: Answer | Withdrawn) -> int:
        """Note what a wait came to; return the number of the answer.

        A wait that differs from the one of an earlier execution takes the place of its answer.
        """
        answers = self.waits.setdefault(waiter_id, {})
        known = index in answers
        answers[index] = answer
        if known:
            return self.answers.index((waiter_id, index))
        self.answers.append((waiter_id, index))
        return len(self.answers) - 1

    def answered(
        self,
        waiter_id: str,
        index: int,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
        *,
        broad: bool = False,
    ) -> Answer | None:
        """Return what the wait got in an earlier execution; None when it got nothing, or was another wait.

        Args:
            waiter_id: The id of the wait.
            index: How many waits of this id the execution has made before.
            event_type: The type that it waits for.
            requirements: The fields that it asks for.
            broad: Whether it takes events of subclasses, too.
        """
        answer = self.waits.get(waiter_id, {}).get(index)
        if isinstance(answer, Withdrawn):
            return None
        if isinstance(answer, Event):
            fits = type(answer) is event_type or (broad and event_type is not None and isinstance(answer, event_type))
            if not fits or not has_fields(answer, requirements):
                return None
        return answer

    def was_asked(self, waiter_id: str, index: int, prompt: Event) -> bool:
        """Tell whether an earlier execution asked this question in this wait and then gave the wait up."""
        answer = self.waits.get(waiter_id, {}).get(index)
        return isinstance(answer, Withdrawn) and answer.prompt == prompt

    def collected(self) -> Iterator[Buffered]:
        """Give the events that the collects took: consumed when the delivery finishes."""
        for results in self.collects.values():
            for items in results:
                yield from items or ()


def has_fields(event: Event, requirements: dict[str, Any]) -> bool:
    """Return whether an event has every field, declared or dynamic, with an equal value (S9).

    A declared field goes by its name on the wire or by its own.
    """
    for name, value in requirements.items():
        found = field_of(event, name)
        if found is MISSING or found != value:
            return False
    return True


MISSING: Final = object()


def field_of(event: Event, name: str) -> Any:
    """Return the value of a field of an event, declared or dynamic; MISSING if it has no such field."""
    dynamic = event._data
    if name in dynamic:
        return dynamic[name]
    field = field_name(type(event), name)
    return MISSING if field is None else getattr(event, field)


def digest_of(call: str, event: Event, data: bytes | None) -> bytes:
    """Return the digest of a send or write.

    Without data only the kind of the call counts: that costs no encoding, and in process a restored context repeats
    the same calls in the same order.
    """
    if data is None:
        return kind_digest(call, type(event))
    hasher = _hasher(call, type(event)).copy()
    hasher.update(data)
    return hasher.digest()


def digest_under(call: str, name: str, data: bytes) -> bytes:
    """Return the digest that a send or write has if the class of its event is called `name`."""
    hasher = _named_hasher(call, name)
    hasher.update(data)
    return hasher.digest()


def effects_by_digest(effects: bytearray) -> Counter[bytes]:
    """Count the digests of an earlier execution: what the next one repeats has no second effect."""
    data = bytes(effects)
    return Counter(data[at : at + EFFECT_SIZE] for at in range(0, len(data), EFFECT_SIZE))


@lru_cache(maxsize=1024)
def _hasher(call: str, event_type: type[Event]) -> hashlib.blake2b:
    """Return what has hashed the kind of an effect, to go on with its data."""
    return _named_hasher(call, event_type.__name__)


def _named_hasher(call: str, name: str) -> hashlib.blake2b:
    return hashlib.blake2b(f"{call} {name} ".encode(), digest_size=EFFECT_SIZE)


class _Written(dict[type[Event], bytes]):
    """The digests of stream writes without a journal, by the class of the event."""

    def __missing__(self, cls: type[Event]) -> bytes:
        found = self[cls] = kind_digest("write", cls)
        return found


WRITTEN: Final = _Written()


@lru_cache(maxsize=1024)
def kind_digest(call: str, event_type: type[Event]) -> bytes:
    """Return the digest of the kind of an effect."""
    text = f"{call} {event_type.__module__}.{event_type.__qualname__}".encode()
    return hashlib.blake2b(text, digest_size=EFFECT_SIZE).digest()
