"""Classic defects of such engines, put back one at a time: the machine must catch every one.

`python -m tests.unit.model.mutants` tries all and prints a table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.unit.model.machine import BrokerMachine
from tests.unit.model.rare_paths import rare_path

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.changes.lent_values import LentValues
from stepwire.workflow.broker.deliveries.buffers import Buffers
from stepwire.workflow.broker.deliveries.delivery import (
    PARKED,
    QUEUED,
    RUNNING,
    Delivery,
    Execution,
    Waiter,
)
from stepwire.workflow.broker.deliveries.queue import StepQueue
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.ledger import TIMED_OUT
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.broker.snapshot import writer as _snapshot
from stepwire.workflow.broker.snapshot.reader import PartsReader
from stepwire.workflow.broker.waits import parking
from stepwire.workflow.broker.waits.waits import Waits
from stepwire.workflow.events import Event

Wrapped = Callable[..., Any]


class Mutant(NamedTuple):
    name: str
    defect: str
    owner: Any
    method: str
    make: Callable[[Wrapped], Wrapped]
    """Given the right method, return the defective one."""


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Put the defect in."""
    with mock.patch.object(mutant.owner, mutant.method, mutant.make(getattr(mutant.owner, mutant.method))):
        yield


def said(go: Callable[[], None]) -> str:
    """Return what went wrong in a run of the model with a defect; "" when nothing did."""
    try:
        go()
    except Exception as error:  # a defect may show as any error, that of the engine too
        if "<locals>" in f"{error} {error.__cause__} {error.__context__}":
            raise  # the defect does not fit the engine any more: that would show nothing
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:70]
    return ""


def caught(mutant: Mutant | None, examples: int, steps: int = 40) -> str:
    """Run the machine with the defect; return what it said, "" when it saw nothing. It does not shrink."""
    found = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    def go() -> None:
        if mutant is None:
            run_state_machine_as_test(BrokerMachine, settings=found)
        else:
            with applied(mutant):
                rare_path()
                run_state_machine_as_test(BrokerMachine, settings=found)

    return said(go)


# -- the defects ------------------------------------------------------------------------------------------------------


def _equal_events_dropped(right: Wrapped) -> Wrapped:
    def enqueue(self: Work, name: str, event: Event, *args: Any) -> None:
        if not any(each.step == name and each.event == event for each in self.deliveries.values()):
            right(self, name, event, *args)

    return enqueue


def _finish_by_equality(right: Wrapped) -> Wrapped:
    def drop(self: Work, delivery: Delivery) -> None:
        for other in list(self.deliveries.values()):
            if other is not delivery and other.execution is None and other.event == delivery.event:
                self.deliveries.pop(other.id)
        right(self, delivery)

    return drop


def _put_back_at_the_tail(right: Wrapped) -> Wrapped:
    def put_back(self: Buffers, items: Any) -> None:
        for item in items:
            self.add(item)

    return put_back


def _retry_at_the_tail(right: Wrapped) -> Wrapped:
    def push(self: StepQueue, delivery: Delivery) -> None:
        self.append(delivery)

    return push


def _deadline_restarted(right: Wrapped) -> Wrapped:
    def waiter(self: Any, number: int, part: Any, saved_at: float, fork: bool) -> None:
        right(self, number, part, saved_at, True)

    return waiter


def _second_in_progress(right: Wrapped) -> Wrapped:
    def retry(self: Work, execution: Execution, *args: Any) -> None:
        right(self, execution, *args)
        self.queues[execution.delivery.step].running += 1

    return retry


def _step_missing(right: Wrapped) -> Wrapped:
    def part(broker: Broker, key: str, encode_value: Any) -> bytes | None:
        delivery = broker.deliveries.get(int(key[2:])) if key[0] == "d" else None
        if delivery is not None and delivery.step == "two" and delivery.status == RUNNING:
            return None
        found: bytes | None = right(broker, key, encode_value)
        return found

    return part


def _answer_lost(right: Wrapped) -> Wrapped:
    def settle(self: Waits, waiter: Waiter, answer: Any, **options: Any) -> None:
        right(self, waiter, answer, **options)
        delivery, journal = waiter.delivery, self._work.journal
        if delivery is not None and delivery.ledger is not None and journal is not None:
            for number in range(len(delivery.ledger.answers)):
                journal.dirty.pop(parts.answer(delivery.id, number), None)

    return settle


