"""The runs that the steps of a run have started: each once, whatever becomes of the step.

A start is an effect, like a send: the ledger keeps it, and the host makes it once that is durable. When the body runs
again, the n-th start of the same workflow with the same input is the same child, whose outcome the ledger keeps too.
So a child belongs to a delivery while that is in progress, and to the run until the child has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from stepwire.workflow.broker.children.child import (
    ABANDON,
    CANCEL,
    ENDED,
    LIVING,
    QUEUED,
    STARTING,
    Child,
    ChildCall,
    ChildHost,
    ChildOutcome,
)
from stepwire.workflow.broker.children.chosen_ids import ChosenIds
from stepwire.workflow.broker.children.sends import ChildSend, SentEvents
from stepwire.workflow.broker.deliveries.delivery import PARKED, Delivery, Execution, RunBroker
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.ledger import TIMED_OUT, Notify
from stepwire.workflow.broker.log.entries import ChildNews
from stepwire.workflow.broker.outcome import CANCELLED, COMPLETED, ENDED_TIMED_OUT, FAILED
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.broker.waits import parking
from stepwire.workflow.errors import ChildRunError

__all__ = ["Children"]


class Children:
    """Start, await and cancel the children of one run.

    Attributes:
        host: Starts them.
        chosen: The ids that steps have chosen.
        total: How many were started in all.
        ended: How many have ended, by status.
        awaited: How many are awaited that have not ended.
        todo: What the host is to be told once it is durable.
        sends: What the host is to send to children once it is durable.
        to_close: How many lived, and were to be cancelled, when the run ended.
        to_start: How many were to go on when the run ended, and were not started yet.
        unsure: The ids and workflows of those to close whose start the host had been asked for, and had not confirmed.
    """

    __slots__ = (
        "_all",
        "_ids",
        "_of",
        "_queue",
        "_unsettled",
        "_work",
        "awaited",
        "chosen",
        "ended",
        "host",
        "sends",
        "to_close",
        "to_start",
        "todo",
        "total",
        "unsure",
    )

    def __init__(self, work: Work, host: ChildHost) -> None:
        self.host = host
        self.chosen = ChosenIds()
        self.total = 0
        self.ended = {COMPLETED: 0, FAILED: 0, CANCELLED: 0, ENDED_TIMED_OUT: 0}
        self.awaited = 0
        self.todo: list[Child] = []
        self.sends: list[tuple[Child, ChildSend]] = []
        self.to_close = 0
        self.to_start = 0
        self.unsure: list[tuple[str, str]] = []
        self._work = work
        self._all: dict[int, Child] = {}
        self._ids: dict[str, Child] = {}
        """Those that have not ended, by run id."""
        self._of: dict[int, dict[bytes, list[Child]]] = {}
        """By delivery in progress and digest: the starts that the ledger keeps."""
        self._queue: deque[Child] = deque()
        self._unsettled: set[int] = set()

    # -- what there is ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Child]:
        return iter(self._all.values())

    def get(self, number: int) -> Child | None:
        """Return a child that the snapshot holds."""
        return self._all.get(number)

    def named(self, run_id: str) -> Child | None:
        """Return the child of this id that has not ended."""
        return self._ids.get(run_id)

    @property
    def living(self) -> int:
        """How many have not ended, with those that wait for others to end."""
        return self.total - sum(self.ended.values())

    @property
    def unsettled(self) -> bool:
        """Whether the host has something to do about a child: until then the run must not leave memory."""
        return bool(self._unsettled)

    def summary(self) -> dict[str, int]:
        """Return how many there are, by what they do."""
        return {"total": self.total, "queued": len(self._queue), "living": self.living, **self.ended}

    # -- transitions --------------------------------------------------------------------------------------------------

    def start(self, run: RunBroker, run_id: str, execution: Execution, call: ChildCall) -> Child:
        """Start a child, or return the one that the same call of an earlier execution has started.

        Args:
            run: The run.
            run_id: Its id.
            execution: The attempt that calls.
            call: What it asks for.

        Raises:
            ChildRunError: The run has started too many, or another start of it has the chosen id.
        """
        delivery, digest = execution.delivery, call.digest()
        known = self._of.setdefault(delivery.id, {}).setdefault(digest, [])
        nth = execution.next_call(digest)
        if nth < len(known):
            return known[nth]
        if self.total >= self.host.in_all:
            raise ChildRunError(f"a run may start at most {self.host.in_all} runs (max_children_total)")
        self.chosen.check(call.run_id)
        work = self._work
        work.numbers += 1
        self.total += 1
        child = Child(work.numbers, self.chosen.id_of(call, run_id, work.numbers), delivery.id, call, digest)
        child.step = delivery.step
        known.append(child)
        self.chosen.take(child)
        self._all[child.number] = self._ids[child.run_id] = child
        self._queue.append(child)
        self._start_more()
        self.touch(child)
        self._progressed(delivery)
        self._log(run, child, delivery.step, "")
        return child

    def _start_more(self) -> None:
        """Have the host start the next ones that may be under way."""
        while self._queue and self.living - len(self._queue) < self.host.at_once:
            child = self._queue.popleft()
            child.state = STARTING
            self._unsettled.add(child.number)
            self.todo.append(child)
            self.touch(child)

    def started(self, child: Child) -> None:
        """Note that the host has started a child."""
        if child.state == STARTING and child.number in self._all:
            child.state = LIVING
            child.call = child.call._replace(data=b"")
            if child.cancelling:
                self.todo.append(child)
            self._send_pending(child)
            self._settle(child)
            self.touch(child)

    def send(self, execution: Execution | None, child: Child, type_name: str, data: bytes, step: str) -> None:
        """Send an event to a child, unless an earlier execution has, or the child has ended.

        Args:
            execution: The attempt that sends; None outside the steps.
            child: The child.
            type_name: The name of the type of the event.
            data: Its fields, as plain JSON.
            step: The only step that gets it; empty for all steps and waits that take it.
        """
        if child.outcome is not None or child.number not in self._all:
            return
        if child.sent is None:
            child.sent = SentEvents()
        own = execution is not None and execution.delivery.id == child.delivery
        send = child.sent.add(execution, child.run_id, own, type_name, data, step)
        if send is None:
            return
        if child.state == LIVING:  # else once it is started
            self.sends.append((child, send))
            self._unsettled.add(child.number)
        self.touch(child)
        if execution is not None:
            self._progressed(execution.delivery)

    def _send_pending(self, child: Child) -> None:
        if child.sent is not None:
            self.sends += [(child, send) for send in child.sent.pending]

    def sent(self, child: Child, number: int) -> None:
        """Note that the host has sent an event to a child, or that the child does not take it."""
        if child.sent is not None and child.number in self._all:
            child.sent.done(number)
            self._settle(child)
            self.touch(child)

    def end(self, run: RunBroker, child: Child, outcome: ChildOutcome) -> None:
        """Note that a child has ended: into the ledger first, then to the body that waits for it."""
        if child.outcome is not None or child.number not in self._all:
            return
        if child.state == QUEUED:
            self._queue.remove(child)
        child.outcome, child.state, child.sent = outcome, ENDED, None
        child.call = child.call._replace(data=b"")
        self.ended[outcome.status] += 1
        self._ids.pop(child.run_id, None)
        self._settle(child)
        self.touch(child)
        work = self._work
        delivery = work.deliveries.get(child.delivery)
        self._log(run, child, "" if delivery is None else delivery.step, outcome.status)
        self._tell(child, delivery)
        if delivery is None:
            self._forget(child)
        else:
            self._progressed(delivery)
        self._start_more()

    def _progressed(self, delivery: Delivery) -> None:
        """Note that a delivery has made progress since its last crash."""
        if delivery.lost:
            delivery.lost = 0
            self._work.touch(delivery)

    def _tell(self, child: Child, delivery: Delivery | None) -> None:
        work = self._work
        awaited, child.awaited = child.awaited, False
        self.awaited -= awaited
        waits, told, child.waits, child.told = child.waits or (), child.told or (), None, None
        for notify in told:
            work.resume(notify, TIMED_OUT)
        for execution, notify in waits:
            if not execution.dead and execution.awaiting is not None:
                execution.awaiting.pop(notify, None)
                parking.hand(work, execution, notify, TIMED_OUT)
        if delivery is not None and delivery.execution is None and awaited and delivery.status == PARKED:
            parking.unpark(work, delivery)

    def wait(self, child: Child, execution: Execution, notify: Notify) -> None:
        """Have a body told when a child has ended; its delivery is parked until then."""
        if child.waits is None:
            child.waits = []
        child.waits.append((execution, notify))
        if execution.awaiting is None:
            execution.awaiting = {}
        execution.awaiting[notify] = None
        if not child.awaited:
            child.awaited = True
            self.awaited += 1
            self.touch(child)
        parking.park(self._work, execution)

    def give_up(self, child: Child, execution: Execution, notify: Notify, back: Notify) -> bool:
        """Take back a wait whose task was cancelled; True when `back` tells that the body has a worker again."""
        if execution.dead:
            return False
        if execution.awaiting is not None and notify in execution.awaiting:
            del execution.awaiting[notify]
            child.waits = [each for each in child.waits or () if each[1] is not notify]
            self._await_no_more(child)
            parking.take_back(self._work, execution)
        return parking.regain(execution, back)

    def _await_no_more(self, child: Child) -> None:
        if child.awaited and not child.waits:
            child.awaited = False
            self.awaited -= 1
            self.touch(child)

    def cancel(self, run: RunBroker, child: Child) -> None:
        """Cancel a child; one that has not begun ends at once."""
        if child.outcome is not None or child.cancelling:
            return
        if child.state == QUEUED:
            self.end(run, child, ChildOutcome(CANCELLED))
            return
        child.cancelling = True
        self._unsettled.add(child.number)
        if child.state == LIVING:  # else once it is started
            self.todo.append(child)
        self.touch(child)

    def retry(self, delivery: Delivery) -> None:
        """Forget the starts that did not complete: the next attempt starts them anew. A chosen id is one run's."""
        for known in self._of.get(delivery.id, {}).values():
            for child in list(known):
                if child.outcome is None:
                    child.waits = None
                    self._await_no_more(child)
                elif child.outcome.status != COMPLETED and not (child.call.run_id and child.outcome.event):
                    known.remove(child)
                    self._forget(child)

    def drop(self, run: RunBroker, delivery: Delivery, *, finished: bool) -> None:
        """Note that a delivery is through. Children that live go on, unless it was given up."""
        for known in self._of.pop(delivery.id, {}).values():
            for child in known:
                if child.outcome is not None:
                    self._forget(child)
                elif not finished and child.call.close == CANCEL:
                    self.cancel(run, child)

    def run_ended(self, *, keep: bool) -> None:
        """Note that the run has ended. `keep` leaves everything for a retry.

        Those that were to go on, and are not started yet, stay in the snapshot: the host starts them from there.
        """
        closing = [each for each in self._all.values() if each.outcome is None and each.call.close == CANCEL]
        self.to_close = len(closing)
        self.unsure = [(each.run_id, each.call.workflow) for each in closing if each.state == STARTING]
        unbegun = [each for each in self._all.values() if each.call.close == ABANDON and each.unbegun]
        self.to_start = len(unbegun)
        self.todo.clear()
        self.sends.clear()
        self._queue.clear()
        self._unsettled.clear()
        if not keep:
            left = {child.number for child in unbegun}
            for child in list(self._all.values()):
                if child.number not in left:
                    self._forget(child)
            self._of.clear()

    def take_todo(self) -> list[Child]:
        """Hand over what the host is to be told."""
        todo, self.todo = self.todo, []
        return todo

    def take_sends(self) -> list[tuple[Child, ChildSend]]:
        """Hand over what the host is to send."""
        sends, self.sends = self.sends, []
        return sends

    # -- coming back --------------------------------------------------------------------------------------------------

    def restore(self, child: Child, delivery: Delivery | None) -> None:
        """Take a child of a snapshot, in the order of their numbers."""
        self._all[child.number] = child
        self.chosen.take(child)
        if delivery is not None:
            self._of.setdefault(delivery.id, {}).setdefault(child.digest, []).append(child)
        if child.outcome is None:
            self._ids[child.run_id] = child
            self.awaited += child.awaited
            if child.state == QUEUED:
                self._queue.append(child)
            else:
                self.todo.append(child)
                if child.state == LIVING:
                    self._send_pending(child)
                if child.unsettled:
                    self._unsettled.add(child.number)

    def awaited_by(self, delivery: Delivery) -> bool:
        """Tell whether a restored delivery waits for the end of a child."""
        known = self._of.get(delivery.id)
        return known is not None and any(child.awaited for children in known.values() for child in children)

    # -- the snapshot and the log -------------------------------------------------------------------------------------

    def touch(self, child: Child) -> None:
        """Note that the part of a child changed or went."""
        if self._work.journal is not None:
            self._work.journal.touch(parts.child(child.number))

    def _settle(self, child: Child) -> None:
        if not child.unsettled:
            self._unsettled.discard(child.number)

    def _forget(self, child: Child) -> None:
        if self._all.pop(child.number, None) is not None:
            self._unsettled.discard(child.number)
            self._ids.pop(child.run_id, None)
            self.chosen.leave(child)
            self.touch(child)

    def _log(self, run: RunBroker, child: Child, step: str, status: str) -> None:
        """Log the start or the end of a child, if the log has room."""
        journal = self._work.journal
        if journal is not None and run.sequence < journal.last_entry:
            run.sequence += 1
            news = ChildNews(child.run_id, child.call.workflow, status, child.delivery)
            journal.log_child(run.sequence, self._work.clock.now(), step, news)
