"""The broker and the reference model side by side: what the machine's rules do to both, and compare at once."""

from __future__ import annotations

import contextvars
import json
import pickle
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, rule
from tests.unit.model.flow import TYPES, Flow
from tests.unit.model.records import DEAD, ENDED, TIMEOUT, Call, Ev, Log, Wait, Work
from tests.unit.model.reference import Model
from tests.unit.semantics.harness import HandClock

from stepwire.workflow import Context, Event
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.current import enter_execution
from stepwire.workflow.broker.deliveries.delivery import Execution, Waiter
from stepwire.workflow.broker.ledger import TIMED_OUT
from stepwire.workflow.broker.log.entries import RECEIVED
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.broker.outcome import FAILED
from stepwire.workflow.broker.progress import tick
from stepwire.workflow.broker.snapshot.restore import restore
from stepwire.workflow.broker.snapshot.writer import all_parts, registry_encoder, take_changes
from stepwire.workflow.broker.waits.default_names import default_buffer_id
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import DeadAttemptError, RunEndedError
from stepwire.workflow.events import WorkflowFailedEvent
from stepwire.workflow.hosting import plan_of, run_of

FLOW = Flow()
NAMES = TypeRegistry.of(Flow, plan_of(FLOW).steps)
ENCODE = registry_encoder(NAMES)


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


class Driven(RuleBasedStateMachine):
    """A broker, its model, the clock of both, and what a store holds of the run."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.parts: dict[str, bytes] = {}
        self.log: list[Log] = []
        self.snapshots: list[tuple[dict[str, bytes], bytes, float]] = []
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
        self.journal = Journal(NAMES)
        run_of(context).make_durable(self.journal)
        self.store = context.store
        self.listening: dict[int, int] = {}
        self.told = []
        self.dead = []

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
        return None if work is None else self.broker.deliveries[work.id].execution

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
            assert work is not None
            assert execution is not None
            got = self.state(work, execution, call)
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

    def state(self, work: Work, execution: Execution, call: Call) -> Any:
        def act() -> Any:
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
            self.model.set(call[1], call[2], work)
        elif call[0] == "append" and "bag" in self.model.state:
            self.model.get("bag", work).append(call[1])
        elif call[0] == "append":
            self.model.set("bag", [call[1]], work)
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

    def begin(self, timeout: int | None) -> None:
        span = None if timeout is None else self.unique(timeout)
        receipt = self.broker.begin(event_of(("Start", 0)), span)
        assert receipt is not None
        assert tuple(receipt) == self.model.begin(("Start", 0), span)
        self.settle_up()

    @rule()
    def commit(self) -> None:
        """Fold what changed, as a store does: it must be what a whole snapshot holds."""
        changes = take_changes(self.broker)
        for work in self.live():
            self.model.note_changes(work)
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
        self.snapshots.append((dict(self.parts), pickle.dumps(self.model), self.clock.now()))
        del self.snapshots[:-4]

    def load(self, pick: int, *, fork: bool, retry: bool = False) -> None:
        parts, model, saved_at = self.snapshots[max(pick, -len(self.snapshots))]
        self.open_broker(parts, saved_at=saved_at, fork=fork, retry_of="first" if retry else "")
        self.model = pickle.loads(model)
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
                if key[0] not in "daxuw" and not (key[0] == "b" and int(key[2:]) in held)
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

    def remember(self, work: Work) -> None:
        execution = self.execution(work)
        assert execution is not None
        self.dead.append(execution)

    def poison(self, ids: list[int]) -> None:
        assert sorted(delivery.id for delivery in self.broker.work.poisoned or ()) == sorted(ids)
        self.broker.work.poisoned = None
        if ids:
            event = WorkflowFailedEvent(step="", error_type="CRASH_LOOP", message="", attempts=5)
            self.broker.end(FAILED, event)
            self.model.end(FAILED, "WorkflowFailedEvent", None, "")
