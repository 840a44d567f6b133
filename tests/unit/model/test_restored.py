"""A run restored from any snapshot reaches the results that the uninterrupted run could reach.

The bodies here are such that every order of their calls gives one result: what is in the log, whatever the order, and
what is left in the buffers. So a lost or repeated event, answer, set or effect shows as another result.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.model.driven import event_of, log_of
from tests.unit.model.flow import TYPES
from tests.unit.model.machine import BrokerMachine
from tests.unit.model.records import Call, Ev

from stepwire.workflow.broker.deliveries.delivery import Delivery, Execution, Waiter
from stepwire.workflow.broker.log.entries import RECEIVED, SENT, STREAM
from stepwire.workflow.broker.snapshot.writer import take_changes

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "150")) // 15
FAN_OUT = 4

Body = Generator[Call, Any, list[Ev]]
Result = tuple[Counter[Any], list[Any]]


def body(delivery: Delivery) -> Body:
    """Return the calls of a step's body; `Untaken` marks what happened."""
    name, n = type(delivery.event).__name__, getattr(delivery.event, "n", 0)
    if name == "Start":
        for i in range(FAN_OUT):
            yield "send", ("A", i % 2)
        answer = yield "wait", "p", ("Ask", 7), 50
        return [("Untaken", 10 + answer.n)]
    if name == "A" and delivery.step == "two":
        yield "write", ("Untaken", 20)
        if n and not delivery.failures:
            yield "fail", 3
        return [("B", n)]
    if (name, delivery.step) in (("A", "one"), ("B", "three")):
        taken = yield "collect", (name, n), ("A", "B")
        if taken is not None:
            yield "send", ("Untaken", 30)
        return []
    if name == "B":
        yield "send", ("Untaken", 40)
    return []


class Driver(BrokerMachine):
    """Run the bodies in an order that a random number generator chooses."""

    def prepare(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bodies: dict[int, tuple[Execution, Body]] = {}
        self.next: dict[int, Any] = {}

    def one_transition(self) -> bool:
        """Do something that can happen; False when nothing can any more."""
        started = self.broker.work.start_next(self.broker)
        resumed = self.broker.work.take_resumed()
        for notify, answer in resumed:
            notify(answer)
        if started is not None:
            self.bodies[started.delivery.id] = started, body(started.delivery)
            self.next[started.delivery.id] = None
        able = sorted(self.next)
        if able:
            self.go_on(self.random.choice(able))
        elif (due := self.broker.next_due()) is not None and not self.broker.waits.outside:
            self.clock.time = due
            self.broker.expire()
        elif self.broker.waits.outside:
            self.broker.accept(event_of(("Answer", 1)), kind=RECEIVED)
        else:
            return started is not None or bool(resumed)
        return True

    def go_on(self, id: int) -> None:
        execution, calls = self.bodies[id]
        value = self.next.pop(id)
        try:
            call = calls.send(value)
        except StopIteration as stop:
            del self.bodies[id]
            self.broker.finish(execution, [event_of(event) for event in stop.value])
            return
        if call[0] == "fail":
            del self.bodies[id]
            self.broker.retry(execution, call[1])
            return
        got: Any = None
        if call[0] == "send":
            self.broker.accept(event_of(call[1]), None, execution, SENT)
        elif call[0] == "write":
            self.broker.write(event_of(call[1]), execution)
        elif call[0] == "collect":
            got = self.broker.collect(event_of(call[1]), [TYPES[name] for name in call[2]], "x", execution)
        else:
            got = self.broker.wait(execution, call[1], TYPES["Answer"], {}, event_of(call[2]), call[3])
            if isinstance(got, Waiter):
                got.notify = lambda answer: self.next.update({id: answer})
                return
        self.next[id] = got

    def fold(self) -> None:
        changes = take_changes(self.broker)
        self.parts = {key: part for key, part in {**self.parts, **changes.parts}.items() if key not in changes.deleted}
        self.log += [log_of(entry) for entry in changes.entries]

    def result(self) -> Result:
        self.fold()
        assert not self.broker.deliveries
        left = sorted(item.type.__name__ for item in self.broker.buffers)
        return Counter(entry[1:4] for entry in self.log), left


@pytest.mark.timeout(0 if "MODEL_EXAMPLES" in os.environ else 120)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 1 << 30))
def test_a_restored_run_reaches_what_the_whole_run_reaches(seed: int) -> None:
    whole = Driver()
    whole.prepare(seed)
    whole.broker.begin(event_of(("Start", 0)), None)
    saved = []
    while True:
        whole.fold()
        saved.append((dict(whole.parts), list(whole.log), whole.clock.now()))
        if not whole.one_transition():
            break
    expected = whole.result()
    assert expected == known()
    for parts, log, saved_at in saved:
        again = Driver()
        again.clock.time = saved_at
        again.open_broker(parts, saved_at=saved_at)
        again.prepare(seed + 1)
        again.parts, again.log = dict(parts), list(log)
        while again.one_transition():
            pass
        assert again.result() == expected, f"another result from the snapshot at {json.loads(parts['h'])['seq']}"


def known() -> Result:
    """Return the one result, counted by hand: 4 A and 4 B make 4 sets; half of the A fail once."""
    half = FAN_OUT // 2
    log: Counter[Any] = Counter()
    log[RECEIVED, "Start", 0] = log[STREAM, "Ask", 7] = log[RECEIVED, "Answer", 1] = log[SENT, "Untaken", 11] = 1
    for n in (0, 1):
        log[SENT, "A", n] = log[SENT, "B", n] = half
    log[STREAM, "Untaken", 20] = FAN_OUT + half
    log[SENT, "Untaken", 30] = log[SENT, "Untaken", 40] = FAN_OUT
    return log, []
