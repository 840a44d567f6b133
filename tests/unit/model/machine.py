"""A state machine that drives the broker and the reference model side by side, and compares them after every rule."""

from __future__ import annotations

import contextvars
import copy
import json
import math
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.model.flow import ROUTES, TYPES, WORKERS, Flow
from tests.unit.model.reference import DEAD, ENDED, TIMEOUT, Call, Ev, Log, Model, Wait, Work
from tests.unit.semantics.harness import HandClock

from stepwire.workflow import Context, Event
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.current import enter_execution
from stepwire.workflow.broker.default_names import default_buffer_id
from stepwire.workflow.broker.delivery import Execution, Waiter
from stepwire.workflow.broker.entries import RECEIVED
from stepwire.workflow.broker.journal import Journal
from stepwire.workflow.broker.ledger import TIMED_OUT
from stepwire.workflow.broker.losses import lose
from stepwire.workflow.broker.outcome import CANCELLED, FAILED
from stepwire.workflow.broker.progress import tick
from stepwire.workflow.broker.restore import restore
from stepwire.workflow.broker.snapshot import all_parts, registry_encoder, take_changes
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import DeadAttemptError, RunEndedError, StepDoesNotAcceptError, UnknownStepError
from stepwire.workflow.events import WorkflowCancelledEvent, WorkflowFailedEvent
from stepwire.workflow.hosting import plan_of, run_of

FLOW = Flow()
NAMES = TypeRegistry.of(Flow, plan_of(FLOW).steps)
ENCODE = registry_encoder(NAMES)

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


def event_of(event: Ev) -> Event:
    return TYPES[event[0]](n=event[1])


def pair(event: Event) -> Ev:
    return type(event).__name__, event.n


def answer_of(answer: Any) -> Any:
    if answer is TIMED_OUT:
        return TIMEOUT
    if isinstance(answer, DeadAttemptError):
        return DEAD
    return ENDED if isinstance(answer, RunEndedError) else pair(answer)


