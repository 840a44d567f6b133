"""The parts of a snapshot, encoded: all of them, or those that changed.

A snapshot is a dict of parts, key to JSON; `parts` has the grammar of the keys. Only what lives is in it: nothing grows
with history (S17), except that a step which never returns keeps what it was answered.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic_core import to_json

from stepwire.workflow.broker import parts as keys
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.delivery import PARKED, RUNNING, Delivery, Waiter
from stepwire.workflow.broker.journal import Changes
from stepwire.workflow.broker.ledger import Withdrawn
from stepwire.workflow.codec.encoder import encode
from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.events import Event

__all__ = [
    "FORMAT_VERSION",
    "EncodeValue",
    "TypeMark",
    "all_parts",
    "part_keys",
    "registry_encoder",
    "take_changes",
]

FORMAT_VERSION: Final = 1
"""The version of the parts that this code writes."""

EncodeValue = Callable[[Any], bytes]


def take_changes(broker: Broker, *, everything: bool = False) -> Changes:
    """Take what changed since the last call, encoded; with `everything`, all parts whether they changed or not.

    A state value that was damaged in place and cannot be saved any more fails the run, naming the keys; the value
    last committed stays.
    """
    journal = broker.journal
    assert journal is not None
    broker.tick()  # bodies that were about to wait now do
    if everything:
        journal.dirty.update(dict.fromkeys(part_keys(broker)))
        journal.dirty.update((keys.state(name), None) for name in broker.store.saved())
    state, damaged = broker.encode_state()
    if damaged:
        broker.fail_damaged(damaged)
    for number, first in journal.effects.items():
        delivery = broker.deliveries.get(number)
        if delivery is not None and delivery.effects:
            for page in keys.pages_of(len(delivery.effects))[first:]:
                journal.dirty[keys.effects(number, page)] = None
    ahead = journal.ahead or {}
    dirty, entries = journal.take()
    if dirty or entries:
        dirty[keys.HEAD] = None  # every transition moves a counter
    parts: dict[str, bytes] = {}
    deleted: list[str] = []
    encode_value = registry_encoder(journal.names)
    for key in dirty:
        name = keys.state_name(key)
        if name is not None:
            part = state.get(key)
            if part is None and name in broker.store.saved():
                continue
        else:
            part = ahead.get(key) or _part(broker, key, encode_value)
        if part is None:
            deleted.append(key)
        else:
            parts[key] = part
    return Changes(parts, deleted, entries)


def encode_ahead(broker: Broker, parts: Iterable[str]) -> None:
    """Encode parts of the next commit that are unlikely to change before it: deliveries that wait for a worker.

    A host calls this for a few parts at a time, so that a large commit does not starve the event loop.
    """
    journal = broker.journal
    assert journal is not None
    if journal.ahead is None:
        journal.ahead = {}
    encode_value = registry_encoder(journal.names)
    for key in parts:
        kind, _, number, _ = keys.parse(key)
        if kind == keys.DELIVERY and (delivery := broker.deliveries.get(number)) is not None and not delivery.attempt:
            journal.ahead[key] = _delivery_part(delivery, delivery.status, encode_value)


def all_parts(
    broker: Broker,
    encode_value: EncodeValue,
    *,
    with_state: bool = True,
    without: Delivery | None = None,
    known: Mapping[str, bytes] = {},
) -> dict[str, bytes]:
    """Return every part of a broker.

    Args:
        broker: The broker.
        encode_value: Gives a value as JSON.
        with_state: Whether the values of the state are among them.
        without: A delivery to leave out.
        known: Parts that are encoded already.
    """
    parts: dict[str, bytes] = {}
    for key in part_keys(broker, without):
        part = known.get(key) or _part(broker, key, encode_value)
        if part is not None:
            parts[key] = part
    if with_state:
        parts.update(_state_parts(broker, encode_value))
    return parts


def _state_parts(broker: Broker, encode_value: EncodeValue) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    refusals: dict[str, SerializationError] = {}
    for name, value in broker.store.saved().items():
        try:
            parts[keys.state(name)] = encode_value(value)
        except SerializationError as refused:
            refusals[name] = refused
    written = broker.store.own_json(refusals) if refusals else {}
    for name, refusal in refusals.items():
        if name not in written:
            raise refusal
        parts[keys.state(name)] = b'{"$json":%b}' % encode_value(written[name])
    return parts


def part_keys(broker: Broker, without: Delivery | None = None) -> list[str]:
    """Return the keys of every part of a broker but the state's."""
    found = [keys.HEAD]
    left_out: set[int] = set()
    for delivery in broker.deliveries.values():
        if delivery is without:
            left_out = {item.number for item in delivery.collected()}
            continue
        found.append(keys.delivery(delivery.id))
        if delivery.effects:
            found += [keys.effects(delivery.id, page) for page in keys.pages_of(len(delivery.effects))]
        if delivery.ledger is not None:
            found += [keys.answer(delivery.id, number) for number in range(len(delivery.ledger.answers))]
    found += [keys.buffered(number) for number in broker.buffers.numbers() if number not in left_out]
    found += [keys.waiter(waiter.number) for waiter in broker.waits if waiter.delivery not in (None, without)]
    return found


