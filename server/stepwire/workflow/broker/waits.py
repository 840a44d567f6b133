"""The open waiters of a run, and how they are opened, answered and abandoned."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from stepwire.workflow.broker import parts
from stepwire.workflow.broker.clock import finite
from stepwire.workflow.broker.delivery import PARKED, READY, RUNNING, Delivery, Execution, Waiter
from stepwire.workflow.broker.ledger import TIMED_OUT, Answer, Notify, Withdrawn
from stepwire.workflow.broker.work import Work
from stepwire.workflow.events import Event
from stepwire.workflow.state.own import own

__all__ = ["Waits"]


class Waits:
    """Open waiters by event type (None: durable sleeps), each in the order of opening.

    Args:
        work: The deliveries that wait: parked while a wait is open, queued again when it is answered.

    Attributes:
        by_type: The open waiters; looked at for each event, which asking `bool(waits)` makes slow.
    """

    __slots__ = ("_work", "by_type")

    def __init__(self, work: Work) -> None:
        self.by_type: dict[type[Event] | None, list[Waiter]] = {}
        self._work = work

    # -- waiting ------------------------------------------------------------------------------------------------------

    def recorded(
        self,
        execution: Execution,
        waiter_id: str,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
    ) -> Answer | Waiter | None:
        """Return what an earlier execution left for this wait: its answer, or the waiter that it opened.

        A wait that differs from the earlier one is new: None, and the earlier waiter is forgotten.

        Args:
            execution: The attempt that waits.
            waiter_id: The id of the wait.
            event_type: The type that it waits for; None for a durable sleep.
            requirements: The fields that it asks for.
        """
        delivery, nth = execution.delivery, execution.waits_made(waiter_id)
        if delivery.ledger is not None:
            answer = delivery.ledger.answered(waiter_id, nth, event_type, requirements)
            if answer is not None:
                execution.note_wait(waiter_id)
                return own(answer) if isinstance(answer, Event) else answer
        waiter = delivery.untaken_waiter(waiter_id, nth)
        if waiter is None:
            return None
        if waiter.event_type is not event_type or waiter.requirements != requirements:
            self.forget(waiter)
            return None
        execution.note_wait(waiter_id)
        self._work.park(execution)
        return waiter

    def open(
        self,
        number: int,
        waiter_id: str,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
        prompt: Event | None,
        timeout: float | None,
        execution: Execution | None,
    ) -> Waiter:
        """Open a new waiter; its execution is parked.

        Args:
            number: Unique in the run, and higher than those before.
            waiter_id: The id of the wait.
            event_type: The type that it waits for; None for a durable sleep.
            requirements: The fields that it asks for.
            prompt: The question that was asked for it.
            timeout: Seconds until its deadline; None or infinity for none.
            execution: The attempt that waits; None outside the steps.
        """
        timeout = finite(timeout)
        due = None if timeout is None else self._work.clock.now() + timeout
        delivery, nth = None, 0
        if execution is not None:
            delivery, nth = execution.delivery, execution.note_wait(waiter_id)
        waiter = Waiter(number, waiter_id, event_type, requirements, prompt, due, delivery, nth)
        if due is not None:
            self._work.arm(due, waiter)
        self.add(waiter)
        self.touch(waiter)
        if execution is not None:
            self._work.park(execution)
        return waiter

    def settle(self, waiter: Waiter, answer: Answer) -> None:
        """End a wait with its answer: into the ledger first, then to the body when it gets a worker."""
        self.forget(waiter)
        work, delivery = self._work, waiter.delivery
        if isinstance(answer, Event):
            answer = own(answer)
        if delivery is None:
            if waiter.notify is not None:
                work.resumed.append((waiter.notify, answer))
            return
        delivery.lost = 0  # it has made progress since its last crash
        self._note(delivery, waiter, answer)
        if isinstance(answer, Event):
            answer = own(answer)  # the ledger keeps what came
        execution = delivery.execution
        if execution is None:
            if delivery.status == PARKED:
                work.unpark(delivery)
            return
        if waiter.notify is None:
            return  # opened by an earlier execution; this one has not come to it
        execution.open_waits -= 1
        if delivery.status == RUNNING or (delivery.status == PARKED and execution.open_waits):
            if delivery.status == PARKED and work.works is not None:
                work.resumed.append((_Handing(execution, waiter.notify), answer))
            else:
                work.resumed.append((waiter.notify, answer))
        else:
            execution.settle(waiter.notify, answer)
            if delivery.status == PARKED:
                work.unpark(delivery)

    def abandon(self, waiter: Waiter, execution: Execution | None, notify: Notify) -> bool:
        """Remove a waiter whose await was cancelled; True when `notify` will tell that a worker is back."""
        is_open = self.get(waiter.number) is not None
        if execution is None:
            if is_open:
                self.forget(waiter)
            return False
        if execution.dead:
            return False
        delivery = execution.delivery
        if is_open:
            self.forget(waiter)
            self._note(delivery, waiter, Withdrawn(waiter.prompt))
            execution.open_waits -= 1
            if delivery.status == PARKED and execution.open_waits == 0:
                self._work.unpark(delivery)
        if delivery.status == READY:
            execution.settle(notify, TIMED_OUT)
            return True
        return False

    def asked(self, execution: Execution | None, waiter_id: str, prompt: Event) -> bool:
        """Tell whether a question needs not be asked: it is open, or its next wait was given up before.

        Args:
            execution: The attempt that waits; None outside the steps.
            waiter_id: The id of the wait.
            prompt: The question.
        """
        if self.prompted(waiter_id, prompt):
            return True
        if execution is None or execution.delivery.ledger is None:
            return False
        return execution.delivery.ledger.was_asked(waiter_id, execution.waits_made(waiter_id), prompt)

    def _note(self, delivery: Delivery, waiter: Waiter, answer: Answer | Withdrawn) -> None:
        """Write what a wait came to into the ledger."""
        number = delivery.ensure_ledger().answer(waiter.id, waiter.index, answer)
        if self._work.journal is not None:
            self._work.journal.touch(parts.answer(delivery.id, number))
        self._work.touch(delivery)

    # -- the open ones ------------------------------------------------------------------------------------------------

    def add(self, waiter: Waiter) -> None:
        """Add an open waiter; to its delivery too."""
        self.by_type.setdefault(waiter.event_type, []).append(waiter)
        delivery = waiter.delivery
        if delivery is not None:
            if delivery.waiters is None:
                delivery.waiters = []
            delivery.waiters.append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Forget a waiter that was resolved, timed out or cancelled."""
        of_type = self.by_type.get(waiter.event_type)
        if of_type is None or (place := _place(of_type, waiter.number)) is None:
            return
        del of_type[place]
        if not of_type:
            del self.by_type[waiter.event_type]
        if waiter.delivery is not None and waiter.delivery.waiters is not None:
            waiter.delivery.waiters.remove(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Remove a waiter and its deadline, and note that its part went."""
        self.remove(waiter)
        if waiter.timer is not None:
            self._work.timers.cancel(waiter.timer)
            waiter.timer = None
        self.touch(waiter)

    def forget_those_of(self, delivery: Delivery) -> None:
        """Forget the waiters of a delivery."""
        for waiter in list(delivery.waiters or ()):
            self.forget(waiter)

    def touch(self, waiter: Waiter) -> None:
        """Note that a waiter's part of the snapshot changed."""
        if self._work.journal is not None and waiter.delivery is not None:
            self._work.journal.touch(parts.waiter(waiter.number))

    def matching(self, event: Event) -> list[Waiter]:
        """Return the waiters that an event resolves: for each waiter id the oldest that matches (S10)."""
        of_type = self.by_type.get(type(event))
        if not of_type:
            return []
        found: dict[str, Waiter] = {}
        for waiter in of_type:
            if waiter.id not in found and waiter.matches(event):
                found[waiter.id] = waiter
        return list(found.values())

    def expects(self, event_type: type[Event]) -> bool:
        """Tell whether a waiter is open for events of this type."""
        return event_type in self.by_type

    @property
    def outside(self) -> bool:
        """Whether a waiter is open that an event can answer: one that is no durable sleep."""
        return len(self.by_type) > (None in self.by_type)

    def prompted(self, waiter_id: str, prompt: Event) -> bool:
        """Tell whether an open waiter of this id has an equal prompt."""
        return any(
            waiter.id == waiter_id and waiter.prompt == prompt
            for of_type in self.by_type.values()
            for waiter in of_type
        )

    def __iter__(self) -> Iterator[Waiter]:
        """Give the waiters in the order of opening."""
        found = [waiter for of_type in self.by_type.values() for waiter in of_type]
        return iter(sorted(found, key=_number) if len(self.by_type) > 1 else found)

    def __bool__(self) -> bool:
        return bool(self.by_type)

    def __len__(self) -> int:
        return sum(map(len, self.by_type.values()))

    def get(self, number: int) -> Waiter | None:
        """Return the open waiter of this number."""
        for of_type in self.by_type.values():
            if (place := _place(of_type, number)) is not None:
                return of_type[place]
        return None


class _Handing:
    """Hand an answer to a body that stays parked, and look then whether it goes on beside its other waits."""

    __slots__ = ("_execution", "_notify")

    def __init__(self, execution: Execution, notify: Notify) -> None:
        self._execution = execution
        self._notify = notify
        if execution.untold is None:
            execution.untold = []
        execution.untold.append(notify)

    def __call__(self, answer: Answer) -> None:
        execution = self._execution
        if execution.untold is not None:
            execution.untold.remove(self._notify)
        self._notify(answer)
        if execution.broker is not None and execution.delivery.status == PARKED:
            execution.broker.stir(execution)


def _place(waiters: list[Waiter], number: int) -> int | None:
    """Return the place of the waiter of this number: they are opened, and restored, in the order of their numbers."""
    place = bisect_left(waiters, number, key=_number)
    return place if place < len(waiters) and waiters[place].number == number else None


def _number(waiter: Waiter) -> int:
    return waiter.number