class BrokerMachine(RuleBasedStateMachine):
    """Every rule is a transition of the broker, or what a process does around it: commit, crash, release, fork."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.parts: dict[str, bytes] = {}
        self.log: list[Log] = []
        self.snapshots: list[tuple[dict[str, bytes], Model, float]] = []
        self.tokens = self.ticks = 0
        self.told: list[tuple[int, Any]] = []
        self.dead: list[Execution] = []
        self.open_broker()
        self.model = Model(self.clock.now())

    def open_broker(
        self, parts: dict[str, bytes] | None = None, *, saved_at: float = 0.0, fork: bool = False, retry_of: str = ""
    ) -> None:
        context: Context[Any] = Context(FLOW)
        self.broker: Broker = run_of(context).broker
        self.broker.work.clock = self.clock
        if parts is not None:
            parsed = {key: json.loads(part) for key, part in parts.items()}
            restore(self.broker, parsed, NAMES, saved_at=saved_at, fork=fork, retry_of=retry_of)
        self.journal = Journal(NAMES, lambda: None)
        run_of(context).make_durable(self.journal)
        self.store = context.store
        self.listening: dict[int, int] = {}
        self.told = []
        self.dead = []

    # -- helpers ------------------------------------------------------------------------------------------------------

    def unique(self, seconds: float) -> float:
        """Return a span that ends at no other one's end, so that the order of what falls due is clear."""
        self.ticks += 1
        return seconds + self.ticks / 4096

    def token(self) -> int:
        self.tokens += 1
        return self.tokens

    def some_work(self, pick: int, *, replaying: bool) -> Work | None:
        found = [work for work in self.model.works.values() if work.live and (work.pos < len(work.script)) == replaying]
        running = [work for work in found if work.status == "running"]
        found = running or found
        return found[pick % len(found)] if found else None

    def live(self) -> list[Work]:
        return [work for work in self.model.works.values() if work.live]

    def execution(self, work: Work | None) -> Execution | None:
        return None if work is None else self.broker.executions[work.id]

    def settle_up(self) -> None:
        """Let both clocks stop or go on, and hand over what waits were told."""
        tick(self.broker)
        self.model.tick()
        resumed = self.broker.work.take_resumed()
        before = len(self.told)
        for notify, answer in resumed:
            notify(answer)
        told, self.model.resumed = self.model.resumed, []
        assert sorted(self.told[before:], key=repr) == sorted(told, key=repr), "waits were told something else"

    def make(self, work: Work | None, call: Call) -> Any:
        """Make one Context call of a body, or from outside, on both; return what it got."""
        execution = self.execution(work)
        kind = call[0]
        got: Any
        if kind == "send":
            got = tuple(self.broker.accept(event_of(call[1]), call[2], execution, RECEIVED if work is None else 3))
            assert got == self.model.accept(call[1], call[2], work)
        elif kind == "write":
            got = tuple(self.broker.write(event_of(call[1]), execution))
            assert got == self.model.write(call[1], work)
        elif kind == "collect":
            _, event, expected, buffer = call
            types = [TYPES[name] for name in expected]
            taken = self.broker.collect(event_of(event), types, buffer, execution)
            got = None if taken is None else [pair(each) for each in taken]
            assert got is None or [name for name, _ in got] == list(expected), "collected part of a set"
            buffer = buffer or default_buffer_id("" if work is None else work.step, set(types))
            assert got == self.model.collect(event, expected, buffer, work)
        elif kind == "wait":
            got = self.wait(work, execution, call)
        else:
            got = self.state(execution, call)
        self.settle_up()
        return got

    def wait(self, work: Work | None, execution: Execution | None, call: Call) -> Any:
        _, id, name, n, prompt, timeout = call
        requirements = {} if n is None else {"n": n}
        found = self.broker.wait(
            execution,
            id,
            None if name is None else TYPES[name],
            requirements,
            None if prompt is None else event_of(prompt),
            timeout,
        )
        token = self.token()
        known = self.model.wait(work, call, token)
        if isinstance(found, Waiter):
            assert isinstance(known, Wait)
            assert found.number == known.number
            found.notify = lambda answer: self.hear(token, answer)
            return None
        assert answer_of(found) == known
        return known

    def hear(self, token: int, answer: Any) -> None:
        assert token not in (each for each, _ in self.told), "a wait was told twice"
        self.told.append((token, answer_of(answer)))

    def state(self, execution: Execution | None, call: Call) -> Any:
        def act() -> Any:
            if execution is not None:
                enter_execution(execution)
            if call[0] == "set":
                self.store.apply([(call[1], call[2])])
            elif call[0] == "append":
                bag = self.store.peek("bag", None)
                if bag is None:
                    self.store.apply([("bag", [call[1]])])
                else:
                    bag.append(call[1])
            return self.store.peek("k0", None)

        got = contextvars.copy_context().run(act)
        if call[0] == "set":
            self.model.state[call[1]] = call[2]
        elif call[0] == "append":
            self.model.state.setdefault("bag", []).append(call[1])
        assert got == self.model.state.get("k0")
        return got

    def act(self, pick: int, call: Call) -> None:
        """Make a new call in some body."""
        work = self.some_work(pick, replaying=False)
        if work is None:
            return
        before = len(self.model.log)
        got = self.make(work, call)
        if self.model.outcome is None:
            work.script.append((call, got))
            work.pos += 1
        assert len(self.model.log) >= before

    # -- the life of the run ------------------------------------------------------------------------------------------

    @initialize(timeout=st.sampled_from([None, 40, 400]), received=st.lists(events, max_size=4))
    def start(self, timeout: int | None, received: list[Ev]) -> None:
        self.begin(timeout)
        for event in received:
            self.make(None, ("send", event, None))
        self.dispatch(durable=True)

    def begin(self, timeout: int | None) -> None:
        span = None if timeout is None else self.unique(timeout)
        receipt = self.broker.begin(event_of(("Start", 0)), span)
        assert receipt is not None
        assert tuple(receipt) == self.model.begin(("Start", 0), span)
        self.settle_up()

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

    def remember(self, work: Work) -> None:
        execution = self.execution(work)
        assert execution is not None
        self.dead.append(execution)

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

    def poison(self, ids: list[int]) -> None:
        assert sorted(delivery.id for delivery in self.broker.work.poisoned or ()) == sorted(ids)
        self.broker.work.poisoned = None
        if ids:
            event = WorkflowFailedEvent(step="", error_type="CRASH_LOOP", message="", attempts=5)
            self.broker.end(FAILED, event)
            self.model.end(FAILED, "WorkflowFailedEvent", None, "")

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

    @rule()
    def commit(self) -> None:
        """Fold what changed, as a store does: it must be what a whole snapshot holds."""
        changes = take_changes(self.broker)
        self.parts = {key: part for key, part in {**self.parts, **changes.parts}.items() if key not in changes.deleted}
        self.log += [log_of(entry) for entry in changes.entries]
        whole = all_parts(self.broker, ENCODE)
        for parts in (whole, self.parts):
            assert parts.keys() == whole.keys(), f"parts differ: {parts.keys() ^ whole.keys()}"
        # A wait from outside takes a number and is not saved.
        saved = [int(key[2:]) for key in whole if key[0] in "bw"]
        assert max(saved, default=0) <= json.loads(self.parts["h"])["nums"] <= self.broker.work.numbers
        for key, part in whole.items():
            assert reading(self.parts[key]) == reading(part), f"part {key[0]} is stale"
        self.snapshots.append((dict(self.parts), copy.deepcopy(self.model), self.clock.now()))
        del self.snapshots[:-4]

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

    def load(self, pick: int, *, fork: bool, retry: bool = False) -> None:
        parts, model, saved_at = self.snapshots[max(pick, -len(self.snapshots))]
        self.open_broker(parts, saved_at=saved_at, fork=fork, retry_of="first" if retry else "")
        self.model = copy.deepcopy(model)
        if fork:
            for work in self.model.works.values():
                lost = json.loads(parts[f"d/{work.id}"])["l"]
                assert work.lost - lost in (0, 1)  # see `reading`
                work.lost = lost
        self.model.numbers = json.loads(parts["h"])["nums"]
        left = self.model.left
        poisoned = self.model.restored(self.clock.now(), saved_at, fork=fork, retry=retry)
        self.parts = {} if fork else dict(parts)
        if left and not retry:  # no process loads an ended run as itself, and if it did, it would pass these over
            held = {item.number for work in left.values() for item in work.held()}
            self.parts = {
                key: part
                for key, part in self.parts.items()
                if key[0] not in "daxw" and not (key[0] == "b" and int(key[2:]) in held)
            }
        if self.parts and self.model.outcome is not None:
            head = json.loads(self.parts["h"])
            head.pop("left", None)
            self.parts["h"] = json.dumps(head).encode()
        self.log = list(self.model.log)
        self.snapshots = []
        if fork:
            for key in parts:
                self.journal.touch(key)
        self.poison(poisoned)
        self.settle_up()
        self.commit()

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        self.conserved()
        self.the_same()
        self.within_workers()
        self.waits_open()
        self.log_contiguous()

    def conserved(self) -> None:
        """Each accepted delivery, and each collected event, is in exactly one place."""
        broker, model = self.broker, self.model
        accepted = set(range(1, broker.work.delivery_ids + 1))
        assert broker.deliveries.keys() == (accepted - model.through) | model.left.keys(), (
            "a delivery is lost, or done twice"
        )
        queued = [delivery.id for queue in broker.queues.values() for delivery in queue]
        assert len(queued) == len(set(queued)), "a delivery is queued twice"
        expected = {work.id for work in model.works.values() if work.status in ("queued", "ready")}
        assert set(queued) == expected
        held = [item.number for delivery in broker.deliveries.values() for item in delivery.collected()]
        free = [item.number for item in broker.buffers]
        assert len(held + free) == len(set(held + free)), "a collected event is in two places"
        assert sorted(held + free) == sorted(broker.buffers.numbers())
        assert not model.consumed & set(held + free), "a consumed event is back"
        assert model.in_order(model.buffers) == in_order(broker), "buffered events are in another order"

    def the_same(self) -> None:
        """The broker is what the model is."""
        broker, model = self.broker, self.model
        assert broker.sequence == model.sequence
        assert broker.work.delivery_ids == model.delivery_ids
        assert broker.work.numbers == model.numbers
        assert broker.asked == model.asked
        assert (broker.limit.seconds, broker.limit.remaining, broker.limit.due) == (
            model.timeout,
            model.remaining,
            model.due,
        )
        assert (broker.outcome.status if broker.outcome else None) == model.outcome
        assert broker.store.values() == model.state
        for delivery in broker.deliveries.values():
            work = model.works.get(delivery.id) or model.left[delivery.id]
            assert (delivery.step, pair(delivery.event), delivery.sequence) == (work.step, work.event, work.sequence)
            assert delivery.status == work.status
            assert (delivery.attempt, delivery.failures, delivery.lost) == (work.attempt, work.failures, work.lost)
            assert (delivery.first_started, delivery.due) == (work.first_started, work.due)
            assert (delivery.execution is not None) == work.live
            held = sorted(item.number for item in delivery.collected())
            assert held == sorted(item.number for item in work.held())
        assert broker.executions.keys() == {work.id for work in model.works.values() if work.live}

    def within_workers(self) -> None:
        for name, queue in self.broker.queues.items():
            running = sum(
                delivery.step == name and delivery.execution is not None and delivery.status == "running"
                for delivery in self.broker.deliveries.values()
            )
            assert queue.running == running <= WORKERS[name]
        assert self.broker.work.parked == sum(work.status == "parked" for work in self.model.works.values())

    def waits_open(self) -> None:
        found = [
            (
                waiter.number,
                waiter.id,
                waiter.event_type.__name__ if waiter.event_type else None,
                waiter.requirements.get("n"),
                pair(waiter.prompt) if waiter.prompt else None,
                waiter.due,
                waiter.delivery.id if waiter.delivery else None,
                waiter.index,
                waiter.notify is not None,
            )
            for waiter in self.broker.waits
        ]
        assert found == [
            (w.number, w.id, w.type, w.n, w.prompt, w.due, w.work, w.index, w.token is not None)
            for w in self.model.waits.values()
        ]

    def log_contiguous(self) -> None:
        log = self.log + [log_of(entry) for entry in self.journal.entries]
        assert [entry[0] for entry in log] == list(range(1, len(log) + 1)), "the log has a gap"
        assert log == self.model.log