def _answer_forgotten(right: Wrapped) -> Wrapped:
    def answer_part(delivery: Delivery, number: int, encode_value: Any) -> bytes | None:
        return None

    return answer_part


def _set_consumed_at_once(right: Wrapped) -> Wrapped:
    def collect(self: Broker, event: Event, expected: Any, buffer_id: Any, execution: Execution | None) -> Any:
        taken = right(self, event, expected, buffer_id, execution)
        if taken is not None and execution is not None:
            self.buffers.consume(execution.delivery.collected())
        return taken

    return collect


def _part_of_a_set(right: Wrapped) -> Wrapped:
    def take(self: Buffers, buffer_id: str, expected: Any) -> Any:
        for cls in set(expected):
            if not self._events[buffer_id].get(cls):
                return None
        return right(self, buffer_id, list(dict.fromkeys(expected)))

    return take


def _collect_leaves_the_newest(right: Wrapped) -> Wrapped:
    def take(self: Buffers, buffer_id: str, expected: Any) -> Any:
        for items in self._events.get(buffer_id, {}).values():
            items.rotate(1)
        return right(self, buffer_id, expected)

    return take


def _one_event_for_all(right: Wrapped) -> Wrapped:
    def matching(self: Waits, event: Event) -> list[Waiter]:
        return [waiter for waiter in self if waiter.event_type is type(event) and waiter.matches(event)]

    return matching


def _last_waiter_first(right: Wrapped) -> Wrapped:
    def matching(self: Waits, event: Event) -> list[Waiter]:
        found = {w.id: w for w in self if w.event_type is type(event) and w.matches(event)}
        return list(found.values())

    return matching


def _waiter_stays_open(right: Wrapped) -> Wrapped:
    def forget(self: Waits, waiter: Waiter) -> None:
        if waiter.timer is not None:
            right(self, waiter)

    return forget


def _prompt_repeated(right: Wrapped) -> Wrapped:
    return lambda self, waiter_id, prompt: False


def _worker_kept(right: Wrapped) -> Wrapped:
    def park(work: Work, execution: Execution) -> None:
        right(work, execution)
        if execution.delivery.status == PARKED and execution.open_waits == 1:
            work.queues[execution.delivery.step].running += 1

    return park


def _one_worker_too_many(right: Wrapped) -> Wrapped:
    def pop(self: StepQueue, again_only: bool = False) -> Delivery | None:
        self.num_workers += 1
        try:
            found: Delivery | None = right(self, again_only)
            return found
        finally:
            self.num_workers -= 1

    return pop


def _effects_repeated(right: Wrapped) -> Wrapped:
    def repeats(self: Work, execution: Execution, digest: bytes) -> bool:
        execution.replay = None
        return bool(right(self, execution, digest))

    return repeats


def _retry_reuses_effects(right: Wrapped) -> Wrapped:
    def retry(self: Work, execution: Execution, *args: Any) -> None:
        effects = execution.delivery.effects
        right(self, execution, *args)
        execution.delivery.effects = effects

    return retry


def _sequence_gap(right: Wrapped) -> Wrapped:
    def finish(self: Broker, execution: Execution, outputs: Any) -> Any:
        receipts = right(self, execution, outputs)
        self.sequence += not outputs
        return receipts

    return finish


def _entry_lost(right: Wrapped) -> Wrapped:
    def take(self: Journal) -> Any:
        dirty, entries = right(self)
        return dirty, entries[:8]

    return take


def _parked_runs_again(right: Wrapped) -> Wrapped:
    def place(self: Any) -> Iterator[None]:
        for delivery in self.restored:
            if delivery.status == PARKED:
                delivery.status = QUEUED
        yield from right(self)

    return place


def _dead_attempt_acts(right: Wrapped) -> Wrapped:
    return lambda self, execution: right(self, None)


def _back_off_lost(right: Wrapped) -> Wrapped:
    def arm(self: Work, due: float, item: Any) -> None:
        if not isinstance(item, Delivery):
            right(self, due, item)

    return arm


def _timed_out_twice(right: Wrapped) -> Wrapped:
    def settle(self: Waits, waiter: Waiter, answer: Any, **options: Any) -> None:
        right(self, waiter, answer, **options)
        if answer is TIMED_OUT and waiter.notify is not None:
            self._work.resume(waiter.notify, answer)

    return settle


