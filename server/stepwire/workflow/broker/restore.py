"""Fill a new broker from the parts of a snapshot."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from stepwire.workflow.broker import parts as keys
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.delivery import (
    BACKOFF,
    MAX_LOST_EXECUTIONS,
    PARKED,
    QUEUED,
    READY,
    RUNNING,
    Delivery,
    Waiter,
)
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer, Buffered, Withdrawn
from stepwire.workflow.broker.outcome import Outcome
from stepwire.workflow.broker.snapshot import FORMAT_VERSION
from stepwire.workflow.codec.decoder import fields_from_tagged, from_tagged
from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SnapshotError, SnapshotVersionError
from stepwire.workflow.events import Event, StopEvent

__all__ = ["CountLost", "PartsReader", "one_more", "restore"]

DecodeValue = Callable[[Any], Any]
CountLost = Callable[[int], int]
"""Gives how many executions of a delivery that was in progress count as lost, from how many did before."""


def one_more(lost: int) -> int:
    """Count an execution that was lost to a crash."""
    return lost + 1


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
    count_lost: CountLost = one_more,
) -> None:
    """Fill a new broker from parts (parsed JSON).

    The same run goes on with its due times, and what ran when it was saved was lost to a crash; a fork gets the time
    that was left, and loses nothing. Raises SnapshotError and its kinds, naming the part.
    """

    def decode_default(value: Any) -> Any:
        return from_tagged(value, names, validate=validate)

    reader = PartsReader(broker, parts, names, decode_value or decode_default)
    key = keys.HEAD
    try:
        reader.head(parts.get(keys.HEAD), saved_at, fork)
        if with_state:
            key = keys.STATE
            tagged = {name: value for part, value in parts.items() if (name := keys.state_name(part)) is not None}
            values, own = fields_from_tagged(tagged, names, validate=validate)
            broker.store.load_values(values, own=own, validate=validate)
            broker.store.version = _int(parts[keys.HEAD]["sv"])
        for number in keys.numbers_of(parts, keys.BUFFERED):
            key = keys.buffered(number)
            reader.buffered(number, parts[key])
        for number in keys.numbers_of(parts, keys.DELIVERY):
            key = keys.delivery(number)
            reader.delivery(number, parts[key], saved_at, None if fork else count_lost)
        for item in reader.loose.values():
            broker.buffers.add(item)
        for number in keys.numbers_of(parts, keys.WAITER):
            key = keys.waiter(number)
            reader.waiter(number, parts[key], saved_at, fork)
    except SnapshotError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SnapshotError(f"The snapshot is malformed at part '{key[:40]}'") from error
    reader.place()


class PartsReader:
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
        """Return the event that a value is. SnapshotError for anything else."""
        event = self.decode(value)
        if not isinstance(event, Event):
            raise SnapshotError("The snapshot holds something else where an event belongs")
        return event

    def head(self, head: Any, saved_at: float, fork: bool) -> None:
        """Read the counters, clocks and outcome."""
        if not isinstance(head, dict):
            raise SnapshotError("The snapshot has no head")
        if head.get("v") != FORMAT_VERSION:
            raise SnapshotVersionError(
                f"The snapshot has format version {_brief(head.get('v'))}; this is {FORMAT_VERSION}"
            )
        broker = self.broker
        broker.sequence = 0 if fork else _int(head["seq"])
        broker.work.delivery_ids = _int(head["ids"])
        broker.numbers = _int(head["nums"])
        broker.started = bool(head["started"])
        broker.asked = bool(head["asked"])
        limit = broker.limit
        limit.seconds = _time(head["timeout"])
        limit.remaining = _time(head["remaining"])
        limit.due = _time(head["due"])
        if limit.seconds is None and (limit.due is not None or limit.remaining is not None):
            raise SnapshotError("The snapshot has a time limit's end and no time limit")
        if fork and limit.due is not None:
            limit.due = broker.clock.now() + max(0.0, limit.due - saved_at)
        if "outcome" in head:
            event = self.event(head["event"])
            if not isinstance(event, StopEvent):
                raise SnapshotError("The snapshot's outcome is no StopEvent")
            broker.outcome = Outcome(str(head["outcome"]), event, None)

    def answer(self, part: Any) -> Answer | Withdrawn:
        """Return what a wait came to."""
        if "w" in part:
            return Withdrawn(None if part["w"] is None else self.event(part["w"]))
        return TIMED_OUT if part["e"] is None else self.event(part["e"])

    def buffered(self, number: int, part: Any) -> None:
        """Read a collected event; a ledger may hold it."""
        self.loose[number] = Buffered(number, str(part["i"]), self.event(part["e"]), None)

    def held(self, number: int) -> Buffered:
        """Take an event that a ledger holds."""
        item = self.loose.pop(number)
        self.broker.buffers.hold(item)
        return item

    def delivery(self, number: int, part: Any, saved_at: float, count_lost: CountLost | None) -> None:
        """Read a delivery with its ledger. What ran when it was saved was lost, unless this is a fork (None)."""
        broker, fork = self.broker, count_lost is None
        if part["s"] not in broker.queues:
            raise SnapshotError(f"The snapshot names a step that does not exist: {part['s']}")
        delivery = Delivery(number, part["s"], self.event(part["e"]), _int(part["q"]))
        if delivery.id > broker.work.delivery_ids:
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
        index = 0
        while (found := self.parts.get(keys.answer(number, index))) is not None:
            delivery.ensure_ledger().answer(str(found["i"]), _int(found["n"]), self.answer(found))
            index += 1
        page = 0
        while (digests := self.parts.get(keys.effects(number, page))) is not None:
            delivery.effects = (delivery.effects or bytearray()) + base64.b64decode(digests, validate=True)
            page += 1
        if delivery.effects is not None and len(delivery.effects) % keys.EFFECT_SIZE:
            raise SnapshotError("The snapshot's effects are torn")
        if delivery.status == RUNNING and count_lost is not None:
            delivery.lost = count_lost(delivery.lost)
        broker.deliveries[delivery.id] = delivery
        self.restored.append(delivery)

    def waiter(self, number: int, part: Any, saved_at: float, fork: bool) -> None:
        """Read an open waiter of a delivery."""
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
            number,
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
        broker, work = self.broker, self.broker.work
        for delivery in self.restored:
            if delivery.lost >= MAX_LOST_EXECUTIONS:
                work.poisoned.append(delivery)
            elif delivery.status == PARKED and delivery.waiters:
                work.parked += 1
            elif delivery.status == BACKOFF and delivery.due is not None:
                work.arm(delivery.due, delivery)
            else:
                work.requeue(delivery)
        for waiter in broker.waits:
            if waiter.due is not None:
                work.arm(waiter.due, waiter)


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
