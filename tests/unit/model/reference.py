"""The reference model: what a run is, in plain dicts and lists, written from the semantics and not from the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.unit.model.flow import ROUTES, WORKERS
from tests.unit.model.model_state import ModelState
from tests.unit.model.records import (
    DEAD,
    ENDED,
    MAX_LOST,
    RECEIVED,
    SENT,
    STREAM,
    TERMINAL,
    TIMEOUT,
    Call,
    Ev,
    Item,
    Log,
    Wait,
    Work,
)


class Model(ModelState):
    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now
        self.sequence = self.delivery_ids = self.numbers = 0
        self.through: set[int] = set()
        """Deliveries that are finished, or went with their run."""
        self.buffers: list[Item] = []
        """In the order in which `collect` takes them."""
        self.consumed: set[int] = set()
        self.waits: dict[int, Wait] = {}
        self.log: list[Log] = []
        self.asked = False
        self.outcome: str | None = None
        self.left: dict[int, Work] = {}
        """What was in progress when the run ended badly; its waits are kept too."""
        self.timeout: float | None = None
        self.remaining: float | None = None
        self.due: float | None = None
        self.resumed: list[tuple[int, Any]] = []

    # -- the run ------------------------------------------------------------------------------------------------------

    def begin(self, event: Ev, timeout: float | None) -> tuple[int, int]:
        if self.outcome is not None:
            self.outcome = None
            self.sequence = 0
            self.asked = False
            self.log = []
        self.timeout = self.remaining = timeout
        self.due = None
        receipt = self.accept(event, None, None)
        self.tick()
        return receipt

    def tick(self) -> None:
        if self.timeout is None or self.outcome is not None:
            return
        idle = all(work.status == "parked" for work in self.works.values())
        stop = idle and (self.asked or any(wait.type for wait in self.waits.values()))
        if stop and self.due is not None:
            self.remaining, self.due = max(0.0, self.due - self.now), None
        elif not stop and self.due is None and self.remaining is not None:
            self.due, self.remaining = self.now + self.remaining, None

    def end(self, status: str, event: str, n: int | None, step: str) -> None:
        self.entry(TERMINAL, event, n, step, 0)
        self.outcome = status
        for work in list(self.works.values()):
            self.kill(work)
            if status == "completed":
                self.drop(work)
            else:
                self.left[work.id] = self.works.pop(work.id)
                self.through.add(work.id)
        for wait in self.waits.values():
            if wait.token is not None:
                self.resumed.append((wait.token, ENDED))
        self.waits = {number: wait for number, wait in self.waits.items() if wait.work in self.left}
        self.due = self.remaining = None

    def entry(self, kind: int, event: str, n: int | None, step: str, delivered: int) -> None:
        self.sequence += 1
        self.log.append((self.sequence, kind, event, n, step, delivered))

    # -- events -------------------------------------------------------------------------------------------------------

    def accept(self, event: Ev, step: str | None, work: Work | None) -> tuple[int, int]:
        if work is not None:
            if work.repeats(("send", event, step)):
                return 0, 0
        else:
            self.asked = False
        return self.take(event, SENT if work else RECEIVED, work.step if work else "", step)

    def take(self, event: Ev, kind: int, source: str, step: str | None = None) -> tuple[int, int]:
        if event[0] == "Stop":
            self.end("completed", *event, source)
            return self.sequence, 1
        targets = ROUTES.get(event[0], ()) if step is None else (step,)
        if event[0] == "Ask":
            self.asked = True
            kind = STREAM
        matching: dict[str, Wait] = {}
        if step is None:
            for _, wait in sorted(self.waits.items()):
                if wait.type == event[0] and wait.n in (None, event[1]):
                    matching.setdefault(wait.id, wait)
        self.entry(kind, *event, source, len(targets) + len(matching))
        for name in targets:
            self.delivery_ids += 1
            self.works[self.delivery_ids] = Work(self.delivery_ids, name, event, self.sequence)
        for wait in matching.values():
            self.settle(wait, event)
        return self.sequence, len(targets) + len(matching)

    def write(self, event: Ev, work: Work | None, source: str = "") -> tuple[int, int]:
        if work is not None:
            if work.repeats(("write", event)):
                return 0, 0
            source = work.step
        self.entry(STREAM, *event, source, 0)
        if event[0] == "Ask":
            self.asked = True
        return self.sequence, 0

    # -- executions ---------------------------------------------------------------------------------------------------

    def startable(self, step: str) -> list[Work]:
        """Return what `step` is to start now, in order."""
        free = WORKERS[step] - sum(work.status == "running" for work in self.works.values() if work.step == step)
        ready = [work for work in self.works.values() if work.step == step and work.status in ("queued", "ready")]
        return sorted(ready, key=lambda work: work.id)[:free]

    def start(self, work: Work) -> None:
        work.status = "running"
        if work.live:
            self.resumed += work.settled
            work.settled = []
            return
        self.state.update(work.undo)
        work.undo = {}
        work.attempt += 1
        if work.first_started is None:
            work.first_started = self.now
        work.reset()
        work.live = True
        work.replay = Counter(work.effects)

    def finish(self, work: Work, outputs: Sequence[Ev]) -> list[tuple[int, int]]:
        self.kill(work)
        self.drop(work)
        return [self.take(event, SENT, work.step) for event in outputs if self.outcome is None]

    def retry(self, work: Work, delay: float) -> None:
        self.kill(work)
        work.failures += 1
        work.effects = []
        work.undo = {}
        work.faithful = False
        work.status = "queued" if delay <= 0 else "backoff"
        work.due = None if delay <= 0 else self.now + delay

    def lose(self, work: Work) -> bool:
        """Lose an execution; True when the delivery is poison now."""
        self.kill(work)
        work.lost += 1
        work.status = "queued"
        return work.lost >= MAX_LOST

    def kill(self, work: Work) -> None:
        self.note_changes(work)
        for wait in self.of(work):
            if wait.token is not None:
                self.resumed.append((wait.token, DEAD))
                wait.token = None
        self.resumed += [(token, DEAD) for token, _ in work.settled]
        work.reset()

    def drop(self, work: Work) -> None:
        del self.works[work.id]
        self.through.add(work.id)
        for wait in self.of(work):
            del self.waits[wait.number]
        self.consumed.update(item.number for item in work.held())

    def of(self, work: Work) -> list[Wait]:
        return [wait for wait in self.waits.values() if wait.work == work.id]

    # -- collecting ---------------------------------------------------------------------------------------------------

    def collect(self, event: Ev, expected: Sequence[str], buffer: str, work: Work | None) -> list[Ev] | None:
        ledger: list[list[Item] | None] | None = None
        if work is not None:
            nth = work.nth_collect[buffer]
            work.nth_collect[buffer] += 1
            ledger = work.collects.setdefault(buffer, [])
            if nth < len(ledger):
                known = ledger[nth]
                if known is None:
                    return None
                if [item.event[0] for item in known] == list(expected):
                    return [item.event for item in known]
                back = [item for items in ledger[nth:] for item in items or ()]
                self.buffers = sorted(back, key=lambda item: item.number) + self.buffers
                del ledger[nth:]
        self.numbers += 1
        self.buffers.append(Item(self.numbers, buffer, event))
        taken: list[Item] | None = []
        for name in expected:
            found = next(
                (i for i in self.buffers if i.buffer == buffer and i.event[0] == name and i not in (taken or ())), None
            )
            if found is None:
                taken = None
                break
            assert taken is not None
            taken.append(found)
        if taken is not None:
            self.buffers = [item for item in self.buffers if item not in taken]
            if work is None:
                self.consumed.update(item.number for item in taken)
        if ledger is not None:
            ledger.append(taken)
            assert work is not None
            work.lost = 0
        return None if taken is None else [item.event for item in taken]

    # -- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, work: Work | None, call: Call, token: int) -> Any:
        """Return a recorded answer, or the open Wait that the body now listens to with `token`."""
        _, id, name, n, prompt, timeout = call
        nth = 0
        if work is not None:
            nth = work.nth_wait[id]
            work.nth_wait[id] += 1
            if (id, nth) in work.answers:
                answer = work.answers[id, nth]
                if answer == TIMEOUT or (answer[0] == name and n in (None, answer[1])):
                    return answer
            for wait in self.of(work):
                if wait.id == id and wait.index == nth and wait.token is None:
                    if (wait.type, wait.n) != (name, n):
                        del self.waits[wait.number]
                        break
                    if prompt is not None and not self.prompted(id, prompt):
                        self.write(prompt, None, work.step)
                        wait.prompt = prompt
                    return self.park(work, wait, token)
        asked = work is not None and prompt is not None and work.withdrawn.get((id, nth)) == prompt
        if prompt is not None and not asked and not self.prompted(id, prompt):
            self.write(prompt, None, work.step if work else "")
        self.numbers += 1
        due = None if timeout is None else self.now + timeout
        wait = Wait(self.numbers, id, name, n, prompt, due, work.id if work else None, nth)
        self.waits[wait.number] = wait
        return self.park(work, wait, token)

    def prompted(self, id: str, prompt: Ev) -> bool:
        return any(wait.id == id and wait.prompt == prompt for wait in self.waits.values())

    def park(self, work: Work | None, wait: Wait, token: int) -> Wait:
        wait.token = token
        if work is not None:
            work.awaited += 1
            if work.status == "running":
                work.status = "parked"
        return wait

    def settle(self, wait: Wait, answer: Any) -> None:
        del self.waits[wait.number]
        if wait.work is None:
            assert wait.token is not None
            self.resumed.append((wait.token, answer))
            return
        work = self.works[wait.work]
        work.answers[wait.id, wait.index] = answer
        work.withdrawn.pop((wait.id, wait.index), None)
        work.lost = 0
        if not work.live:
            if work.status == "parked":
                work.status = "ready"
        elif wait.token is not None:
            work.awaited -= 1
            if work.status == "running" or (work.status == "parked" and work.awaited):
                self.resumed.append((wait.token, answer))
            else:
                work.settled.append((wait.token, answer))
                work.status = "ready"

    def give_up(self, wait: Wait, token: int) -> bool:
        """Cancel the await of an open wait; True when `token` is told once a worker is back."""
        del self.waits[wait.number]
        if wait.work is None:
            return False
        work = self.works[wait.work]
        work.faithful = False
        work.answers.pop((wait.id, wait.index), None)
        work.withdrawn[wait.id, wait.index] = wait.prompt
        work.awaited -= 1
        if work.status == "parked" and not work.awaited:
            work.status = "ready"
        if work.status == "ready":
            work.settled.append((token, TIMEOUT))
            return True
        return False

    # -- time ---------------------------------------------------------------------------------------------------------

    def expire(self) -> None:
        due: list[tuple[float, Any]] = [(self.due, None)] if self.due is not None else []
        due += [(wait.due, wait) for wait in self.waits.values() if wait.due is not None]
        due += [(work.due, work) for work in self.works.values() if work.due is not None]
        for at, item in sorted(due, key=lambda pair: pair[0]):
            if at > self.now or self.outcome is not None:
                break
            if item is None:
                self.end("timed_out", "WorkflowTimedOutEvent", None, "")
            elif isinstance(item, Wait):
                self.settle(item, TIMEOUT)
            else:
                item.status, item.due = "queued", None

    # -- what a restore makes of a copy -------------------------------------------------------------------------------

    def freeze(self) -> None:
        for work in self.works.values():
            was = work.status
            if work.live:
                self.kill(work)
                if was == "running":
                    work.status = "queued"

    def pass_over(self) -> None:
        """Forget what was in progress when the run ended."""
        for work in self.left.values():
            self.consumed.update(item.number for item in work.held())
        self.left = {}
        self.waits = {}

    def retry_all(self) -> None:
        """Go on with what was in progress when the run ended, with whole budgets."""
        self.outcome = None
        self.works, self.left = self.left, {}
        self.through -= self.works.keys()
        self.remaining, self.due = self.timeout, None
        for work in self.works.values():
            work.failures = work.lost = 0
            work.first_started = work.due = None
            if work.status == "backoff":
                work.status = "queued"

    def restored(self, now: float, saved_at: float, *, fork: bool, retry: bool = False) -> list[int]:
        """Become what a process sees that loads this snapshot at `now`; return the poisoned deliveries."""
        if retry:
            self.retry_all()
        elif self.outcome is not None:
            self.pass_over()
        shift = now - saved_at if fork else 0.0
        self.now = now
        self.resumed = []
        self.waits = {number: wait for number, wait in self.waits.items() if wait.work is not None}
        for wait in self.waits.values():
            wait.token = None
            if wait.due is not None:
                wait.due += shift
        poisoned = []
        for work in self.works.values():
            if work.status == "running" and not fork:
                work.lost += 1
            work.reset()
            if work.first_started is not None:
                work.first_started += shift
            if work.due is not None:
                work.due += shift
            if work.lost >= MAX_LOST:
                poisoned.append(work.id)
                work.status = "queued"
            elif work.status in ("running", "ready"):
                work.status = "queued"
        if fork:
            self.sequence, self.log = 0, []
            if self.due is not None:
                self.due = now + max(0.0, self.due - saved_at)
        return poisoned
