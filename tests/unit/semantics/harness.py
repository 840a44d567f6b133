"""A durable host for one run in a test: it commits to a dict, crashes, and restores from the dict."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from stepwire.workflow import Event, Workflow
from stepwire.workflow.hosting import (
    RECEIVED,
    STREAM,
    TERMINAL,
    Broker,
    ChildHost,
    Clock,
    FailureReport,
    HostedRun,
    LogEntry,
    Outcome,
    Receipt,
    TypeRegistry,
    plan_of,
    text_of,
)


class HandClock(Clock):
    """A clock that moves when it is told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        super().__init__()
        self.time = now

    def now(self) -> float:
        return self.time


class DurableRun:
    """Host one run: fold what it commits into `parts` and `log`, as a store would.

    A commit is made on the next turn of the loop after a change, unless `hold()` is on: then it is in flight until
    `let_go()`, and a crash loses it. `clock` moves by `advance` only.
    """

    def __init__(self, workflow: Workflow, clock: HandClock | None = None, children: ChildHost | None = None) -> None:
        self.workflow = workflow
        self.children = children
        self.run_id = "run"
        self.names = TypeRegistry.of(type(workflow), plan_of(workflow).steps)
        self.clock = clock or HandClock()
        self.parts: dict[str, bytes] = {}
        self.log: list[LogEntry] = []
        self.reported: list[tuple[str | None, BaseException]] = []
        self.commits = 0
        self.saved_at = 0.0
        self._held = False
        self._commit_due = False
        self._callbacks: list[Callable[[], None]] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._alive = True
        self._load(None, fork=False)

    def _load(self, parts: dict[str, Any] | None, *, fork: bool, retry_of: str = "") -> None:
        self.hosted = HostedRun(
            self.workflow, self.names, self, run_id=self.run_id, clock=self.clock, children=self.children
        )
        self.context = self.hosted.context
        self.journal = self.hosted.journal
        if parts is not None:
            self.hosted.restore(parts, saved_at=self.saved_at, fork=fork, retry_of=retry_of)
        self.hosted.make_durable()
        self._alive = True
        self._callbacks = []

    @property
    def broker(self) -> Broker:
        return self.hosted.broker

    @property
    def outcome(self) -> Outcome | None:
        return self.broker.outcome

    # -- the host of the runner -----------------------------------------------------------------------------------

    def changed(self) -> None:
        if self._alive and not self._commit_due:
            self._commit_due = True
            asyncio.get_running_loop().call_soon(self._commit)

    def after_commit(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        self.changed()

    def report(
        self, step: str | None, error: BaseException, *, attempt: int = 0, next_at: float | None = None
    ) -> FailureReport:
        self.reported.append((step, error))
        return FailureReport(text_of(error), "", "reference")

    def executed(self, step: str, outcome: str, seconds: float) -> None:
        pass

    # -- commits --------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Keep what comes from becoming durable."""
        self._held = True

    def let_go(self) -> None:
        self._held = False
        self._commit_due = False
        self.changed()

    def _commit(self) -> None:
        if self._held or not self._alive:
            return
        self._commit_due = False
        if self.broker.partial is not None:
            return  # `changed` comes again when the transition is whole
        self.commit()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def commit(self) -> None:
        """Fold what changed, as one transaction."""
        changes = self.hosted.take_changes()
        self.hosted.act()
        self.parts.update(changes.parts)
        for key in changes.deleted:
            self.parts.pop(key, None)
        self.log += changes.entries
        self.saved_at = self.clock.now()
        self.commits += 1
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, holds: Callable[[DurableRun], object]) -> None:
        """Wait for the commit after which it holds."""
        while not holds(self):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    async def ended(self) -> Outcome:
        """Wait until the end of the run is durable."""
        await self.until(lambda run: "outcome" in run.head)
        assert self.outcome is not None
        return self.outcome

    # -- what clients do ------------------------------------------------------------------------------------------

    def start(self, event: Event | None = None, timeout: float | None = None) -> DurableRun:
        self.hosted.begin(event if event is not None else self.workflow.start_event_class(), timeout)
        self._go()
        return self

    def _go(self, *, resumed: bool = False) -> None:
        self.hosted.go(type(self.workflow).__name__, {}, resumed=resumed)

    def cancel(self, reason: str = "") -> None:
        self.hosted.cancel(reason)

    def send(self, event: Event, step: str | None = None) -> Receipt:
        receipt = self.broker.accept(event, step, kind=RECEIVED)
        self.hosted.act()
        return receipt

    def advance(self, seconds: float) -> None:
        """Let time pass, and what falls due happen."""
        self.clock.time += seconds
        if self._alive:
            self.hosted.expire()

    # -- crash, release, fork -------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Lose the process: nothing that is not committed is left."""
        self._alive = False
        self._held = self._commit_due = False
        self.hosted.freeze()

    def release(self) -> None:
        """Stop in order: freeze, then commit."""
        self.hosted.freeze()
        self.commit()
        self._alive = False

    def parsed(self) -> dict[str, Any]:
        return {key: json.loads(part) for key, part in self.parts.items()}

    def recover(self) -> DurableRun:
        """Load the run again from what was committed and let it go on."""
        self.load()
        self.go_on()
        return self

    def load(self) -> None:
        """Load the run again from what was committed."""
        assert not self._alive
        self._load(self.parsed(), fork=False)

    def go_on(self) -> None:
        """Let a run go on that was loaded."""
        if self.outcome is None:
            self._go(resumed=True)

    def crash_and_recover(self) -> DurableRun:
        self.crash()
        return self.recover()

    def fork(self, workflow: Workflow | None = None, *, retry_of: str = "") -> DurableRun:
        """Start another run from what was committed; with `retry_of`, one that retries the run of this name."""
        other = DurableRun(workflow or self.workflow, HandClock(self.clock.now()), self.children)
        other.saved_at = self.saved_at
        other.run_id = "retry" if retry_of else "fork"
        other._load(self.parsed(), fork=True, retry_of=retry_of)
        for key in self.parts:
            other.journal.touch(key)
        if other.outcome is None:
            other._go(resumed=True)
        return other

    # -- what was committed ---------------------------------------------------------------------------------------

    @property
    def head(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.parts.get("h", b"{}"))
        return parsed

    def kept(self, kind: str) -> list[dict[str, Any]]:
        """Return the parts of a kind: d deliveries, b buffered events, w waiters, x effects."""
        return [json.loads(part) for key, part in sorted(self.parts.items()) if key.startswith(kind + "/")]

    def logged(self, *types: type[Event]) -> list[dict[str, Any]]:
        """Return the fields of the log's events of these types, in order."""
        names = {cls.__name__ for cls in types}
        return [json.loads(entry.data) for entry in self.log if entry.type in names]

    @property
    def stream(self) -> list[str]:
        """Return the types of the public entries."""
        return [entry.type for entry in self.log if entry.kind in (STREAM, TERMINAL)]