def rare_path() -> None:
    """Drive the machine where chance seldom leads. First: a body collects a set, runs again and collects another."""
    machine = BrokerMachine()
    machine.start(None, [])
    machine.act(0, ("collect", ("A", 0), ("A",), "x"))
    machine.crash(False, -1)
    machine.act(0, ("collect", ("A", 0), ("A",), "x"))
    machine.commit()
    machine.crash(False, -1)
    machine.diverge(0, ("A", 0), ("A", "B"))
    machine.holds()
    an_answer_is_replayed()
    a_retry_sends_again()
    a_long_batch_is_committed()
    a_value_changes_in_place()


def an_answer_is_replayed() -> None:
    """A step that was answered crashes before it finishes, and waits again."""
    machine = BrokerMachine()
    machine.start(None, [])
    machine.act(0, ("wait", "p", "Answer", None, None, None))
    machine.receive(("Answer", 0))
    machine.dispatch(durable=True)
    machine.crash(False, -1)
    machine.dispatch()
    machine.replay(0)
    machine.holds()


def a_retry_sends_again() -> None:
    """A step sends, writes and fails; what it does again when it runs again has effects."""
    machine = BrokerMachine()
    machine.start(None, [])
    machine.act(0, ("send", ("B", 0), None))
    machine.act(0, ("write", ("B", 0)))
    machine.fail(0, 0)
    for _ in range(2):
        machine.replay(0)
        machine.holds()


def a_long_batch_is_committed() -> None:
    """A step writes much before a commit."""
    machine = BrokerMachine()
    machine.start(None, [])
    for number in range(20):
        machine.act(0, ("write", ("B", number)))
    machine.commit()
    machine.holds()


def a_value_changes_in_place() -> None:
    """A step takes a list out of the state that is durable, and appends to it."""
    machine = BrokerMachine()
    machine.start(None, [])
    for number in range(2):
        machine.act(0, ("append", number))
        machine.commit()
    machine.holds()


def reading(part: bytes) -> Any:
    """Return what a restore reads: a delivery that ran, or was to go on, counts as lost, or queued, then."""
    value = json.loads(part)
    if isinstance(value, dict) and value.get("st") in ("running", "ready"):
        value["l"] += value["st"] == "running"
        value["st"] = "queued"
    if isinstance(value, dict) and "nums" in value:
        del value["nums"]
    return value


def log_of(entry: Any) -> Log:
    return entry.sequence, entry.kind, entry.type, json.loads(entry.data).get("n"), entry.step, entry.delivered


def in_order(broker: Broker) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for item in broker.buffers:
        found.setdefault((item.buffer_id, type(item.event).__name__), []).append(item.number)
    return found
