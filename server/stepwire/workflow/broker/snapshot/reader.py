"""Read the parts of a snapshot into a new broker: what each part says, and what it may not say."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic_core import to_json

from stepwire.workflow.broker.broker import SLICE, Broker
from stepwire.workflow.broker.children.child import Child, ChildCall, ChildOutcome
from stepwire.workflow.broker.children.sends import SentEvents
from stepwire.workflow.broker.deliveries.delivery import (
    BACKOFF,
    PARKED,
    QUEUED,
    READY,
    RUNNING,
    Delivery,
    Lineage,
    Waiter,
)
from stepwire.workflow.broker.deliveries.executions import AttemptFailure
from stepwire.workflow.broker.deliveries.fan_in import OpenStream
from stepwire.workflow.broker.deliveries.losses import poison
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer, Buffered, OwnForm, Withdrawn
from stepwire.workflow.broker.outcome import COMPLETED, Outcome
from stepwire.workflow.broker.snapshot import parts as keys
from stepwire.workflow.broker.snapshot.former_names import FormerNames
from stepwire.workflow.broker.snapshot.writer import FORMAT_VERSION
from stepwire.workflow.broker.waits.default_names import current_buffer_id, current_waiter_id
from stepwire.workflow.codec.decoder import fields_from_tagged
from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SnapshotError, SnapshotVersionError
from stepwire.workflow.events import Event, StopEvent

__all__ = ["CountLost", "DecodeValue", "PartsReader", "can_retry", "one_more"]

DecodeValue = Callable[[Any], Any]
CountLost = Callable[[int], int]
"""Gives how many executions of a delivery that was in progress count as lost, from how many did before."""


def one_more(lost: int) -> int:
    """Count an execution that was lost to a crash."""
    return lost + 1


def can_retry(head: Mapping[str, Any]) -> bool:
    """Tell whether another run can go on from a snapshot with this head: one of before the end, or one that kept all.

    A run that has completed left nothing, and neither did one that a limit of the server ended.
    """
    return "outcome" not in head or "left" in head


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
        self.fresh = False
        """Whether retry budgets and the time limit begin anew."""
        self.failed = 0
        """The delivery that a retried run failed with; 0 if there is none."""
        self._count = 0
        self._former = FormerNames.of(names.former(), broker.routing.former)

    def pause(self) -> Iterator[None]:
        """Count one more thing that was read, and let other work go on after each slice."""
        self._count += 1
        if self._count % SLICE == 0:
            yield

    def event(self, value: Any) -> Event:
        """Return the event that a value is. SnapshotError for anything else."""
        event = self.decode(value)
        if not isinstance(event, Event):
            raise SnapshotError("The snapshot holds something else where an event belongs")
        return event

    def head(self, head: Any, saved_at: float, fork: bool, retry_of: str = "") -> None:
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
        broker.work.numbers = _int(head["nums"])
        broker.started = bool(head["started"])
        broker.asked = bool(head["asked"])
        broker.questions = _int(head.get("qs", int(broker.asked)))  # older snapshots do not count them
        limit = broker.limit
        limit.seconds = _time(head["timeout"])
        limit.remaining = _time(head["remaining"])
        limit.due = _time(head["due"])
        if limit.seconds is None and (limit.due is not None or limit.remaining is not None):
            raise SnapshotError("The snapshot has a time limit's end and no time limit")
        if fork and limit.due is not None:
            limit.due = broker.clock.now() + max(0.0, limit.due - saved_at)
        if self.fresh:
            limit.set(limit.seconds)
        origins = tuple((str(run_id), _int(last)) for run_id, last in head.get("origins", ()))
        if retry_of:
            if not can_retry(head):
                raise SnapshotError("The run left nothing in progress that a retry could go on with")
            self.failed = _int(head.get("left", 0))
            broker.origins = self._origins(origins, retry_of)
        elif not fork:
            broker.origins = origins
        if (before := head.get("ids_before")) and (children := broker.children) is not None:
            children.chosen.before.update(map(str, before))
        if not fork and (told := head.get("kids")) is not None and (children := broker.children) is not None:
            children.total = _int(told[0])
            children.ended = dict(zip(children.ended, map(_int, told[1]), strict=True))
        if "outcome" in head and not retry_of:
            event = self.event(head["event"])
            if not isinstance(event, StopEvent):
                raise SnapshotError("The snapshot's outcome is no StopEvent")
            broker.outcome = Outcome(str(head["outcome"]), event, None)

    def _origins(self, origins: tuple[tuple[str, int], ...], retry_of: str) -> tuple[tuple[str, int], ...]:
        """Return whose deliveries a retry goes on with: only the runs that one of its deliveries is of."""
        numbers = list(keys.numbers_of(self.parts, keys.DELIVERY))
        found: list[tuple[str, int]] = []
        first = 0
        for run_id, last in (*origins, (retry_of, self.broker.work.delivery_ids)):
            if any(first < number <= last for number in numbers):
                found.append((run_id, last))
            first = last
        return tuple(found)

    def state(self, validate: bool) -> None:
        """Read the state; `validate` says whether values pass the validators of their fields."""
        tagged = {name: value for part, value in self.parts.items() if (name := keys.state_name(part)) is not None}
        values, own = fields_from_tagged(tagged, self.names, validate=validate)
        store = self.broker.store
        store.load_values(values, own=own, validate=validate)
        store.version = _int(self.parts[keys.HEAD]["sv"])

    def pass_over(self, part: Any) -> None:
        """Pass over a delivery that an ended run left: what it collected is used up, as if it were through."""
        for results in part.get("c", {}).values():
            for numbers in results:
                for number in numbers or ():
                    self.loose.pop(number, None)

    def _begin_anew(self, delivery: Delivery) -> None:
        """Give a delivery its whole retry budget. The one that the run failed with begins as its retry would (S2).

        If that one last waited in vain, it waits again: the answer that made it fail would make it fail again.
        """
        delivery.failures = delivery.lost = 0
        delivery.first_started = delivery.due = None
        if delivery.id == self.failed:
            delivery.effects = None
            broker_undos = self.broker.work.undos
            if delivery.undo is not None and broker_undos is not None:
                broker_undos.forget(delivery)
            ledger = delivery.ledger
            if ledger is not None and ledger.answers:
                waiter_id, index = ledger.answers[-1]
                if ledger.waits[waiter_id][index] is TIMED_OUT:
                    ledger.answers.pop()
                    del ledger.waits[waiter_id][index]

    def undone(self, part: Any) -> dict[str, Any]:
        """Return what values of the state were before a delivery changed them."""
        found: dict[str, Any] = {}
        for name, item in part.items():
            if isinstance(item, dict) and item.keys() == {"$json"}:
                found[name] = OwnForm(self.decode(item["$json"]))
            else:
                found[name] = self.decode(item)
        return found

    def answer(self, part: Any) -> Answer | Withdrawn:
        """Return what a wait came to."""
        if "w" in part:
            return Withdrawn(None if part["w"] is None else self.event(part["w"]))
        return TIMED_OUT if part["e"] is None else self.event(part["e"])

    def stream(self, number: int, part: Any) -> None:
        """Read an open stream."""
        fan_in, source = self.broker.fan_in, self.broker.routing.current(part["s"])
        if fan_in is None or source not in self.broker.queues:
            raise _no_step(source)
        stream = OpenStream(number, source, tuple(map(_int, part["p"])))
        stream.released = [str(step) for step in part["r"]]
        fan_in.streams[number] = stream

    def buffered(self, number: int, part: Any) -> None:
        """Read a collected event; a ledger may hold it."""
        self.loose[number] = Buffered(number, self._buffer_id(part["i"]), self.event(part["e"]), None)

    def _buffer_id(self, saved: Any) -> str:
        return current_buffer_id(str(saved), self.names, self.broker.routing.current)

    def held(self, number: int) -> Buffered:
        """Take an event that a ledger holds."""
        item = self.loose.pop(number)
        self.broker.buffers.hold(item)
        return item

    def delivery(self, number: int, part: Any, saved_at: float, count_lost: CountLost | None) -> None:
        """Read a delivery with its ledger. What ran when it was saved was lost, unless this is a fork (None)."""
        broker, fork = self.broker, count_lost is None
        step = broker.routing.current(part["s"])
        if step not in broker.queues:
            raise _no_step(step)
        delivery = Delivery(number, step, self.event(part["e"]), _int(part["q"]))
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
        delivery.since = _time(part.get("w"))
        delivery.failure = AttemptFailure.restored(part.get("x"))
        if (failed_at := _time(part.get("xt"))) is not None:
            delivery.last_failure = None, failed_at
        if (lineage := part.get("g")) is not None:
            delivery.lineage = Lineage(tuple(map(_int, lineage[0])), {str(k): _int(v) for k, v in lineage[1].items()})
        if fork:
            shift = broker.clock.now() - saved_at
            delivery.since = broker.clock.now()
            if delivery.first_started is not None:
                delivery.first_started += shift
            if delivery.due is not None:
                delivery.due += shift
        for buffer_id, results in part.get("c", {}).items():
            delivery.ensure_ledger().collects[self._buffer_id(buffer_id)] = [
                None if numbers is None else [self.held(number) for number in numbers] for numbers in results
            ]
        index = 0
        while (found := self.parts.get(keys.answer(number, index))) is not None:
            delivery.ensure_ledger().answer(
                current_waiter_id(str(found["i"]), self.names), _int(found["n"]), self.answer(found)
            )
            index += 1
        page = 0
        while (digests := self.parts.get(keys.effects(number, page))) is not None:
            delivery.effects = (delivery.effects or bytearray()) + base64.b64decode(digests, validate=True)
            page += 1
        if delivery.effects is not None and len(delivery.effects) % keys.EFFECT_SIZE:
            raise SnapshotError("The snapshot's effects are torn")
        if delivery.effects is not None:
            delivery.former = FormerNames.joined(part.get("n"), self._former)
        if (undone := self.parts.get(keys.undo(number))) is not None:
            delivery.undo = self.undone(undone)
            delivery.undo_saved = True
            broker.undos.watch(delivery)
        if self.fresh:
            self._begin_anew(delivery)
        if delivery.status == RUNNING and count_lost is not None:
            delivery.lost = count_lost(delivery.lost)
            if broker.work.lost is None:
                broker.work.lost = []
            broker.work.lost.append(delivery)
        broker.deliveries[delivery.id] = delivery
        if delivery.failures:
            broker.work.note_failing(delivery)
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
            current_waiter_id(str(part["id"]), self.names),
            event_type,
            dict(requirements),
            prompt,
            due,
            broker.deliveries[_int(part["d"])],
            _int(part["n"]),
        )
        broker.waits.add(waiter)

    def child(self, number: int, part: Any, fork: bool) -> None:
        """Read a run that a step has started. Another run has only those that completed: it starts the rest anew."""
        children = self.broker.children
        outcome = part.get("o")
        if children is None:
            return
        if fork and (outcome is None or outcome[0] != COMPLETED):
            children.chosen.before.update([str(part["id"])] if "id" in part else ())
            return
        data = json.dumps(part["i"]).encode() if "i" in part else b""
        labels = {str(name): str(value) for name, value in part.get("l", {}).items()}
        timeout = _time(part.get("t"))
        timeout = math.inf if timeout is not None and timeout < 0 else timeout
        chosen, before = str(part.get("id", "")), str(part.get("f", ""))
        call = ChildCall(str(part["w"]), data, chosen, labels, str(part["p"]), timeout, before)
        child = Child(number, str(part["r"]), _int(part["d"]), call, bytes.fromhex(part["g"]))
        child.state, child.step = str(part["st"]), self.broker.routing.current(str(part.get("s", "")))
        child.awaited, child.cancelling = bool(part.get("a")), bool(part.get("k"))
        if outcome is not None:
            event = to_json(part["e"]) if "e" in part else b""
            child.outcome = ChildOutcome(str(outcome[0]), event, str(outcome[1]), str(outcome[2]))
        elif "m" in part:
            child.sent = SentEvents.read(part["m"], part.get("n", ()))
        delivery = self.broker.deliveries.get(child.delivery)
        if delivery is not None or not fork:
            children.restore(child, delivery)
            if fork:
                children.total += 1
                children.ended[COMPLETED] += 1

    def place(self) -> Iterator[None]:
        """Put the restored deliveries where they belong, now that their waiters are known."""
        broker, work = self.broker, self.broker.work
        children = broker.made_children
        if broker.fan_in is not None:
            broker.fan_in.restored()
        for delivery in self.restored:
            if not poison(work, delivery):
                if delivery.status == PARKED and (
                    delivery.waiters or (children is not None and children.awaited_by(delivery))
                ):
                    work.parked += 1
                elif delivery.status == BACKOFF and delivery.due is not None:
                    work.arm(delivery.due, delivery)
                else:
                    work.requeue(delivery)
            yield from self.pause()
        for waiter in broker.waits:
            if waiter.due is not None:
                work.arm(waiter.due, waiter)
            yield from self.pause()


def _no_step(step: str) -> SnapshotError:
    hint = f"if it was renamed, the new one says so: @step(aliases=[{json.dumps(step, ensure_ascii=False)}])"
    return SnapshotError(f"The snapshot names a step that does not exist: {step}; {hint}")


def _int(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise SnapshotError("The snapshot holds something else where a count belongs")
    return value


_FARTHEST = 200e9
"""Seconds, to the year 8307: what is later could not be written as a date any more."""


def _time(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or math.isnan(value):
        raise SnapshotError("The snapshot holds something else where a time belongs")
    return float(min(max(value, -_FARTHEST), _FARTHEST))


def _brief(value: Any) -> str:
    return str(value) if type(value) is int else type(value).__name__
