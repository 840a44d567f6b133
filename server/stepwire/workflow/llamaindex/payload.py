"""Saved contexts of LlamaIndex 2.x: written in their form, and read from it, also when their own engine saved them.

The form has all that their engine would go on with. Beside their state it holds a snapshot of ours, which knows more
(open waiters with their requirements, the ledger, streams of events) and comes first when a context of ours is read.
"""

from __future__ import annotations

import json
from typing import Any, Final

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.delivery import BACKOFF, PARKED, Delivery, Waiter
from stepwire.workflow.broker.ledger import Buffered
from stepwire.workflow.broker.outcome import CANCELLED
from stepwire.workflow.broker.snapshot.parts import HEAD
from stepwire.workflow.broker.snapshot.restore import restore
from stepwire.workflow.broker.snapshot.writer import all_parts, registry_encoder
from stepwire.workflow.context.context import run_of
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import SerializationError, SnapshotError
from stepwire.workflow.events import Event
from stepwire.workflow.llamaindex import installed
from stepwire.workflow.llamaindex.own_context import AdoptedContext
from stepwire.workflow.llamaindex.payload_streams import (
    SavedStreams,
    batch_fields,
    collected_apart,
    scope_path,
    stream_fields,
)
from stepwire.workflow.llamaindex.reopening import Reopening
from stepwire.workflow.llamaindex.store_face import StoreFace
from stepwire.workflow.state.dict_state import DictState

__all__ = ["from_pre_context", "to_payload", "work_item_of"]

_OWN: Final = "stepwire"
"""The key of our snapshot, beside their state."""

types: Any = installed.context_types


def to_payload(context: AdoptedContext, serializer: Any, *, include_state: bool) -> dict[str, Any]:
    """Return a context as `Context.to_dict` of theirs does.

    Args:
        context: The context.
        serializer: Writes events and values of the state; None for the workflow's own.
        include_state: Whether the state is part of it.
    """
    run = run_of(context)
    broker = run.broker
    serializer = serializer or installed.serializer_of(context.workflow)
    workers: dict[str, Any] = {name: types.SerializedStepWorkerState() for name in broker.queues}

    def write(event: Event) -> str:
        text: str = serializer.serialize(event)
        return text

    for delivery in broker.deliveries.values():
        worker = workers[delivery.step]
        failed = delivery.last_failure
        attempt = types.SerializedEventAttempt(
            **batch_fields(context.workflow, delivery, write),
            attempts=delivery.failures,
            first_attempt_at=delivery.first_started,
            last_exception=None if failed is None else failed[0],
            last_failed_at=None if failed is None else failed[1],
            recovery_counts={} if delivery.lineage is None else dict(delivery.lineage.recoveries),
            not_before=delivery.due,
            scope_path=scope_path(delivery),
            work_item_id=work_item_of(delivery),
        )
        waiters = delivery.waiters or ()
        for waiter in waiters:
            if waiter.event_type is not None:
                worker.collected_waiters.append(_waiter(waiter, attempt))
        if not waiters:
            worker.queue.append(attempt)
    for name, worker in workers.items():
        worker.static_collect_events = collected_apart(broker, name, write)
    for item in broker.buffers:
        step, _, buffer_id = item.buffer_id.partition("/")
        if step in workers:
            workers[step].collected_events.setdefault(buffer_id, []).append(write(item.give()))
    outcome = broker.outcome
    cancelled = outcome is not None and outcome.status == CANCELLED  # it goes on where it was
    saved = types.SerializedContext(
        is_running=context.is_running or cancelled, workers=workers, **stream_fields(context.workflow, broker, write)
    )
    if include_state:
        saved.state = _state_payload(broker, serializer)
        if (own := _own_parts(context)) is not None:
            saved.state = {**saved.state, _OWN: own}
    payload: dict[str, Any] = saved.model_dump(mode="python")
    return payload


def from_pre_context(context: AdoptedContext, face: Any) -> None:
    """Fill a new context from one of theirs that no run has had yet: made by hand, or read from a payload.

    Raises:
        SnapshotError: The payload does not fit the workflow.
    """
    snapshot = installed.snapshot_of(face)
    broker = run_of(context).broker
    own = (snapshot.state or {}).get(_OWN)
    touched = installed.staged_store(face)
    if isinstance(own, dict):
        names = _names(context)
        restore(broker, own["parts"], names, saved_at=own["saved_at"], fork=True, with_state=touched is None)
        run_of(context).fresh = False
        if touched is None:
            return
    elif snapshot.is_running or snapshot.workers:
        _from_workers(context, snapshot, installed.serializer_of_face(face))
        run_of(context).fresh = not snapshot.is_running
    if touched is not None or snapshot.state:
        _adopt_state(broker, face)


