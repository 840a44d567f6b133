"""The runs of one workflow instance in this process: which are at work, which queue, which was the latest."""

from __future__ import annotations

import contextvars
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial

from stepwire.workflow.broker.timing.timers import Alarm
from stepwire.workflow.checkpoint import CheckpointCallback
from stepwire.workflow.context.run import Run
from stepwire.workflow.definition.plan import Plan, Settings
from stepwire.workflow.errors import WorkflowRuntimeError
from stepwire.workflow.events import Event, StartEvent
from stepwire.workflow.handler import WorkflowHandler
from stepwire.workflow.runner.runner import AfterStep, Runner

__all__ = ["Runs"]


class Runs:
    """Start runs, at most `limit` at a time, and hold them until their end (S15)."""

    __slots__ = ("_alarm", "_latest", "_limit", "_plan", "_queued", "_running", "handlers")

    def __init__(self, plan: Plan, limit: int | None) -> None:
        self.handlers: set[WorkflowHandler] = set()
        """Of the runs that have not ended."""
        self._plan = plan
        self._limit = limit
        self._running = 0
        self._queued: deque[tuple[WorkflowHandler, Callable[[], None]]] = deque()
        self._alarm: Alarm | None = None
        self._latest: weakref.ref[WorkflowHandler] | None = None

    def launch(
        self,
        settings: Settings,
        run: Run,
        handler: WorkflowHandler,
        event: StartEvent | None,
        callback: CheckpointCallback | None,
    ) -> None:
        """Start a run now, or when one of those at work has ended.

        Args:
            settings: Those of the workflow.
            run: What the handler and the context share.
            handler: The handler of the run, with its context.
            event: The start event; None goes on with what a restored context holds.
            callback: Awaited after each step.
        """
        run.in_use = True
        self.handlers.add(handler)
        self._latest = weakref.ref(handler)
        if self._is_free():
            self._begin(settings, run, handler, event, callback)
        else:
            # When it begins, it is the end of another run that calls: keep the caller's context variables.
            begin = partial(self._begin, settings, run, handler, event, callback)
            self._queued.append((handler, partial(contextvars.copy_context().run, begin)))
            run.withdraw = partial(self._withdraw, handler)

    def _begin(
        self,
        settings: Settings,
        run: Run,
        handler: WorkflowHandler,
        event: StartEvent | None,
        callback: CheckpointCallback | None,
    ) -> None:
        self._running += 1
        context = handler.ctx
        alarm, clock = self._alarm, run.broker.work.clock
        if alarm is None or alarm.loop is not handler.get_loop() or alarm.clock is not clock:
            self._alarm = Alarm(handler.get_loop(), clock)
        runner = Runner(
            self._plan,
            context,
            run.broker,
            services=settings.services,
            resources=settings.resources,
            verbose=settings.verbose,
            on_end=partial(self._ended, run, handler),
            after_step=None if callback is None else _checkpoints(handler, callback),
            stepwise=context.stepwise,
            alarm=self._alarm,
        )
        run.runner = runner
        runner.start(event, settings.timeout)

    def _ended(self, run: Run, handler: WorkflowHandler) -> None:
        self.handlers.discard(handler)
        run.conclude()
        self._running -= 1
        while self._queued and self._is_free():
            self._queued.popleft()[1]()

    def _is_free(self) -> bool:
        return self._limit is None or self._running < self._limit

    def _withdraw(self, handler: WorkflowHandler) -> None:
        """Forget a run that was cancelled while it waited for others to end."""
        self._queued = deque(entry for entry in self._queued if entry[0] is not handler)
        self.handlers.discard(handler)

    def only(self) -> WorkflowHandler:
        """Return the handler of the only run in progress; WorkflowRuntimeError when it is not the only one."""
        if not self.handlers:
            raise WorkflowRuntimeError("no run is in progress")
        if len(self.handlers) > 1:
            raise WorkflowRuntimeError(
                f"{len(self.handlers)} runs are in progress: use the handler of the one you mean"
            )
        return next(iter(self.handlers))

    def only_or_latest(self) -> WorkflowHandler:
        """Return the handler of the only run in progress, or of the latest one when none is."""
        latest = self._latest() if self._latest is not None and not self.handlers else None
        return latest or self.only()


def _checkpoints(handler: WorkflowHandler, callback: CheckpointCallback) -> AfterStep:
    async def after_step(name: str, given: Event, result: Event | None) -> None:
        await callback(handler.run_id, name, given, result, handler.ctx)

    return after_step
