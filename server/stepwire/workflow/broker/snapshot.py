"""Snapshots: the parts of a broker, and a broker from its parts.

A snapshot is a dict of parts, key to JSON. Keys: `h` the head (counters, clocks, outcome), `s/<key>` a top-level
value of the state, `d/<id>` a delivery with its ledger, `a/<id>/<n>` an answer that it got, `x/<id>/<page>` a page of
its effects, `b/<number>` a buffered event, `w/<number>` an open waiter. Only what lives is in it: nothing grows with
history (S17), except that a step which never returns keeps what it was answered.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import to_json

from stepwire.workflow.broker.broker import Broker, Outcome
from stepwire.workflow.broker.delivery import (
    BACKOFF,
    EFFECT_PAGE_BYTES,
    EFFECT_SIZE,
    MAX_LOST_EXECUTIONS,
    PARKED,
    QUEUED,
    READY,
    RUNNING,
    TIMED_OUT,
    Buffered,
    Delivery,
    Waiter,
)
from stepwire.workflow.broker.journal import Changes
from stepwire.workflow.codec.decoder import field_from_tagged, from_tagged
from stepwire.workflow.codec.encoder import encode
from stepwire.workflow.codec.model_json import UNSAVED
from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import (
    SerializationError,
    SnapshotError,
    SnapshotVersionError,
)
from stepwire.workflow.events import Event, StopEvent

FORMAT_VERSION: Final = 1
"""The version of the parts that this code writes."""

EncodeValue = Callable[[Any], bytes]
DecodeValue = Callable[[Any], Any]


def take_changes(broker: Broker, *, everything: bool = False) -> Changes:
    """Take what changed since the last call, encoded; with `everything`, all parts whether they changed or not.

    A state value that was damaged in place and cannot be saved any more fails the run, naming the keys; the value
    last committed stays.
    """
    journal = broker.journal
    assert journal is not None
    if everything:
        journal.dirty.update(dict.fromkeys(part_keys(broker)))
        journal.dirty.update((f"s/{name}", None) for name in broker.store.values())
    state, damaged = broker.encode_state()
    if damaged:
        broker.fail_damaged(damaged)
    for number, first in journal.effects.items():
        delivery = broker.deliveries.get(number)
        if delivery is not None and delivery.effects:
            for page in range(first, -(-len(delivery.effects) // EFFECT_PAGE_BYTES)):
                journal.dirty[f"x/{number}/{page}"] = None
    dirty, entries = journal.take()
    if dirty or entries:
        dirty["h"] = None  # every transition moves a counter
    parts: dict[str, bytes] = {}
    deleted: list[str] = []
    encode_value = registry_encoder(journal.names)
    for key in dirty:
        if key[0] == "s":
            part = state.get(key)
            if part is None and key[2:] in broker.store.values():
                continue
        else:
            part = _part(broker, key, encode_value)
        if part is None:
            deleted.append(key)
        else:
            parts[key] = part
    return Changes(parts, deleted, entries)


def all_parts(
    broker: Broker, encode_value: EncodeValue, *, with_state: bool = True, without: Delivery | None = None
) -> dict[str, bytes]:
    """Return every part of a broker; `encode_value` gives a value as JSON. `without` leaves a delivery out."""
    parts: dict[str, bytes] = {}
    for key in part_keys(broker, without):
        part = _part(broker, key, encode_value)
        if part is not None:
            parts[key] = part
    if with_state:
        for name, value in broker.store.values().items():
            parts[f"s/{name}"] = _state_part(broker, name, value, encode_value)
    return parts


def _state_part(broker: Broker, name: str, value: Any, encode_value: EncodeValue) -> bytes:
    try:
        return encode_value(value)
    except SerializationError:
        data = broker.store.own_json(name)
        if data is UNSAVED:
            raise
        return b'{"$json":%b}' % encode_value(data)


def part_keys(broker: Broker, without: Delivery | None = None) -> list[str]:
    """Return the keys of every part of a broker but the state's."""
    keys = ["h"]
    left_out: set[int] = set()
    for delivery in broker.deliveries.values():
        if delivery is without:
            left_out = {item.number for item in delivery.collected()}
            continue
        keys.append(f"d/{delivery.id}")
        if delivery.effects:
            pages = -(-len(delivery.effects) // EFFECT_PAGE_BYTES)
            keys += [f"x/{delivery.id}/{page}" for page in range(pages)]
        if delivery.ledger is not None:
            keys += [f"a/{delivery.id}/{number}" for number in range(len(delivery.ledger.answers))]
    keys += [f"b/{number}" for number in broker.buffers.numbers() if number not in left_out]
    keys += [f"w/{waiter.number}" for waiter in broker.waits if waiter.delivery not in (None, without)]
    return keys


def _part(
    broker: Broker,
    key: str,
    encode_value: EncodeValue,
) -> bytes | None:
    kind = key[0]
    if kind == "d":
        delivery = broker.deliveries.get(int(key[2:]))
        return None if delivery is None else _delivery_part(delivery, encode_value)
    if kind == "h":
        return _head(broker, encode_value)
    if kind == "b":
        item = broker.buffers.get(int(key[2:]))
        if item is None:
            return None
        event = item.encoded or encode_value(item.event)
        return b'{"i":%b,"e":%b}' % (to_json(item.buffer_id), event)
    if kind == "w":
        waiter = broker.waits.get(int(key[2:]))
        return None if waiter is None else _waiter_part(waiter, encode_value)
    _, number, page = key.split("/")
    delivery = broker.deliveries.get(int(number))
    if kind == "a":
        return None if delivery is None else _answer_part(delivery, int(page), encode_value)
    if delivery is None or not delivery.effects:
        return None
    start = int(page) * EFFECT_PAGE_BYTES
    digests = bytes(delivery.effects[start : start + EFFECT_PAGE_BYTES])
    return b'"%b"' % base64.b64encode(digests) if digests else None


def _head(broker: Broker, encode_value: EncodeValue) -> bytes:
    head: dict[str, Any] = {
        "v": FORMAT_VERSION,
        "seq": broker.sequence,
        "ids": broker.delivery_ids,
        "nums": broker.numbers,
        "sv": broker.store.version,
        "started": broker.started,
        "asked": broker.asked,
        "timeout": broker.timeout,
        "remaining": broker.remaining,
        "due": broker.due,
    }
    data = to_json(head)
    if broker.outcome is None:
        return data
    event = broker.outcome.encoded or encode_value(broker.outcome.event)
    return b'%b,"outcome":%b,"event":%b}' % (data[:-1], to_json(broker.outcome.status), event)


def _delivery_part(delivery: Delivery, encode_value: EncodeValue) -> bytes:
    meta: dict[str, Any] = {
        "s": delivery.step,
        "q": delivery.sequence,
        "st": delivery.status,
        "a": delivery.attempt,
        "f": delivery.failures,
        "l": delivery.lost,
        "t": delivery.first_started,
        "u": delivery.due,
    }
    fragments = [to_json(meta)[:-1], b',"e":', delivery.encoded or encode_value(delivery.event)]
    ledger = delivery.ledger
    if ledger is not None and ledger.collects:
        collects = {
            key: [None if items is None else [item.number for item in items] for items in results]
            for key, results in ledger.collects.items()
        }
        fragments += [b',"c":', to_json(collects)]
    fragments.append(b"}")
    return b"".join(fragments)


def _answer_part(delivery: Delivery, number: int, encode_value: EncodeValue) -> bytes | None:
    ledger = delivery.ledger
    if ledger is None or number >= len(ledger.answers):
        return None
    waiter_id, index = ledger.answers[number]
    answer = ledger.waits[waiter_id][index]
    event = encode_value(answer) if isinstance(answer, Event) else b"null"
    return b'{"i":%b,"n":%d,"e":%b}' % (to_json(waiter_id), index, event)


def _waiter_part(waiter: Waiter, encode_value: EncodeValue) -> bytes:
    event_type = waiter.event_type
    meta = {
        "id": waiter.id,
        "u": waiter.due,
        "d": None if waiter.delivery is None else waiter.delivery.id,
        "n": waiter.index,
    }
    return b'%b,"t":%b,"r":%b,"p":%b}' % (
        to_json(meta)[:-1],
        b"null" if event_type is None else encode_value(TypeMark(event_type)),
        encode_value(waiter.requirements),
        b"null" if waiter.prompt is None else encode_value(waiter.prompt),
    )


class TypeMark:
    """A type to be encoded by its name; every EncodeValue knows it."""

    __slots__ = ("type",)

    def __init__(self, type: type[Event]) -> None:
        self.type = type


def registry_encoder(names: Names) -> EncodeValue:
    """Encode values as tagged JSON with the names of a registry."""

    def encode_value(value: Any) -> bytes:
        if isinstance(value, TypeMark):
            return to_json(names.name_of(value.type))
        return encode(value, names)

    return encode_value


def restore(
    broker: Broker,
    parts: Mapping[str, Any],
    names: Names,
    *,
    saved_at: float,
    fork: bool,
    decode_value: DecodeValue | None = None,
    validate: bool = True,
    with_state: bool = True,
) -> None:
    """Fill a new broker from parts (parsed JSON).

    The same run goes on with its due times, and what ran when it was saved counts as lost to a crash; a fork gets the
    time that was left, and loses nothing. Raises SnapshotError and its kinds, naming the part.
    """

    def decode_default(value: Any) -> Any:
        return from_tagged(value, names, validate=validate)

    reader = _Reader(broker, parts, names, decode_value or decode_default)
    key = "h"
    try:
        reader.head(parts.get("h"), saved_at, fork)
        if with_state:
            key = "s"
            state = {
                name[2:]: field_from_tagged(value, names, validate=validate)
                for name, value in parts.items()
                if name.startswith("s/")
            }
            values = {name: value for name, (value, _) in state.items()}
            broker.store.load_values(values, validate=validate or any(own for _, own in state.values()))
            broker.store.version = _int(parts["h"]["sv"])
        for key in sorted(_numbered(parts, "b"), key=_number):
            reader.buffered(key)
        for key in sorted(_numbered(parts, "d"), key=_number):
            reader.delivery(key, saved_at, fork)
        for item in reader.loose.values():
            broker.buffers.add(item)
        for key in sorted(_numbered(parts, "w"), key=_number):
            reader.waiter(key, saved_at, fork)
    except SnapshotError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SnapshotError(f"The snapshot is malformed at part '{key[:40]}'") from error
    reader.place()


def _numbered(parts: Mapping[str, Any], kind: str) -> list[str]:
    return [key for key in parts if key.startswith(kind + "/")]


def _number(key: str) -> int:
    return int(key[2:])


class _Reader:
    """Read parts into a broker."""

    def __init__(self, broker: Broker, parts: Mapping[str, Any], names: Names, decode: DecodeValue) -> None:
        self.broker = broker
        self.parts = parts
        self.names = names
        self.decode = decode
        self.loose: dict[int, Buffered] = {}
        """Buffered events that no ledger holds."""
        self.restored: list[Delivery] = []

    def event(self, value: Any) -> Event:
        event = self.decode(value)
        if not isinstance(event, Event):
            raise SnapshotError("The snapshot holds something else where an event belongs")
        return event

    def head(self, head: Any, saved_at: float, fork: bool) -> None:
        if not isinstance(head, dict):
            raise SnapshotError("The snapshot has no head")
        if head.get("v") != FORMAT_VERSION:
            raise SnapshotVersionError(
                f"The snapshot has format version {_brief(head.get('v'))}; this is {FORMAT_VERSION}"
            )
        broker = self.broker
        broker.sequence = 0 if fork else _int(head["seq"])
        broker.delivery_ids = _int(head["ids"])
        broker.numbers = _int(head["nums"])
        broker.started = bool(head["started"])
        broker.asked = bool(head["asked"])
        broker.timeout = _time(head["timeout"])
        broker.remaining = _time(head["remaining"])
        broker.due = _time(head["due"])
        if broker.timeout is None and (broker.due is not None or broker.remaining is not None):
            raise SnapshotError("The snapshot has a time limit's end and no time limit")
        if fork and broker.due is not None:
            broker.due = broker.clock.now() + max(0.0, broker.due - saved_at)
        if "outcome" in head:
            event = self.event(head["event"])
            if not isinstance(event, StopEvent):
                raise SnapshotError("The snapshot's outcome is no StopEvent")
            broker.outcome = Outcome(str(head["outcome"]), event, None)

    def buffered(self, key: str) -> None:
        part = self.parts[key]
        number = _number(key)
        self.loose[number] = Buffered(number, str(part["i"]), self.event(part["e"]), None)

    def held(self, number: int) -> Buffered:
        """Take an event that a ledger holds."""
        item = self.loose.pop(number)
        self.broker.buffers.hold(item)
        return item

    def delivery(self, key: str, saved_at: float, fork: bool) -> None:
        part = self.parts[key]
        broker = self.broker
        if part["s"] not in broker.queues:
            raise SnapshotError(f"The snapshot names a step that does not exist: {part['s']}")
        delivery = Delivery(_number(key), part["s"], self.event(part["e"]), _int(part["q"]))
        if delivery.id > broker.delivery_ids:
            raise SnapshotError("The snapshot's delivery ids do not fit its counters")
        delivery.status = part["st"]
        if delivery.status not in (QUEUED, RUNNING, PARKED, READY, BACKOFF):
            raise SnapshotError("The snapshot holds a delivery of unknown status")
        delivery.attempt = _int(part["a"])
        delivery.failures = _int(part["f"])
        delivery.lost = _int(part["l"])
        delivery.first_started = _time(part["t"])
        delivery.due = _time(part["u"])
        if fork:
            shift = broker.clock.now() - saved_at
            if delivery.first_started is not None:
                delivery.first_started += shift
            if delivery.due is not None:
                delivery.due += shift
        for buffer_id, results in part.get("c", {}).items():
            delivery.ensure_ledger().collects[buffer_id] = [
                None if numbers is None else [self.held(number) for number in numbers] for numbers in results
            ]
        number = 0
        while (found := self.parts.get(f"a/{delivery.id}/{number}")) is not None:
            answer = TIMED_OUT if found["e"] is None else self.event(found["e"])
            delivery.ensure_ledger().answer(str(found["i"]), _int(found["n"]), answer)
            number += 1
        page = 0
        while (digests := self.parts.get(f"x/{delivery.id}/{page}")) is not None:
            delivery.effects = (delivery.effects or bytearray()) + base64.b64decode(digests, validate=True)
            page += 1
        if delivery.effects is not None and len(delivery.effects) % EFFECT_SIZE:
            raise SnapshotError("The snapshot's effects are torn")
        if delivery.status == RUNNING and not fork:
            delivery.lost += 1
        broker.deliveries[delivery.id] = delivery
        self.restored.append(delivery)

    def waiter(self, key: str, saved_at: float, fork: bool) -> None:
        part = self.parts[key]
        broker = self.broker
        event_type = None if part["t"] is None else self.names.lookup(str(part["t"]))
        if event_type is not None and not issubclass(event_type, Event):
            raise SnapshotError("The snapshot waits for something that is no event")
        due = _time(part["u"])
        if fork and due is not None:
            due += broker.clock.now() - saved_at
        requirements = self.decode(part["r"])
        prompt = None if part["p"] is None else self.event(part["p"])
        waiter = Waiter(
            _number(key),
            str(part["id"]),
            event_type,
            dict(requirements),
            prompt,
            due,
            broker.deliveries[_int(part["d"])],
            _int(part["n"]),
        )
        broker.waits.add(waiter)

    def place(self) -> None:
        """Put the restored deliveries where they belong, now that their waiters are known."""
        broker = self.broker
        for delivery in self.restored:
            if delivery.lost >= MAX_LOST_EXECUTIONS:
                broker.poisoned.append(delivery)
            elif delivery.status == PARKED and delivery.waiters:
                broker.parked += 1
            elif delivery.status == BACKOFF and delivery.due is not None:
                broker.arm(delivery.due, delivery)
            else:
                delivery.status = QUEUED
                broker.requeue(delivery)
        for waiter in broker.waits:
            if waiter.due is not None:
                broker.arm(waiter.due, waiter)


def _int(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise SnapshotError("The snapshot holds something else where a count belongs")
    return value


_FARTHEST = 200e9
"""Seconds, to the year 8307: what is later could not be written as a date any more."""


def _time(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not -_FARTHEST < value < _FARTHEST:
        raise SnapshotError("The snapshot holds something else where a time belongs")
    return float(value)


def _brief(value: Any) -> str:
    return str(value) if type(value) is int else type(value).__name__
