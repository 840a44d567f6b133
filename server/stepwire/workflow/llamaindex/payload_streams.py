"""Streams of events in saved contexts of LlamaIndex 2.x: lists under way, and what steps have collected of them.

Their payload names the streams by texts, ours by numbers. Their engine saves how much of a stream is in progress; ours
counts when it reads. What a step collects is one event of ours, and there an event with what belongs to it beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.delivery import Delivery, Lineage
from stepwire.workflow.broker.deliveries.fan_in import OpenStream
from stepwire.workflow.broker.ledger import Buffered
from stepwire.workflow.events import Event, StepFailedEvent
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.caught import own_failure, their_failure

__all__ = ["SavedStreams", "batch_fields", "collected_apart", "scope_path", "stream_fields"]

types: Any = installed.context_types
Write = Callable[[Event], str]
Read = Callable[[str], Event]


class SavedStreams:
    """The streams of a payload of theirs, taken over by a run of ours.

    Args:
        workflow: The workflow of theirs.
        broker: The broker of the run; it is new.
        snapshot: The payload.
        read: Reads an event.
    """

    def __init__(self, workflow: Any, broker: Broker, snapshot: Any, read: Read) -> None:
        self._configs = {name: config for name, (_, config) in installed.steps_of_theirs(workflow).items()}
        self._broker = broker
        self._read = read
        self._numbers: dict[str, int] = {}
        if broker.fan_in is not None:
            self._open(snapshot, installed.bindings_of(workflow))

    def _open(self, snapshot: Any, bindings: Mapping[str, tuple[str, str]]) -> None:
        work, fan_in = self._broker.work, self._broker.fan_in
        assert fan_in is not None
        for stream in sorted(snapshot.streams.values(), key=lambda each: len(each.scope_path)):
            work.numbers += 1
            self._numbers[stream.stream_id] = work.numbers
            fan_in.streams[work.numbers] = OpenStream(work.numbers, str(stream.source_step), self._scope(stream))
        for state in snapshot.collection_release_states.values():
            number, binding = self._numbers.get(state.stream_id), bindings.get(state.binding_id)
            if number is None or binding is None:
                continue
            if state.released:
                fan_in.streams[number].released.append(binding[1])
            for text in state.buffer if not state.released else ():
                self._collect(f"stream/{number}/{binding[1]}", text)
        for step, worker in snapshot.workers.items():
            for text in worker.static_collect_events:
                self._collect(f"each/{step}", text)

    def _collect(self, buffer_id: str, text: str) -> None:
        work = self._broker.work
        work.numbers += 1
        self._broker.buffers.add(Buffered(work.numbers, buffer_id, self._read(text), None))

    def _scope(self, item: Any) -> tuple[int, ...]:
        return tuple(self._numbers[name] for name in item.scope_path if name in self._numbers)

    def lineage(self, item: Any) -> Lineage | None:
        """Return where a saved piece of work belongs."""
        scope, recoveries = self._scope(item), dict(getattr(item, "recovery_counts", {}))
        return Lineage(scope, recoveries) if scope or recoveries else None

    def event(self, step: str, item: Any) -> Event:
        """Return the event of a saved piece of work."""
        if item.collection_release_payload is not None:
            events = [self._read(text) for text in item.collection_release_payload.events]
        elif item.bound_events:
            events = [self._read(item.bound_events[name]) for name, _ in self._configs[step].collect_params]
        else:
            event = self._read(item.event)
            catches = self._configs[step].role == "catch_error"
            return own_failure(event) if catches and isinstance(event, installed.events.StepFailedEvent) else event
        batch: Event = installed.events.CollectionReleaseEvent(events=events)
        return batch

    def count(self) -> None:
        """Count what is in progress of each stream, once all of it is there."""
        if self._broker.fan_in is not None:
            self._broker.fan_in.restored()


def stream_fields(workflow: Any, broker: Broker, write: Write) -> dict[str, Any]:
    """Return the open streams of a run as fields of their payload.

    Args:
        workflow: The workflow of theirs.
        broker: The broker of the run.
        write: Writes an event.
    """
    streams: dict[str, Any] = {}
    states: dict[str, Any] = {}
    bindings = installed.bindings_of(workflow)
    for stream in broker.fan_in or ():
        name = _name(stream.number)
        inside = [each for each in broker.fan_in or () if each.path and each.path[-1] == stream.number]
        works = [each for each in broker.deliveries.values() if _scope(each)[-1:] == (stream.number,)]
        accepting = []
        for binding, (source, target) in bindings.items():
            if source != stream.source:
                continue
            released = target in stream.released
            if not released:
                accepting.append(binding)
            states[f"{name}:{binding}"] = types.SerializedCollectionReleaseState(
                binding_id=binding,
                stream_id=name,
                released=released,
                buffer=[write(item.give()) for item in broker.buffers.all_of(f"stream/{stream.number}/{target}")],
            )
        streams[name] = types.SerializedCollectionStreamInstance(
            stream_id=name,
            source_step=stream.source,
            scope_path=[_name(number) for number in stream.path],
            open_work_items=len(works) + len(inside),
            accepting_binding_ids=accepting,
        )
    return {"streams": streams, "collection_release_states": states, "stream_seq": broker.work.numbers}


def batch_fields(workflow: Any, delivery: Delivery, write: Write) -> dict[str, Any]:
    """Return what a delivery works on as fields of their payload.

    Args:
        workflow: The workflow of theirs.
        delivery: The delivery.
        write: Writes an event.
    """
    config = installed.steps_of_theirs(workflow)[delivery.step][1]
    events: Sequence[Event] = getattr(delivery.event, "events", ())
    if config.collect_params is not None:
        named = zip(config.collect_params, events, strict=True)
        return {"event": write(events[-1]), "bound_events": {name: write(event) for (name, _), event in named}}
    if config.collection_param is None:
        event = delivery.event
        return {"event": write(their_failure(event) if isinstance(event, StepFailedEvent) else event)}
    binding = next((key for key, each in installed.bindings_of(workflow).items() if each[1] == delivery.step), "")
    payload = types.SerializedCollectionReleasePayload(
        binding_id=binding,
        stream_id=_name(delivery.id),
        events=[write(event) for event in events],
        output_scope_path=scope_path(delivery),
    )
    return {"event": write(delivery.event), "collection_release_payload": payload}


def scope_path(delivery: Delivery) -> list[str]:
    """Return the streams that a delivery belongs to by their names in a payload, outermost first."""
    return [_name(number) for number in _scope(delivery)]


def collected_apart(broker: Broker, step: str, write: Write) -> list[str]:
    """Return the events that a step with several event parameters has got so far."""
    return [write(item.give()) for item in broker.buffers.all_of(f"each/{step}")]


def _scope(delivery: Delivery) -> tuple[int, ...]:
    return () if delivery.lineage is None else delivery.lineage.scope


def _name(number: int) -> str:
    return f"stream-{number}"
