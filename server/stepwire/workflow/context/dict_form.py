"""The dict form of a context that 1.x reads and writes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.delivery import QUEUED, Delivery
from stepwire.workflow.broker.ledger import Buffered
from stepwire.workflow.broker.log.stream import EventStream
from stepwire.workflow.broker.snapshot.restore import restore
from stepwire.workflow.broker.snapshot.writer import TypeMark, all_parts
from stepwire.workflow.codec.names import QualifiedNames
from stepwire.workflow.errors import ContextSerdeError, SnapshotError, SnapshotVersionError, SnapshotWorkflowError
from stepwire.workflow.events import Event
from stepwire.workflow.state.serializers import BaseSerializer
from stepwire.workflow.state.store import InMemoryStateStore

_FORMAT = 1


def saved_form(
    broker: Broker,
    workflow: str,
    serializer: BaseSerializer,
    *,
    stepwise: bool,
    without: Delivery | None = None,
) -> dict[str, Any]:
    """Return a context as a JSON-able dict: the 1.x keys, and under `stepwire` what restores it.

    Args:
        broker: The broker of the context's run.
        workflow: The name of the workflow.
        serializer: Writes events and values.
        stepwise: Whether the context is stepwise.
        without: A delivery that counts as through.
    """

    def encode_value(value: Any) -> bytes:
        if isinstance(value, TypeMark):
            return json.dumps(QualifiedNames().name_of(value.type)).encode()
        return json.dumps(serializer.serialize(value)).encode()

    parts = all_parts(broker, encode_value, with_state=False, without=without)
    data = legacy_view(broker, serializer, stepwise, without=without)
    data["stepwire"] = {
        "format": _FORMAT,
        "workflow": workflow,
        "saved_at": broker.clock.now(),
        "parts": {key: json.loads(part) for key, part in parts.items()},
    }
    return data


def restore_form(broker: Broker, workflow: str, data: dict[str, Any], serializer: BaseSerializer) -> None:
    """Fill a new broker from what `saved_form` returned, or from a context that 1.x saved.

    Raises:
        ContextSerdeError: A key is missing.
        SnapshotError: It is malformed; SnapshotVersionError and SnapshotWorkflowError for a mismatch.
    """
    try:
        restore_legacy(broker, data, serializer, with_events="stepwire" not in data)
    except KeyError as error:
        raise ContextSerdeError(f"The saved context has no key {error}") from error
    own = data.get("stepwire")
    if own is None:
        return
    if not isinstance(own, dict):
        raise SnapshotError("The saved context is malformed")
    if own.get("format") != _FORMAT:
        raise SnapshotVersionError(f"The saved context has another format than {_FORMAT}")
    if own.get("workflow") != workflow:
        raise SnapshotWorkflowError(f"The saved context is of workflow {own.get('workflow')!r}, not {workflow!r}")
    parts, saved_at = own.get("parts"), own.get("saved_at")
    if not isinstance(parts, dict) or not isinstance(saved_at, int | float):
        raise SnapshotError("The saved context is malformed")
    restore(
        broker,
        parts,
        QualifiedNames(),
        saved_at=saved_at,
        fork=True,
        decode_value=serializer.deserialize,
        with_state=False,
    )


def legacy_view(
    broker: Broker, serializer: BaseSerializer, stepwise: bool, without: Delivery | None = None
) -> dict[str, Any]:
    """Return the 1.x keys of a context; what only grows with history stays empty (S17)."""
    queues: dict[str, list[str]] = {name: [] for name in broker.queues}
    in_progress: dict[str, list[str]] = {name: [] for name in broker.queues}
    for delivery in broker.deliveries.values():
        if delivery is without:
            continue
        place = queues if delivery.status == QUEUED else in_progress
        place[delivery.step].append(serializer.serialize(delivery.event))
    buffers: dict[str, dict[str, list[str]]] = {}
    for item in broker.buffers:
        cls = item.type
        by_type = buffers.setdefault(item.buffer_id, {})
        by_type.setdefault(f"{cls.__module__}.{cls.__qualname__}", []).append(serializer.serialize(item.give()))
    return {
        "state": broker.store.to_dict(serializer),
        "streaming_queue": "[]",
        "queues": {name: json.dumps(events) for name, events in queues.items()},
        "stepwise": stepwise,
        "event_buffers": buffers,
        "in_progress": in_progress,
        "accepted_events": [],
        "broker_log": [],
        "is_running": broker.started and broker.outcome is None,
    }


def restore_legacy(broker: Broker, data: dict[str, Any], serializer: BaseSerializer, *, with_events: bool) -> None:
    """Fill a new broker from the 1.x keys; KeyError names a missing one.

    `with_events` takes queues, buffers and events in progress too: those run again.
    """
    if "globals" in data and "state" not in data:
        values = {key: serializer.deserialize(value) for key, value in data["globals"].items()}
        broker.store.load_values(values, validate=True)
    else:
        restored: InMemoryStateStore[Any] = InMemoryStateStore.from_dict(data["state"], serializer)
        broker.store.take_over(restored)
    queues, in_progress, buffers = data["queues"], data["in_progress"], data["event_buffers"]
    running = bool(data["is_running"])
    for key in ("streaming_queue", "stepwise", "accepted_events", "broker_log"):
        data[key]
    if not with_events:
        return
    broker.started = running
    try:
        for again, source in ((True, in_progress), (False, queues)):
            for name, events in source.items():
                if name not in broker.queues:
                    continue
                for text in json.loads(events) if isinstance(events, str) else events:
                    event = _event(serializer.deserialize(text))
                    broker.work.delivery_ids += 1
                    delivery = Delivery(broker.work.delivery_ids, name, event, 0)
                    delivery.attempt = 1 if again else 0
                    broker.deliveries[delivery.id] = delivery
                    broker.work.requeue(delivery)
        for buffer_id, by_type in buffers.items():
            for texts in by_type.values():
                for text in texts:
                    broker.work.numbers += 1
                    event = _event(serializer.deserialize(text))
                    broker.buffers.add(Buffered(broker.work.numbers, buffer_id, event, None))
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, ContextSerdeError):
            raise
        raise SnapshotError("The saved context is malformed") from error


def _event(value: Any) -> Event:
    if not isinstance(value, Event):
        raise SnapshotError("The saved context holds something else where an event belongs")
    return value


class StreamingQueue:
    """The stream of a run with the reading methods of an asyncio queue, as 1.x had it."""

    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self._position = 0

    def qsize(self) -> int:
        """Return how many events are there to read."""
        return len(self.stream.events) - self._position

    def empty(self) -> bool:
        """Tell whether there is nothing to read now."""
        return self.qsize() == 0

    async def get(self) -> Event:
        """Wait for the next event."""
        if not await self.stream.wait_beyond(self._position):
            raise asyncio.QueueEmpty
        return self.get_nowait()

    def get_nowait(self) -> Event:
        """Return the next event; asyncio.QueueEmpty when there is none."""
        if self.empty():
            raise asyncio.QueueEmpty
        self._position += 1
        return self.stream.give(self._position - 1)
