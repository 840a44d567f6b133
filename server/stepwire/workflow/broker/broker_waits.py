"""What steps wait for: the broker's transitions of collect_events and wait_for_event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepwire.workflow.broker.broker_core import BrokerCore, finite
from stepwire.workflow.broker.buffers import default_buffer_id
from stepwire.workflow.broker.delivery import (
    PARKED,
    READY,
    RUNNING,
    TIMED_OUT,
    Answer,
    Buffered,
    Delivery,
    Execution,
    Notify,
    Waiter,
    has_fields,
)
from stepwire.workflow.events import Event


class WaitingBroker(BrokerCore):
    """Collect events, and open, take up, settle and abandon waiters."""

    __slots__ = ()

    # -- collecting ---------------------------------------------------------------------------------------------------

    def collect(
        self,
        event: Event,
        expected: Sequence[type[Event]],
        buffer_id: str | None,
        execution: Execution | None,
    ) -> list[Event] | None:
        """Add an event to a buffer; give the expected ones once all are there (S8)."""
        if execution is not None:
            self.check(execution)
        elif self.frozen:
            self.check(None)
        step = "" if execution is None else execution.delivery.step
        counted = self.buffers.count(expected)
        key = buffer_id if buffer_id is not None else default_buffer_id(step, counted)
        ledger = None
        if execution is not None:
            if execution.collects is None:
                execution.collects = {}
            nth = execution.collects.get(key, 0)
            execution.collects[key] = nth + 1
            ledger = execution.delivery.ensure_ledger().collects.setdefault(key, [])
            if nth < len(ledger):
                known = ledger[nth]
                if known is None:
                    return None
                if [type(item.event) for item in known] == list(expected):
                    return [item.event for item in known]
                # A call that differs is new: what this and later calls took is there again.
                self.buffers.put_back(item for items in ledger[nth:] for item in items or ())
                del ledger[nth:]
        encoded = None if self.journal is None else self.journal.encode(event)
        self.numbers += 1
        item = Buffered(self.numbers, key, event, encoded)
        self.buffers.add(item)
        taken = self.buffers.take(key, expected)
        if self.journal is not None:
            self.journal.touch(f"b/{item.number}")
        if execution is None and taken:
            self._consume(taken)
        if ledger is not None and execution is not None:
            ledger.append(taken)
            self.touch_delivery(execution.delivery)
        return None if taken is None else [item.event for item in taken]

    def _consume(self, items: Sequence[Buffered]) -> None:
        """Take collected events out of the run for good."""
        self.buffers.drop(items)
        if self.journal is not None:
            for item in items:
                self.journal.touch(f"b/{item.number}")

    # -- waiting ------------------------------------------------------------------------------------------------------

    def wait(
        self,
        execution: Execution | None,
        waiter_id: str,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
        prompt: Event | None,
        timeout: float | None,
    ) -> Answer | Waiter:
        """Open a waiter, take up the one that an earlier execution opened, or give the recorded answer.

        A call that differs from the one of the earlier execution is new. SerializationError when a journal is kept
        and the wait cannot be saved; then nothing has changed.
        """
        self.check(execution)
        if self.journal is not None:
            self.journal.check_wait(event_type, requirements, prompt)
        delivery = None
        nth = 0
        if execution is not None:
            delivery = execution.delivery
            if execution.waits is None:
                execution.waits = {}
            nth = execution.waits.get(waiter_id, 0)
            answers = delivery.ledger.waits.get(waiter_id) if delivery.ledger else None
            if answers is not None and nth in answers and _fits(answers[nth], event_type, requirements):
                execution.waits[waiter_id] = nth + 1
                return answers[nth]
            for waiter in list(delivery.waiters or ()):
                if waiter.id == waiter_id and waiter.index == nth and waiter.notify is None:
                    if waiter.event_type is not event_type or waiter.requirements != requirements:
                        self._forget(waiter)
                        break
                    execution.waits[waiter_id] = nth + 1
                    if prompt is not None and not self.waits.prompted(waiter_id, prompt):
                        self._prompt(prompt, delivery.step)
                        waiter.prompt = prompt
                        self._touch_waiter(waiter)
                    self._park(execution)
                    return waiter
        if prompt is not None and not self.waits.prompted(waiter_id, prompt):
            self._prompt(prompt, "" if delivery is None else delivery.step)
        if execution is not None and execution.waits is not None:
            execution.waits[waiter_id] = nth + 1
        self.numbers += 1
        timeout = finite(timeout)
        due = None if timeout is None else self.clock.now() + timeout
        waiter = Waiter(self.numbers, waiter_id, event_type, requirements, prompt, due, delivery, nth)
        if due is not None:
            waiter.timer = self._timers.add(due, waiter)
        self.waits.add(waiter)
        self._touch_waiter(waiter)
        if execution is not None:
            self._park(execution)
        return waiter

    def _prompt(self, prompt: Event, source: str) -> None:
        self.put(prompt, source=source)

    def _park(self, execution: Execution) -> None:
        """Give the worker back while at least one wait of the execution is open (S11)."""
        execution.open_waits += 1
        delivery = execution.delivery
        if delivery.status == RUNNING:
            self._release_worker(delivery)
            self._stop_attempt_clock(execution)
            delivery.status = PARKED
            self.parked += 1
            self.touch_delivery(delivery)

    def _settle(self, waiter: Waiter, answer: Answer) -> None:
        """End a wait with its answer: into the ledger first, then to the body when it gets a worker."""
        self._forget(waiter)
        delivery = waiter.delivery
        if delivery is None:
            if waiter.notify is not None:
                self.resumed.append((waiter.notify, answer))
            return
        number = delivery.ensure_ledger().answer(waiter.id, waiter.index, answer)
        if self.journal is not None:
            self.journal.touch(f"a/{delivery.id}/{number}")
        self.touch_delivery(delivery)
        execution = delivery.execution
        if execution is None:
            if delivery.status == PARKED:
                self._unpark(delivery)
            return
        if waiter.notify is None:
            return  # opened by an earlier execution; this one has not come to it
        execution.open_waits -= 1
        if delivery.status == RUNNING or (delivery.status == PARKED and execution.open_waits):
            self.resumed.append((waiter.notify, answer))
        else:
            execution.settled.append((waiter.notify, answer))
            if delivery.status == PARKED:
                self._unpark(delivery)

    def _unpark(self, delivery: Delivery) -> None:
        self.parked -= 1
        delivery.status = READY
        self._push(delivery)
        self.touch_delivery(delivery)

    def abandon(self, waiter: Waiter, execution: Execution | None, notify: Notify) -> bool:
        """Remove a waiter whose await was cancelled; True when `notify` will tell that a worker is back."""
        is_open = self.waits.get(waiter.number) is not None
        if execution is None:
            if is_open:
                self._forget(waiter)
            return False
        if execution.dead:
            return False
        delivery = execution.delivery
        if is_open:
            self._forget(waiter)
            execution.open_waits -= 1
            if delivery.status == PARKED and execution.open_waits == 0:
                self._unpark(delivery)
        if delivery.status == READY:
            execution.settled.append((notify, TIMED_OUT))
            return True
        return False


def _fits(answer: Answer, event_type: type[Event] | None, requirements: dict[str, Any]) -> bool:
    """Tell whether a recorded answer is one to this wait; a deadline fits all."""
    if not isinstance(answer, Event):
        return True
    return type(answer) is event_type and has_fields(answer, requirements)
