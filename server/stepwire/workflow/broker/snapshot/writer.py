"""The parts of a snapshot, encoded: all of them, or those that changed.

A snapshot is a dict of parts, key to JSON; `parts` has the grammar of the keys. Only what lives is in it: nothing grows
with history (S17), except that a step which never returns keeps what it was answered.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic_core import to_json

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.children.child import ABANDON, Child
from stepwire.workflow.broker.deliveries.delivery import PARKED, RUNNING, Delivery, Waiter
from stepwire.workflow.broker.ledger import Encoded, OwnForm, Withdrawn
from stepwire.workflow.broker.log.entries import Changes
from stepwire.workflow.broker.outcome import damage
from stepwire.workflow.broker.progress import tick
from stepwire.workflow.broker.snapshot import parts as keys
from stepwire.workflow.broker.waits.parking import is_unsure
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
    if broker.partial is not None:
        broker.complete()
    tick(broker)  # bodies that were about to wait now do
    if everything:
        journal.dirty.update(dict.fromkeys(part_keys(broker)))
        if broker.store.made:
            journal.dirty.update((keys.state(name), None) for name in broker.store.saved())
    state, damaged = journal.encode_state()
    if (undos := broker.work.undos) is not None and undos.notes:
        written = {name: data for key, data in state.items() if (name := keys.state_name(key)) is not None}
        undos.changed_in_place(written)
        journal.dirty.update((keys.undo(number), None) for number in undos.unsaved())
    if damaged:
        broker.end(*damage(damaged)[:3])
    if journal.effects is not None:
        for number, first in journal.effects.items():
            delivery = broker.deliveries.get(number)
            if delivery is not None and delivery.effects:
                for page in keys.pages_of(len(delivery.effects))[first:]:
                    journal.dirty[keys.effects(number, page)] = None
    ready = state | journal.ahead if journal.ahead else state
    dirty, entries = journal.take()
    if dirty or entries:
        dirty[keys.HEAD] = None  # every transition moves a counter
    parts: dict[str, bytes] = {}
    deleted: list[str] = []
    encode_value = registry_encoder(journal.names)
    for key in dirty:
        part = ready.get(key) or _part(broker, key, encode_value)
        if part is not None:
            parts[key] = part
        elif (name := keys.state_name(key)) is None or name not in broker.store.saved():  # a damaged value stays
            deleted.append(key)
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
    broker.complete()
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
        if delivery.undo:
            found.append(keys.undo(delivery.id))
        if delivery.effects:
            found += [keys.effects(delivery.id, page) for page in keys.pages_of(len(delivery.effects))]
        if delivery.ledger is not None:
            found += [keys.answer(delivery.id, number) for number in range(len(delivery.ledger.answers))]
    if (children := broker.made_children) is not None:
        found += [keys.child(child.number) for child in children if without is None or child.delivery != without.id]
    if broker.fan_in is not None:
        found += [keys.stream(number) for number in broker.fan_in.streams]
    if (buffers := broker.made_buffers) is not None:
        found += [keys.buffered(number) for number in buffers.numbers() if number not in left_out]
    if waits := broker.made_waits:
        found += [keys.waiter(waiter.number) for waiter in waits if waiter.delivery not in (None, without)]
    return found


def _part(
    broker: Broker,
    key: str,
    encode_value: EncodeValue,
) -> bytes | None:
    if key == keys.HEAD:
        return _head(broker, encode_value)
    if key[0] == keys.DELIVERY:  # as most are
        delivery = broker.deliveries.get(keys.number_of(key))
        return None if delivery is None else _delivery_part(delivery, _status(broker, delivery), encode_value)
    kind, _, number, item = keys.parse(key)
    if kind == keys.BUFFERED:
        found = broker.buffers.get(number)
        if found is None:
            return None
        event = found.encoded or encode_value(found.give())
        return b'{"i":%b,"e":%b}' % (to_json(found.buffer_id), event)
    if kind == keys.WAITER:
        waiter = broker.waits.get(number)
        return None if waiter is None else _waiter_part(waiter, encode_value)
    if kind == keys.STREAM:
        stream = None if broker.fan_in is None else broker.fan_in.streams.get(number)
        return None if stream is None else to_json({"s": stream.source, "p": stream.path, "r": stream.released})
    if kind == keys.CHILD:
        child = None if broker.made_children is None else broker.made_children.get(number)
        return None if child is None else _child_part(child)
    delivery = broker.deliveries.get(number)
    if delivery is None:
        return None
    if kind == keys.UNDO:
        return _undo_part(broker, delivery, encode_value) if delivery.undo else None
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
        "nums": broker.work.numbers,
        "sv": broker.store.version,
        "started": broker.started,
        "asked": broker.asked,
        "qs": broker.questions,
        "timeout": broker.limit.seconds,
        "remaining": broker.limit.remaining,
        "due": broker.limit.due,
    }
    if broker.origins:
        head["origins"] = broker.origins
    if (children := broker.made_children) is not None:
        head["kids"] = [children.total, list(children.ended.values())]
        if children.chosen.before:
            head["ids_before"] = sorted(children.chosen.before)
    if broker.outcome is not None and broker.outcome.left is not None:
        head["left"] = broker.outcome.left
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
    if not is_unsure(broker.work, execution):
        return PARKED
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
        "w": delivery.since,
    }
    if delivery.lineage is not None:
        meta["g"] = delivery.lineage
    if delivery.failure is not None:
        meta["x"] = delivery.failure.saved()
    if delivery.last_failure is not None:
        meta["xt"] = delivery.last_failure[1]
    if delivery.former is not None and delivery.effects:
        meta["n"] = delivery.former
    if delivery.encoded is None:  # it was restored
        delivery.encoded = encode_value(delivery.event)
    fragments = [to_json(meta)[:-1], b',"e":', delivery.encoded]
    ledger = delivery.ledger
    if ledger is not None and ledger.collects:
        collects = {
            key: [None if items is None else [item.number for item in items] for items in results]
            for key, results in ledger.collects.items()
        }
        fragments += [b',"c":', to_json(collects)]
    fragments.append(b"}")
    return b"".join(fragments)


def _undo_part(broker: Broker, delivery: Delivery, encode_value: EncodeValue) -> bytes | None:
    """Encode what values were before a delivery changed them; a value that cannot be saved is left as it is now."""
    items: list[bytes] = []
    for name, before in (delivery.undo or {}).items():
        if isinstance(before, Encoded):
            data = before.data
        elif isinstance(before, OwnForm):
            data = b'{"$json":%b}' % encode_value(before.data)
        else:
            try:
                data = encode_value(before)
            except SerializationError:
                written = broker.store.own_json([name], {name: before})
                if name not in written:
                    continue
                data = b'{"$json":%b}' % encode_value(written[name])
        items.append(b"%b:%b" % (to_json(name), data))
    return b"{%b}" % b",".join(items) if items else None


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


def _child_part(child: Child) -> bytes:
    call, outcome = child.call, child.outcome
    meta: dict[str, Any] = {
        "r": child.run_id,
        "d": child.delivery,
        "g": child.digest.hex(),
        "st": child.state,
        "w": call.workflow,
        "p": call.close,
    }
    if child.awaited:
        meta["a"] = True
    if child.cancelling:
        meta["k"] = True
    if call.run_id:
        meta["id"] = call.run_id
    if call.close == ABANDON:
        meta["s"] = child.step
    if call.from_run:
        meta["f"] = call.from_run
    if call.labels:
        meta["l"] = dict(call.labels)
    if call.timeout is not None:
        meta["t"] = call.timeout if math.isfinite(call.timeout) else -1.0
    if outcome is not None:
        meta["o"] = [outcome.status, outcome.error, outcome.message]
    if child.sent is not None:
        meta["m"] = child.sent.saved()
    data = to_json(meta)[:-1]
    if child.sent is not None and child.sent.pending:
        data += b',"n":' + child.sent.saved_events()
    if call.data:
        data += b',"i":' + call.data
    if outcome is not None and outcome.event:
        data += b',"e":' + outcome.event
    return data + b"}"


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
