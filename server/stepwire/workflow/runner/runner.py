"""The runner: what touches the world for one broker.

It starts tasks for executions, runs sync steps in threads, sleeps for timers and tells whoever waits. All transitions
happen in the broker, on the event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from stepwire.workflow.broker.broker import SLICE, Broker
from stepwire.workflow.broker.children.child import Child
from stepwire.workflow.broker.children.sends import ChildSend
from stepwire.workflow.broker.current import enter_execution
from stepwire.workflow.broker.deliveries.delivery import PARKED, Delivery, Execution
from stepwire.workflow.broker.deliveries.losses import lose
from stepwire.workflow.broker.host import Host
from stepwire.workflow.broker.ledger import Answer, Notify
from stepwire.workflow.broker.outcome import CANCELLED
from stepwire.workflow.broker.progress import tick
from stepwire.workflow.broker.receipts import EncodedOutput, Receipt
from stepwire.workflow.broker.timing.timers import Alarm, Timer
from stepwire.workflow.definition.plan import Plan
from stepwire.workflow.definition.step_call import StepCall
from stepwire.workflow.errors import (
    StepTimeoutError,
)
from stepwire.workflow.events import EVENTS, Event, WorkflowCancelledEvent
from stepwire.workflow.resource import ResourceManager
from stepwire.workflow.runner.beside import works_beside
from stepwire.workflow.runner.bodies import call_sync, event_for
from stepwire.workflow.runner.failures import fail, give_up_lost, timed_out
from stepwire.workflow.runner.other_threads import call_on
from stepwire.workflow.runner.results import outputs_of
from stepwire.workflow.runner.slices import encode_in_slices, take_the_rest
from stepwire.workflow.runner.stepwise import Stepwise
from stepwire.workflow.runner.tasks import is_taken, runs_now, start_body, watch_tasks
from stepwire.workflow.runner.tracing import RunTrace
from stepwire.workflow.service import ServiceManager

logger = logging.getLogger("stepwire.workflow")

T = TypeVar("T")
AfterStep = Callable[[str, Event, Event | None], Awaitable[None]]
"""Awaited after each step with its name, its event and what it returned, before that goes on."""


class RunContext(Protocol):
    """What the runner knows of the context that it passes to steps."""

    run_id: str


class Runner:
    """Drive one broker on the running event loop until its run ends or it is frozen."""

    # Many runs wait in memory: what each holds is what they cost.
    __slots__ = (
        "_after_step",
        "_alarm",
        "_ended",
        "_executor",
        "_host",
        "_on_end",
        "_pumping",
        "_resources",
        "_services",
        "_timer",
        "_trace",
        "_variables",
        "_verbose",
        "broker",
        "context",
        "loop",
        "plan",
        "stepwise",
        "thread",
    )

    def __init__(
        self,
        plan: Plan,
        context: RunContext,
        broker: Broker,
        *,
        services: ServiceManager,
        resources: ResourceManager,
        verbose: bool = False,
        host: Host | None = None,
        on_end: Callable[[], None] | None = None,
        after_step: AfterStep | None = None,
        stepwise: bool = False,
        executor: concurrent.futures.Executor | None = None,
        alarm: Alarm | None = None,
        variables: contextvars.Context | None = None,
    ) -> None:
        self.plan = plan
        self._services = services
        self._resources = resources
        self._verbose = verbose
        self.context = context
        self.broker = broker
        self.loop = asyncio.get_running_loop()
        self.stepwise = Stepwise(broker, self._launch_held) if stepwise else None
        self._host = host
        self._on_end = on_end
        self._after_step = after_step
        self._executor = executor
        self.thread = threading.get_ident()
        self._trace: RunTrace | None = None
        # Steps see the context variables of whoever started the run, not of whoever sent their event.
        self._variables = contextvars.copy_context() if variables is None else variables
        self._alarm = alarm or Alarm(self.loop, broker.clock)
        self._timer: Timer[Any] | None = None
        self._pumping = False
        self._ended = False
        if host is not None:
            broker.work.works = works_beside
            watch_tasks(self.loop)

    # -- entry points ---------------------------------------------------------------------------------------------

    def start(self, event: Event | None, timeout: float | None) -> Receipt | None:
        """Begin the run with its start event; None goes on with what a restored broker holds."""
        self._trace = RunTrace.begin(self.plan.name, self.context.run_id, resumed=event is None)
        if event is None and self.broker.started and self.broker.outcome is None:
            if self._host is None:
                self.broker.limit.set(timeout)
            self.pump()
            return None
        receipt = self.broker.begin(event, timeout)
        self.pump()
        return receipt

    def trace(self, workflow: str, carrier: Mapping[str, str], *, resumed: bool) -> None:
        """Trace the run from here on, as part of what `carrier` says (W3C Trace Context)."""
        self._trace = RunTrace.begin(workflow, self.context.run_id, carrier, resumed=resumed)

    def cancel(self, reason: str = "", *, leave: bool = False) -> None:
        """End the run as cancelled, at once; steps that swallow the cancellation cannot hold it up (S15).

        With `leave` the broker keeps what was in progress, for a context that is saved afterwards.
        """
        if self.broker.outcome is None and not self.broker.frozen and not self._ended:
            self.broker.end(CANCELLED, WorkflowCancelledEvent(reason=reason), leave=leave)
            self.pump()

    def leave(self) -> None:
        """Forget the host, of a run that has left memory."""
        self._host = None

    def freeze(self) -> None:
        """Stop driving: no transition happens any more, tasks are cancelled, waiters stay open."""
        broker = self.broker
        if self._ended and not broker.executions and not broker.work.resumed:
            broker.frozen = True  # it has ended and nothing of it goes on, as most often
            return
        broker.freeze()
        self._stop_timer()
        self._end_trace("released", None)
        resumed = broker.work.take_resumed()
        self._launch([], resumed)

    @property
    def services(self) -> ServiceManager:
        """What steps get by the name of a parameter."""
        return self._services

    @property
    def here(self) -> bool:
        """Whether the caller is on the thread of the run's event loop."""
        return threading.get_ident() == self.thread

    def on_loop(self, function: Callable[[], T]) -> T:
        """Call a function on the run's event loop, from any thread, and give its result."""
        return function() if self.here else call_on(self.loop, function)

    # -- the pump -------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Do what the last transitions made possible. Cheap when there is nothing to do."""
        if self._pumping or self._ended:
            return  # what is left of an ended run must not drive the next one of its context
        self._pumping = True
        try:
            broker = self.broker
            work = broker.work
            while work.poisoned:
                delivery = work.poisoned.pop()
                if broker.outcome is None:
                    give_up_lost(broker, self._host, delivery)
            started: list[Execution] = []
            if self.stepwise is None and not broker.frozen and broker.outcome is None:
                while work.queues.hot and (execution := work.start_next(broker)) is not None:
                    started.append(execution)
            if started or work.resumed:
                resumed = work.take_resumed() if work.resumed else []
                if self._host is None:
                    self._launch(started, resumed)
                else:
                    self._host.after_commit(partial(self._launch, started, resumed))
            children = broker.made_children
            if children is not None and (children.todo or children.sends) and self._host and not broker.frozen:
                self._host.after_commit(partial(self._carry_out, children.take_todo(), children.take_sends()))
            if broker.outcome is None:
                # Without a host most often nothing but the time limit falls due, and its clock never stops.
                is_set = self._timer is not None or broker.limit.seconds is None
                if not is_set or self._host is not None or broker.outer is not None or work.made_timers is not None:
                    tick(broker)
                    self._set_timer()
            elif not self._ended:
                self._ended = True
                self._stop_timer()
                if self._trace is not None:
                    self._end_trace(broker.outcome.status, broker.outcome.error)
                if self._on_end is not None:
                    self._on_end()
        finally:
            self._pumping = False
            if self.broker.outer is not None:
                self.broker.outer.moved()
            if self.stepwise is not None:
                self.stepwise.stir()

    def _end_trace(self, status: str, error: BaseException | None) -> None:
        if self._trace is not None:
            self._trace.end(status, error)
            self._trace = None

    def _launch(self, started: list[Execution], resumed: list[tuple[Notify, Answer]]) -> None:
        for notify, answer in resumed:
            notify(answer)
        for execution in started:
            if execution.dead:
                continue
            body = self.execute(execution) if self._trace is None else self._execute_traced(execution, self._trace)
            start_body(self.loop, body, self._variables.copy(), execution)

    def _carry_out(self, children: list[Child], sends: list[tuple[Child, ChildSend]]) -> None:
        """Have the host start or cancel children, or send to them, now that it is durable that it is to."""
        host = self.broker.child_host
        if self.broker.outcome is None and not self.broker.frozen and host is not None:
            if children:
                host.carry_out(children)
            if sends:
                host.send(sends)

    def _launch_held(self, started: list[Execution]) -> None:
        self._launch(started, [])
        if self.broker.work.resumed:
            self.pump()

    def _set_timer(self) -> None:
        due = None if self.broker.frozen else self.broker.next_due()
        timer = self._timer
        if timer is not None:
            if timer.due == due:
                return
            self._alarm.cancel(timer)
            self._timer = None
        if due is not None:
            self._timer = self._alarm.set(due, self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._alarm.cancel(self._timer)
            self._timer = None

    def __call__(self) -> None:
        """Do what is due by now: an alarm calls its runner."""
        if self._timer is None or self.broker.frozen:
            return
        self._timer = None
        for execution in self.broker.expire():
            if not execution.dead:
                self._failed(execution, timed_out(self.broker, execution))
        self.pump()

    # -- executions -----------------------------------------------------------------------------------------------

    async def _execute_traced(self, execution: Execution, trace: RunTrace) -> None:
        delivery = execution.delivery
        with trace.step(delivery.step, delivery.id, delivery.attempt) as span:
            try:
                await self.execute(execution)
            finally:
                if not execution.finished:
                    waits = self.broker.frozen and self.broker.outcome is None and delivery.status == PARKED
                    span.unfinished("parked" if waits else "abandoned")

    async def execute(self, execution: Execution) -> None:
        """Run a step's body once and bring its result or failure to the broker."""
        enter_execution(execution)
        execution.context = self.context
        host = self._host
        began = 0.0 if host is None else time.perf_counter()
        delivery = execution.delivery
        if self._verbose:
            print(f"Running step {delivery.step}")  # noqa: T201 - what `verbose` is for
        try:
            call = self.plan.calls[delivery.step]
            if call.config.is_async and not call.injected:
                # No variable keeps the arguments while the body waits.
                result = await call.function(**call.arguments(self._event_of(delivery, call), self.context))
            else:
                result = await self._call(execution, call)
            # Most steps return an event, which needs no call.
            list_returns = call.config.list_returns
            outputs = [result] if EVENTS[type(result)] else outputs_of(delivery.step, result, list_returns)
            if call.config.feeds:
                execution.fanned_out = isinstance(result, list)
            encoded = None
            if host is not None and len(outputs) > SLICE and self.broker.journal is not None:
                encoded = await encode_in_slices(self.broker, outputs)
            if self._after_step is not None and not execution.dead:
                # A checkpoint holds one event; of a step that returned more it is taken as not through.
                execution.returned = len(outputs) <= 1
                event = outputs[0] if len(outputs) == 1 else None
                await self._after_step(delivery.step, delivery.event, event)
        except asyncio.CancelledError as error:
            if execution.dead:
                raise
            execution.body = None
            if self._host is not None and is_taken(execution):
                lose(self.broker.work, execution)
                self.pump()
                raise
            self._failed(execution, error)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not runs_now(execution):
                raise  # the loop is gone and the body is closed: it raised nothing
            # A step may raise anything, also what is no Exception: none of it may take its host down.
            execution.body = None
            self._failed(execution, error)
            if self._host is None and isinstance(error, KeyboardInterrupt):
                self.pump()
                raise  # in a program of its own somebody pressed Ctrl-C
        else:
            if not execution.dead:
                self._finished(execution, outputs, encoded)
                if self.broker.partial is not None:
                    await take_the_rest(self.broker, self._host)
        finally:
            if self._host is not None:
                self._host.executed(delivery.step, execution.outcome, time.perf_counter() - began)
        self.pump()

    def _event_of(self, delivery: Delivery, call: StepCall) -> Event:
        return event_for(self.broker, delivery, call.config, hosted=self._host is not None)

    async def _call(self, execution: Execution, call: StepCall) -> Any:
        """Call a body that needs services or resources, or a thread."""
        kwargs = call.arguments(self._event_of(execution.delivery, call), self.context)
        if call.injected:
            await call.inject(self._services, self._resources, kwargs)
        if call.config.is_async:
            return await call.function(**kwargs)
        bound = partial(contextvars.copy_context().run, call_sync, call.function, kwargs)
        execution.is_async = False
        return await self.loop.run_in_executor(self._executor, bound)

    def _finished(self, execution: Execution, outputs: list[Event], encoded: list[EncodedOutput] | None = None) -> None:
        step = execution.delivery.step
        if self._verbose:
            names = ", ".join(type(event).__name__ for event in outputs)
            produced = f"event {names}" if names else "no event"
            print(f"Step {step} produced {produced}")  # noqa: T201 - what `verbose` is for
        execution.body = None
        try:
            if encoded is not None:
                self.broker.finish_in_slices(execution, encoded)
            elif self.stepwise is None:
                self.broker.finish(execution, outputs)
            else:
                self.broker.finish(execution, [])
        except BaseException as error:
            if execution.finished:
                raise
            self._failed(execution, error)
            return
        execution.outcome = "completed"
        if self.stepwise is not None:
            self.stepwise.hold(outputs)

    def _failed(self, execution: Execution, error: BaseException) -> None:
        """Retry as the step's policy says, else give up (S2)."""
        if execution.dead or self.broker.outcome is not None:
            return
        execution.outcome = "timed_out" if isinstance(error, StepTimeoutError) else "failed"
        if self._trace is not None:
            self._trace.failed(execution.delivery.id, error)
        fail(self.broker, self._host, execution, error)
