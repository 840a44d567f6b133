"""The open waiters of a run, and how they are opened, answered and abandoned."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from stepwire.workflow.broker.deliveries.delivery import PARKED, Delivery, Execution, Waiter
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.ledger import Answer, Notify, Withdrawn
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.broker.timing.clock import finite
from stepwire.workflow.broker.waits import parking
from stepwire.workflow.broker.waits.waiter_index import WaiterIndex
from stepwire.workflow.errors import RunEndedError
from stepwire.workflow.events import Event
from stepwire.workflow.state.own import own

__all__ = ["Waits"]

_FEW: Final = 8
"""Waiters that are looked at one by one: of all types, and of one type."""

Ask = Callable[[Event, None, str, int], object]
"""Writes a question to the stream; the step that asks and its delivery are the last arguments."""


class Waits:
    """Open waiters in the order of opening.

    Args:
        work: The deliveries that wait: parked while a wait is open, queued again when it is answered.

    Attributes:
        open: The open waiters; looked at for each event, which asking `bool(waits)` makes slow.
    """

    __slots__ = ("_by_type", "_indexes", "_work", "open")

    def __init__(self, work: Work) -> None:
        self.open: list[Waiter] = []
        self._work = work
        self._by_type: dict[type[Event] | None, list[Waiter]] | None = None
        """The open ones by the type that they wait for (None: durable sleeps), once they have been many."""
        self._indexes: dict[type[Event], WaiterIndex] | None = None
        """Of types that many wait for; None as long as there are none."""

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
            answer = delivery.ledger.answered(
                waiter_id, nth, event_type, requirements, broad=delivery.step in self._work.broad
            )
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
        parking.park(self._work, execution)
        return waiter

    def wait(
        self,
        ask: Ask,
        execution: Execution | None,
        waiter_id: str,
        event_type: type[Event] | None,
        requirements: dict[str, Any],
        prompt: Event | None,
        timeout: float | None,
    ) -> Answer | Waiter:
        """Open a waiter, take up the one that an earlier execution opened, or give the recorded answer.

        A waiter parks its execution. A call that differs from the one of the earlier execution is new.

        Args:
            ask: Writes the prompt to the stream.
            execution: The attempt that waits; None for one outside the steps.
            waiter_id: The name of the wait.
            event_type: The type of event that it waits for; None for a durable sleep.
            requirements: The fields that the event must have.
            prompt: Written to the stream, unless an open waiter of this id has an equal one.
            timeout: Seconds until its deadline; None or infinity: none.
        """
        source, delivery, number, nth = "", None, 0, 0
        if prompt is not None:
            prompt = own(prompt)
        if execution is not None:
            delivery = execution.delivery
            source, number = delivery.step, delivery.id
            found = self.recorded(execution, waiter_id, event_type, requirements)
            if isinstance(found, Waiter):
                if prompt is not None and not self.prompted(waiter_id, prompt):
                    ask(prompt, None, source, number)
                    found.prompt = prompt
                    self.touch(found)
                return found
            if found is not None:
                return found
        if prompt is not None and not self.asked(execution, waiter_id, prompt):
            ask(prompt, None, source, number)
        work = self._work
        work.numbers += 1
        timeout = finite(timeout)
        due = None if timeout is None else work.clock.now() + timeout
        if execution is not None:
            nth = execution.note_wait(waiter_id)
        waiter = Waiter(work.numbers, waiter_id, event_type, requirements, prompt, due, delivery, nth)
        if due is not None:
            work.arm(due, waiter)
        self.add(waiter)
        self.touch(waiter)
        if execution is not None:
            parking.park(work, execution)
        return waiter

    def settle(self, waiter: Waiter, answer: Answer, *, sole: bool = False) -> None:
        """End a wait with its answer: into the ledger first, then to the body when it gets a worker.

        Args:
            waiter: The waiter.
            answer: Its answer.
            sole: Whether nobody else holds the answer.
        """
        self.forget(waiter)
        work, delivery = self._work, waiter.delivery
        if not sole and isinstance(answer, Event):
            answer = own(answer)
        if delivery is None:
            if waiter.notify is not None:
                work.resume(waiter.notify, answer)
            return
        delivery.lost = 0  # it has made progress since its last crash
        self._note(delivery, waiter, answer)
        if isinstance(answer, Event):
            answer = own(answer)  # the ledger keeps what came
        execution = delivery.execution
        if execution is None:
            if delivery.status == PARKED:
                parking.unpark(work, delivery)
            return
        if waiter.notify is None:
            return  # opened by an earlier execution; this one has not come to it
        parking.hand(work, execution, waiter.notify, answer)

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
            parking.take_back(self._work, execution)
        return parking.regain(execution, notify)

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
        self.open.append(waiter)
        if self._by_type is not None:
            self._by_type.setdefault(waiter.event_type, []).append(waiter)
        if self._indexes and waiter.event_type is not None and (index := self._indexes.get(waiter.event_type)):
            index.add(waiter)
        delivery = waiter.delivery
        if delivery is not None:
            if delivery.waiters is None:
                delivery.waiters = []
            delivery.waiters.append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Forget a waiter that was resolved, timed out or cancelled."""
        place = _place(self.open, waiter.number)
        if place is None:
            return
        del self.open[place]
        if self._by_type is not None:
            of_type = self._by_type[waiter.event_type]
            del of_type[bisect_left(of_type, waiter.number, key=_number)]
            if self._indexes and waiter.event_type is not None and (index := self._indexes.get(waiter.event_type)):
                index.remove(waiter)
                if not of_type:
                    del self._indexes[waiter.event_type]
            if not of_type:
                del self._by_type[waiter.event_type]
            if not self.open:
                self._by_type = None
        if waiter.delivery is not None and waiter.delivery.waiters is not None:
            waiter.delivery.waiters.remove(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Remove a waiter and its deadline, and note that its part went."""
        self.remove(waiter)
        if waiter.timer is not None:
            self._work.timers.cancel(waiter.timer)
            waiter.timer = None
        self.touch(waiter)

    def disarm(self, waiter: Waiter) -> None:
        """Leave the deadline of a waiter to somebody else."""
        if waiter.timer is not None:
            self._work.timers.cancel(waiter.timer)
            waiter.timer = None

    def end(self, *, keep: bool = False) -> None:
        """Forget every waiter because the run has ended; those outside the steps are told so.

        With `keep` those of deliveries stay as they are, for the last snapshot.
        """
        for waiter in list(self):
            if not keep or waiter.delivery is None:
                self.forget(waiter)
            if waiter.notify is not None and waiter.delivery is None:
                self._work.resume(waiter.notify, RunEndedError("the run has ended"))

    def leave(self) -> None:
        """Forget every waiter, and the timers that refer back to them, because the run has left memory."""
        for waiter in list(self):
            self.remove(waiter)
            waiter.timer = None

    def forget_those_of(self, delivery: Delivery) -> None:
        """Forget the waiters of a delivery."""
        for waiter in list(delivery.waiters or ()):
            self.forget(waiter)

    def touch(self, waiter: Waiter) -> None:
        """Note that a waiter's part of the snapshot changed."""
        if self._work.journal is not None and waiter.delivery is not None:
            self._work.journal.touch(parts.waiter(waiter.number))

    def matching(self, event: Event) -> list[Waiter]:
        """Return the waiters that an event resolves: for each waiter id the oldest that matches (S10).

        Steps whose waits are their own share no ids.
        """
        of_type = self._of_type(type(event))
        if len(of_type) > _FEW:
            of_type = self._candidates(event, of_type)
        if self._work.broad:
            of_type = [*of_type, *self._broad(type(event))]
        if not of_type:
            return []
        found: dict[tuple[str, str], Waiter] = {}
        for waiter in of_type:
            delivery = waiter.delivery
            step = delivery.step if delivery is not None and self._work.own_waits(delivery.step) else ""
            key = step, waiter.id
            if key not in found and waiter.matches(event):
                found[key] = waiter
        return list(found.values())

    def _candidates(self, event: Event, of_type: Sequence[Waiter]) -> Sequence[Waiter]:
        """Return those of the waiters for the type of an event that it may resolve."""
        if self._indexes is None:
            self._indexes = {}
        index = self._indexes.get(type(event))
        if index is None:
            index = self._indexes[type(event)] = WaiterIndex(of_type)
        found = index.candidates(event)
        return of_type if found is None else found

    def expects(self, event_type: type[Event]) -> bool:
        """Tell whether a waiter is open for events of this type."""
        return bool(self._of_type(event_type)) or (bool(self._work.broad) and any(self._broad(event_type)))

    def _of_type(self, event_type: type[Event]) -> Sequence[Waiter]:
        """Return the waiters for exactly this type, in the order of opening."""
        if self._by_type is None and len(self.open) <= _FEW:
            return [waiter for waiter in self.open if waiter.event_type is event_type]
        return self._types().get(event_type, ())

    def _types(self) -> dict[type[Event] | None, list[Waiter]]:
        """Return the open waiters by type; kept from the first time that it is called."""
        if self._by_type is None:
            self._by_type = {}
            for waiter in self.open:
                self._by_type.setdefault(waiter.event_type, []).append(waiter)
        return self._by_type

    def _broad(self, event_type: type[Event]) -> Iterator[Waiter]:
        """Give the waiters for a base of this type that take subclasses."""
        for cls, waiters in self._types().items():
            if cls is not None and cls is not event_type and issubclass(event_type, cls):
                for waiter in waiters:
                    if waiter.delivery is not None and waiter.delivery.step in self._work.broad:
                        yield waiter

    @property
    def outside(self) -> bool:
        """Whether a waiter is open that an event can answer: one that is no durable sleep."""
        if self._by_type is None and len(self.open) <= _FEW:
            return any(waiter.event_type is not None for waiter in self.open)
        return len(self._types()) > (None in self._types())

    def prompted(self, waiter_id: str, prompt: Event) -> bool:
        """Tell whether an open waiter of this id has an equal prompt."""
        return any(waiter.id == waiter_id and waiter.prompt == prompt for waiter in self.open)

    def __iter__(self) -> Iterator[Waiter]:
        """Give the waiters in the order of opening."""
        return iter(self.open)

    def __bool__(self) -> bool:
        return bool(self.open)

    def __len__(self) -> int:
        return len(self.open)

    def get(self, number: int) -> Waiter | None:
        """Return the open waiter of this number."""
        place = _place(self.open, number)
        return None if place is None else self.open[place]


def _place(waiters: list[Waiter], number: int) -> int | None:
    """Return the place of the waiter of this number: they are opened, and restored, in the order of their numbers."""
    place = bisect_left(waiters, number, key=_number)
    return place if place < len(waiters) and waiters[place].number == number else None


def _number(waiter: Waiter) -> int:
    return waiter.number
