"""A state machine that drives the broker and the reference model side by side, and compares them after every rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.unit.model.driven import event_of
from tests.unit.model.flow import ROUTES, TYPES, WORKERS
from tests.unit.model.invariants import Checked
from tests.unit.model.records import Call, Ev

from stepwire.workflow.broker.deliveries.losses import lose
from stepwire.workflow.broker.outcome import CANCELLED, FAILED
from stepwire.workflow.errors import DeadAttemptError, RunEndedError, StepDoesNotAcceptError, UnknownStepError
from stepwire.workflow.events import WorkflowCancelledEvent, WorkflowFailedEvent

picks = st.integers(0, 11)
small = st.integers(0, 1)
"""Few values, so that equal events are common."""
events = st.tuples(st.sampled_from(["A", "B", "A", "B", "Answer", "Ask", "Untaken"]), small)
collected = st.tuples(st.sampled_from(["A", "B"]), small)
expectations = st.sampled_from([("A", "B"), ("B", "A"), ("A", "A"), ("A", "B", "A"), ("A",), ("B",)])
buffer_ids = st.sampled_from(["x", "x", None])
outputs = st.lists(st.tuples(st.sampled_from(["A", "B", "Ask"]), small), max_size=2)
prompts = st.sampled_from([None, None, ("Ask", 0), ("Ask", 1)])
waits = st.tuples(
    st.sampled_from(["p", "p", "q"]), st.sampled_from(["Answer", "Answer", "B"]), st.sampled_from([None, 0, 1]), prompts
)
timeouts = st.sampled_from([None, 0, 5, 30])


class BrokerMachine(Checked):
    """Every rule is a transition of the broker, or what a process does around it: commit, crash, release, fork."""

    # -- the life of the run ------------------------------------------------------------------------------------------

    @initialize(timeout=st.sampled_from([None, 40, 400]), received=st.lists(events, max_size=4))
    def start(self, timeout: int | None, received: list[Ev]) -> None:
        self.begin(timeout)
        for event in received:
            self.make(None, ("send", event, None))
        self.dispatch(durable=True)

    @precondition(lambda self: self.model.outcome is not None)
    @rule(timeout=st.sampled_from([None, 40]))
    def start_anew(self, timeout: int | None) -> None:
        """Start a new run from the snapshot of an ended one (S16)."""
        with pytest.raises(RunEndedError):
            self.broker.accept(event_of(("A", 0)))
        with pytest.raises(RunEndedError):
            self.broker.write(event_of(("A", 0)))
        self.commit()
        self.load(-1, fork=True)
        self.begin(timeout)

    @precondition(lambda self: self.broker.outcome is not None and self.broker.outcome.left is not None)
    @rule()
    def retry(self) -> None:
        """Go on in another run from what the ended one had in progress."""
        self.commit()
        self.load(-1, fork=True, retry=True)

    @precondition(lambda self: self.model.outcome is None)
    @rule(pick=picks, failed=st.booleans(), sure=picks)
    def end(self, pick: int, failed: bool, sure: int) -> None:
        """Cancel the run, or let a step fail it."""
        if sure:
            return  # rarely: little happens after it
        live = self.live()
        if failed and live:
            work = live[pick % len(live)]
            self.remember(work)
            event = WorkflowFailedEvent(step=work.step, error_type="E", message="", attempts=1)
            self.broker.end(FAILED, event)
            self.model.end(FAILED, "WorkflowFailedEvent", None, "")
        else:
            self.broker.end(CANCELLED, WorkflowCancelledEvent(reason=""))
            self.model.end(CANCELLED, "WorkflowCancelledEvent", None, "")
        self.settle_up()

    # -- executions ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.outcome is None)
    @rule(durable=st.booleans())
    def dispatch(self, durable: bool = False) -> None:
        """Start all that can start, each step in the order of its deliveries (S4); often commit then: the membrane."""
        started: dict[str, list[int]] = {step: [] for step in WORKERS}
        while (execution := self.broker.work.start_next(self.broker)) is not None:
            started[execution.delivery.step].append(execution.delivery.id)
        for step in WORKERS:
            works = self.model.startable(step)
            assert started[step] == [work.id for work in works if not work.live], f"{step} starts in another order"
            for work in works:
                self.model.start(work)
        self.settle_up()
        if durable:
            self.commit()

    @precondition(lambda self: self.live())
    @rule(pick=picks, returned=outputs, stop=picks)
    def finish(self, pick: int, returned: list[Ev], stop: int) -> None:
        work = self.some_work(pick, replaying=False)
        if work is None:
            return
        if not stop and not pick:
            returned = [*returned, ("Stop", 0), ("A", 0)]
        execution = self.execution(work)
        assert execution is not None
        self.dead.append(execution)
        receipts = self.broker.finish(execution, [event_of(event) for event in returned])
        assert [tuple(receipt) for receipt in receipts] == self.model.finish(work, returned)
        self.settle_up()

    @precondition(lambda self: self.live())
    @rule(pick=picks, delay=st.sampled_from([0, 1, 10]))
    def fail(self, pick: int, delay: int) -> None:
        """A body raises and its policy tries again after `delay` (S2)."""
        live = self.live()
        work = live[pick % len(live)]
        execution = self.execution(work)
        assert execution is not None
        self.dead.append(execution)
        span = self.unique(delay) if delay else 0
        self.broker.retry(execution, span)
        self.model.retry(work, span)
        self.settle_up()
        if not delay:
            self.dispatch()

    @precondition(lambda self: self.live())
    @rule(pick=picks)
    def lose(self, pick: int) -> None:
        """The loop cancels the task of a body: its delivery runs again as after a crash."""
        live = self.live()
        work = live[pick % len(live)]
        execution = self.execution(work)
        assert execution is not None
        self.dead.append(execution)
        lose(self.broker.work, execution)
        self.poison([work.id] if self.model.lose(work) else [])
        self.settle_up()

    @precondition(lambda self: self.dead and self.model.outcome is None)
    @rule(pick=picks)
    def call_of_a_dead_attempt(self, pick: int) -> None:
        """What goes on after its attempt was abandoned changes nothing; the invariants see to that."""
        execution = self.dead[pick % len(self.dead)]
        broker, event = self.broker, event_of(("A", 0))
        for call in (
            lambda: broker.accept(event, None, execution),
            lambda: broker.write(event, execution),
            lambda: broker.collect(event, [TYPES["A"]], "x", execution),
            lambda: broker.wait(execution, "p", TYPES["Answer"], {}, None, None),
            lambda: broker.finish(execution, [event]),
            lambda: broker.retry(execution, 0),
        ):
            try:
                call()
            except DeadAttemptError:
                continue
            raise AssertionError("a dead attempt changed the run")

    # -- calls of bodies ----------------------------------------------------------------------------------------------

    @precondition(lambda self: any(work.pos < len(work.script) for work in self.live()))
    @rule(pick=picks)
    def replay(self, pick: int) -> None:
        """A body that runs again makes the call that its first execution made."""
        work = self.some_work(pick, replaying=True)
        assert work is not None
        call, first = work.script[work.pos]
        work.pos += 1
        counters = self.broker.sequence, self.broker.work.delivery_ids, self.broker.work.numbers
        got = self.make(work, call)
        if work.faithful:
            after = self.broker.sequence, self.broker.work.delivery_ids, self.broker.work.numbers
            assert after == counters, "a call that was made again has a second effect"
            assert call[0] != "collect" or got == first, "a call that was made again got something else"

    @precondition(lambda self: any(work.pos < len(work.script) for work in self.live()))
    @rule(pick=picks, event=collected, expected=expectations)
    def diverge(self, pick: int, event: Ev, expected: tuple[str, ...]) -> None:
        """A body that runs again goes another way from here on; where it collected, it collects another set."""
        work = self.some_work(pick, replaying=True)
        assert work is not None
        call = work.script[work.pos][0]
        del work.script[work.pos :]
        work.faithful = False
        if call[0] == "collect":
            # What goes back must be ahead of what came in the meantime.
            for name in ("A", "B"):
                self.make(None, ("collect", (name, 1), (name,) * 9, call[3] or "x"))
            other: Call = ("collect", event, expected, call[3])
            work.script.append((other, self.make(work, other)))
            work.pos += 1

    @precondition(lambda self: self.live())
    @rule(pick=picks, event=events)
    def send(self, pick: int, event: Ev) -> None:
        self.act(pick, ("send", event, None))

    @precondition(lambda self: self.live())
    @rule(pick=picks, event=events)
    def write(self, pick: int, event: Ev) -> None:
        self.act(pick, ("write", event))

    @precondition(lambda self: self.live())
    @rule(pick=picks, event=collected, expected=expectations, buffer=buffer_ids)
    def collect(self, pick: int, event: Ev, expected: tuple[str, ...], buffer: str | None) -> None:
        self.act(pick, ("collect", event, expected, buffer))

    @precondition(lambda self: self.live())
    @rule(pick=picks, wait=waits, timeout=timeouts)
    def wait_for(self, pick: int, wait: tuple[Any, ...], timeout: int | None) -> None:
        self.act(pick, ("wait", *wait, None if timeout is None else self.unique(timeout)))

    @precondition(lambda self: self.live())
    @rule(pick=picks, seconds=st.sampled_from([1, 20]))
    def sleep(self, pick: int, seconds: int) -> None:
        self.act(pick, ("wait", "sleep", None, None, None, self.unique(seconds)))

    @precondition(lambda self: self.live())
    @rule(pick=picks, key=st.sampled_from(["k0", "k1", "append", "get"]), value=picks)
    def use_state(self, pick: int, key: str, value: int) -> None:
        self.act(pick, ("append", value) if key == "append" else ("get",) if key == "get" else ("set", key, value))

    @precondition(lambda self: any(wait.token is not None for wait in self.model.waits.values()))
    @rule(pick=picks)
    def give_up(self, pick: int) -> None:
        """The await of an open wait is cancelled."""
        heard = [wait for wait in self.model.waits.values() if wait.token is not None]
        wait = heard[pick % len(heard)]
        waiter = self.broker.waits.get(wait.number)
        assert waiter is not None
        token = self.token()
        work = None if wait.work is None else self.model.works[wait.work]
        regains = self.broker.waits.abandon(waiter, self.execution(work), lambda answer: self.hear(token, answer))
        assert regains == self.model.give_up(wait, token)
        self.settle_up()

    # -- from outside -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.outcome is None)
    @rule(event=events)
    def receive(self, event: Ev) -> None:
        self.make(None, ("send", event, None))

    @precondition(lambda self: self.model.outcome is None)
    @rule(event=events, step=st.sampled_from([*WORKERS, "none"]))
    def receive_for_step(self, event: Ev, step: str) -> None:
        if step in ROUTES.get(event[0], ()):
            self.make(None, ("send", event, step))
            return
        with pytest.raises(UnknownStepError if step == "none" else StepDoesNotAcceptError):
            self.broker.accept(event_of(event), step)

    @precondition(lambda self: self.model.outcome is None)
    @rule(wait=waits)
    def wait_outside(self, wait: tuple[Any, ...]) -> None:
        self.make(None, ("wait", *wait, None))

    @rule(event=collected, expected=expectations, buffer=buffer_ids)
    def collect_outside(self, event: Ev, expected: tuple[str, ...], buffer: str | None) -> None:
        self.make(None, ("collect", event, expected, buffer))

    @precondition(lambda self: self.model.outcome is None)
    @rule(seconds=st.integers(0, 12), to_next=st.booleans())
    def advance(self, seconds: int, to_next: bool) -> None:
        due = self.broker.next_due()
        if to_next and due is not None:
            seconds = max(0, math.ceil(due - self.clock.now()))
        self.clock.time += seconds
        self.model.now = self.clock.now()
        assert not self.broker.expire()
        self.model.expire()
        self.settle_up()

    @rule(after=picks)
    def read(self, after: int) -> None:
        """Read the log from a sequence."""
        entries = [entry for entry in self.log if entry[0] > after]
        assert [entry[0] for entry in entries] == list(range(after + 1, len(self.log) + 1)), "the log has a gap"
        assert entries == self.model.log[after : len(self.log)]

    # -- processes ----------------------------------------------------------------------------------------------------

    @rule(fork=st.sampled_from([False, False, True]), pick=st.sampled_from([-1, -1, -1, -2, -4]))
    def crash(self, fork: bool, pick: int) -> None:
        """Lose the process; load the last snapshot, or another, as the same run or as a fork, and go on."""
        self.load(pick, fork=fork)
        if self.model.outcome is None:
            self.dispatch()

    @rule(seconds=st.integers(0, 12))
    def release(self, seconds: int) -> None:
        """Stop in order, be away for a while, and load again."""
        self.broker.freeze()
        self.model.freeze()
        if self.model.outcome is None:
            try:
                self.broker.accept(event_of(("A", 0)))
            except RunEndedError:
                pass
            else:
                raise AssertionError("a frozen run took an event")
        self.settle_up()
        self.commit()
        self.clock.time += seconds
        self.load(-1, fork=False)