def _part(
    broker: Broker,
    key: str,
    encode_value: EncodeValue,
) -> bytes | None:
    kind, _, number, item = keys.parse(key)
    if kind == keys.HEAD:
        return _head(broker, encode_value)
    if kind == keys.BUFFERED:
        found = broker.buffers.get(number)
        if found is None:
            return None
        event = found.encoded or encode_value(found.event)
        return b'{"i":%b,"e":%b}' % (to_json(found.buffer_id), event)
    if kind == keys.WAITER:
        waiter = broker.waits.get(number)
        return None if waiter is None else _waiter_part(waiter, encode_value)
    delivery = broker.deliveries.get(number)
    if delivery is None:
        return None
    if kind == keys.DELIVERY:
        return _delivery_part(delivery, _status(broker, delivery), encode_value)
    if kind == keys.ANSWER:
        return _answer_part(delivery, item, encode_value)
    if not delivery.effects:
        return None
    start = item * keys.EFFECT_PAGE_BYTES
    digests = bytes(delivery.effects[start : start + keys.EFFECT_PAGE_BYTES])
    return b'"%b"' % base64.b64encode(digests) if digests else None


def _head(broker: Broker, encode_value: EncodeValue) -> bytes:
    head: dict[str, Any] = {
        "v": FORMAT_VERSION,
        "seq": broker.sequence,
        "ids": broker.work.delivery_ids,
        "nums": broker.numbers,
        "sv": broker.store.version,
        "started": broker.started,
        "asked": broker.asked,
        "timeout": broker.limit.seconds,
        "remaining": broker.limit.remaining,
        "due": broker.limit.due,
    }
    data = to_json(head)
    if broker.outcome is None:
        return data
    event = broker.outcome.encoded or encode_value(broker.outcome.event)
    return b'%b,"outcome":%b,"event":%b}' % (data[:-1], to_json(broker.outcome.status), event)


def _status(broker: Broker, delivery: Delivery) -> str:
    """Return the status that a delivery is saved with: one that works beside its waits runs, and is lost in a crash."""
    execution, works = delivery.execution, broker.work.works
    if works is None or execution is None or delivery.status != PARKED:
        return delivery.status
    execution.beside = works(execution)
    return RUNNING if execution.beside else PARKED


def _delivery_part(delivery: Delivery, status: str, encode_value: EncodeValue) -> bytes:
    meta: dict[str, Any] = {
        "s": delivery.step,
        "q": delivery.sequence,
        "st": status,
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
    if isinstance(answer, Withdrawn):
        prompt = b"null" if answer.prompt is None else encode_value(answer.prompt)
        return b'{"i":%b,"n":%d,"e":null,"w":%b}' % (to_json(waiter_id), index, prompt)
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