def _undone_to_the_last_commit(right: Wrapped) -> Wrapped:
    def may_differ(self: LentValues, name: str, executions: Any) -> bool:
        return False

    return may_differ


def _state_in_place_lost(right: Wrapped) -> Wrapped:
    def encode_state(self: Journal) -> Any:
        for execution in self._executions:
            execution.lent = None
        return right(self)

    return encode_state


MUTANTS = [
    Mutant("equal-dropped", "an event equal to one in progress is dropped", Work, "enqueue", _equal_events_dropped),
    Mutant("finish-by-equality", "finishing one of two equal events ends both", Work, "drop", _finish_by_equality),
    Mutant("put-back-tail", "events put back go to the tail of the buffer", Buffers, "put_back", _put_back_at_the_tail),
    Mutant("retry-tail", "what runs again goes behind what came later", StepQueue, "push", _retry_at_the_tail),
    Mutant("deadline-restarted", "a restore gives a waiter its time anew", PartsReader, "waiter", _deadline_restarted),
    Mutant("second-in-progress", "a retry counts as in progress twice", Work, "retry", _second_in_progress),
    Mutant("step-missing", "snapshots leave running (sync) steps out", _snapshot, "_part", _step_missing),
    Mutant("answer-not-saved", "an answer is not in the commit that has it", Waits, "settle", _answer_lost),
    Mutant("answer-lost", "an answer is lost between resolve and finish", _snapshot, "_answer_part", _answer_forgotten),
    Mutant("set-lost", "a collected set is lost in a crash", Broker, "collect", _set_consumed_at_once),
    Mutant("part-of-a-set", "a set with two of a type is given with one", Buffers, "take", _part_of_a_set),
    Mutant("newest-first", "collect takes events out of arrival order", Buffers, "take", _collect_leaves_the_newest),
    Mutant("one-for-all", "one event resolves all waiters of an id", Waits, "matching", _one_event_for_all),
    Mutant("last-first", "the last waiter of an id is resolved first", Waits, "matching", _last_waiter_first),
    Mutant("waiter-stays", "a resolved waiter stays open", Waits, "forget", _waiter_stays_open),
    Mutant("prompt-repeated", "a prompt is asked again while it is open", Waits, "prompted", _prompt_repeated),
    Mutant("worker-kept", "a waiting step keeps its worker", parking, "park", _worker_kept),
    Mutant("too-many-workers", "more than num_workers run", StepQueue, "pop", _one_worker_too_many),
    Mutant("effects-repeated", "a run after a crash sends again", Work, "repeats", _effects_repeated),
    Mutant("retry-sends-nothing", "a retry does not repeat its sends", Work, "retry", _retry_reuses_effects),
    Mutant("sequence-gap", "a step without output takes a sequence", Broker, "finish", _sequence_gap),
    Mutant("entry-lost", "a commit drops the tail of a long batch", Journal, "take", _entry_lost),
    Mutant("parked-re-run", "a restore runs waiting steps again", PartsReader, "place", _parked_runs_again),
    Mutant("dead-acts", "an abandoned attempt still changes the run", Broker, "check", _dead_attempt_acts),
    Mutant("back-off-lost", "a restore forgets what is in back-off", Work, "arm", _back_off_lost),
    Mutant("told-twice", "a wait that times out is told twice", Waits, "settle", _timed_out_twice),
    Mutant("in-place-lost", "a value changed in place is not saved", Journal, "encode_state", _state_in_place_lost),
    Mutant(
        "undone-too-far", "what another step changed is undone", LentValues, "may_differ", _undone_to_the_last_commit
    ),
]


def report(mutants: Sequence[Mutant], catch: Callable[[Mutant, int], str]) -> int:
    """Try every defect and print what caught it; return 1 if nothing caught one."""
    examples = int(os.environ.get("MODEL_EXAMPLES", "500"))
    missed = 0
    for mutant in mutants:
        verdict = catch(mutant, examples)
        missed += not verdict
        sys.stdout.write(f"{mutant.name:20} {mutant.defect:56} {verdict or 'NOT CAUGHT'}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(mutants) - missed} of {len(mutants)} defects caught\n")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(report(MUTANTS, caught))