def work_item_of(delivery: Delivery) -> str:
    """Return the name that their payloads have for a delivery."""
    return f"d{delivery.id}"


def _waiter(waiter: Waiter, attempt: Any) -> Any:
    event_type = waiter.event_type
    assert event_type is not None
    return types.SerializedWaiter(
        waiter_id=waiter.id,
        work_item_id=attempt.work_item_id,
        event=attempt.event,
        bound_events=attempt.bound_events,
        collection_release_payload=attempt.collection_release_payload,
        scope_path=attempt.scope_path,
        waiting_for_event=f"{event_type.__module__}.{event_type.__qualname__}",
        has_requirements=bool(waiter.requirements),
    )


def _state_payload(broker: Broker, serializer: Any) -> dict[str, Any]:
    return StoreFace(broker.store).to_dict(serializer)


def _own_parts(context: AdoptedContext) -> dict[str, Any] | None:
    """Return our snapshot; None if something in it cannot be saved, as what only their serializer knows."""
    try:
        parts = all_parts(run_of(context).broker, registry_encoder(_names(context)))
    except SerializationError:
        return None
    own = {key: json.loads(part) for key, part in parts.items()}
    if own[HEAD].get("outcome") == CANCELLED:
        for name in ("outcome", "event", "left"):
            own[HEAD].pop(name, None)
    return {"saved_at": run_of(context).broker.clock.now(), "parts": own}


def _names(context: AdoptedContext) -> TypeRegistry:
    plan = run_of(context).plan
    return TypeRegistry.of(plan.workflow_type, plan.steps)


def _adopt_state(broker: Broker, face: Any) -> None:
    state: Any = installed.staged_state(face)
    store = broker.store
    if isinstance(state, installed.stores.DictState):
        if store.state_type is DictState:
            store.adopt(DictState(**dict(state.items())))
        else:
            store.adopt(store.state_type(**dict(state.items())))
    elif isinstance(state, store.state_type):
        store.adopt(state)
    else:
        store.adopt(store.state_type(**state.model_dump()))


def _from_workers(context: AdoptedContext, snapshot: Any, serializer: Any) -> None:
    """Take over what their engine had queued, collected and waited for."""
    broker = run_of(context).broker
    reopening = context.reopening = Reopening()
    broker.started = bool(snapshot.is_running)

    def read(text: str) -> Event:
        event = serializer.deserialize(text)
        if not isinstance(event, Event):
            raise SnapshotError("The saved context holds something else where an event belongs")
        return event

    streams = SavedStreams(context.workflow, broker, snapshot, read)

    def delivery_of(step: str, item: Any) -> Delivery:
        broker.work.delivery_ids += 1
        delivery = Delivery(broker.work.delivery_ids, step, streams.event(step, item), 0)
        delivery.lineage = streams.lineage(item)
        broker.deliveries[delivery.id] = delivery
        return delivery

    for step, worker in snapshot.workers.items():
        if step not in broker.queues:
            continue
        for attempt in worker.in_progress:
            _queue(broker, delivery_of(step, attempt), attempt, begun=1)
        for attempt in worker.queue:
            _queue(broker, delivery_of(step, attempt), attempt, begun=0)
        for buffer_id, texts in worker.collected_events.items():
            for text in texts:
                broker.work.numbers += 1
                broker.buffers.add(Buffered(broker.work.numbers, f"{step}/{buffer_id}", read(text), None))
        for waiter in worker.collected_waiters:
            delivery = delivery_of(step, waiter)
            delivery.attempt = 1
            if waiter.has_requirements:  # the step says them when it runs again
                reopening.expect(delivery.id)
                broker.work.requeue(delivery)
                continue
            delivery.status = PARKED
            broker.work.parked += 1
            broker.work.numbers += 1
            event_type = serializer.resolve_class(waiter.waiting_for_event)
            broker.waits.add(Waiter(broker.work.numbers, waiter.waiter_id, event_type, {}, None, None, delivery, 0))
    streams.count()


def _queue(broker: Broker, delivery: Delivery, attempt: Any, begun: int) -> None:
    """Queue a delivery as it was; `begun` is 1 if its step was at work."""
    delivery.failures = attempt.attempts
    delivery.attempt = max(attempt.attempts, begun)
    delivery.first_started = attempt.first_attempt_at
    if attempt.last_failed_at is not None:
        delivery.last_failure = attempt.last_exception, attempt.last_failed_at
    if attempt.not_before is None:
        broker.work.requeue(delivery)
        return
    delivery.status, delivery.due = BACKOFF, attempt.not_before
    broker.work.note_failing(delivery)
    broker.work.arm(delivery.due, delivery)
