"""One run that a host makes durable: what `stepwire.workflow.hosting` gives to hosts."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

from stepwire.workflow.broker.bounds import UNBOUNDED, Bounds
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.children.child import ChildHost, ChildOutcome
from stepwire.workflow.broker.deliveries.executions import LOG_NONE
from stepwire.workflow.broker.host import Host
from stepwire.workflow.broker.log.entries import Changes
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.broker.receipts import Receipt
from stepwire.workflow.broker.snapshot.restore import restore
from stepwire.workflow.broker.snapshot.writer import all_parts, registry_encoder, take_changes
from stepwire.workflow.broker.timing.clock import CLOCK, Clock
from stepwire.workflow.broker.timing.timers import Alarm
from stepwire.workflow.child_runs import ChildRuns
from stepwire.workflow.codec.names import Names
from stepwire.workflow.context.context import Context, run_of
from stepwire.workflow.definition.plan import plan_of, settings_of
from stepwire.workflow.events import Event
from stepwire.workflow.runner.runner import Runner
from stepwire.workflow.state.store import InMemoryStateStore
from stepwire.workflow.workflow import Workflow

__all__ = ["HostedRun"]


class HostedRun:
    """Drive one run on the running event loop, and tell its host what to commit.

    A new run: `make_durable`, `begin`, `go`. A run that was saved: `restore`, `make_durable`, `go`. Nothing starts
    before `go`. After each transition that the host makes by itself on `broker`, it calls `act`.

    Args:
        workflow: The workflow object.
        names: Names the types of events and state in what is saved.
        host: Commits what changed, and logs failures.
        run_id: The id that steps see.
        executor: Runs sync steps; None for the default executor of the event loop.
        alarm: The timer that all runs of the host share; None for one of its own.
        variables: The context variables that steps see; None for a copy of the caller's.
        clock: What time it is, for the run.
        bounds: What the run may hold.
        executions: Which attempts at deliveries get entries in the log: LOG_NONE, LOG_FAILURES or LOG_ALL.
        children: Starts runs of their own for the steps; None for a host that starts none: workflows run nested then.

    Attributes:
        broker: The run's data and transitions; all of them are synchronous and belong on the run's loop.
        context: What steps get.
        journal: What changed since the last `take_changes`.
    """

    __slots__ = ("_run", "_runner", "broker", "context", "journal")

    def __init__(
        self,
        workflow: Workflow,
        names: Names,
        host: Host,
        *,
        run_id: str,
        executor: Executor | None = None,
        alarm: Alarm | None = None,
        variables: contextvars.Context | None = None,
        clock: Clock = CLOCK,
        bounds: Bounds = UNBOUNDED,
        executions: int = LOG_NONE,
        children: ChildHost | None = None,
    ) -> None:
        settings = settings_of(workflow)
        self.context: Context[Any] = workflow.context_type(workflow)
        self.context.run_id = run_id
        self._run = run_of(self.context)
        if children is not None:
            self._run.broker.child_host = children
            self._run.children = ChildRuns(self._run, children, run_id)
        self.broker: Broker = self._run.broker
        self.broker.work.clock = clock
        self.journal = Journal(names, host, bounds, executions)
        self._runner = Runner(
            plan_of(workflow),
            self.context,
            self.broker,
            services=settings.services,
            resources=settings.resources,
            verbose=settings.verbose,
            host=host,
            executor=executor,
            alarm=alarm,
            variables=variables,
        )

    @property
    def store(self) -> InMemoryStateStore[Any]:
        """Return the state of the run."""
        return self.broker.store

    # -- its beginning --------------------------------------------------------------------------------------------

    def restore(
        self,
        parts: Mapping[str, Any],
        *,
        saved_at: float,
        fork: bool = False,
        validate: bool = True,
        fresh: bool = False,
        retry_of: str = "",
    ) -> None:
        """Fill the new run from the parts of a snapshot (parsed JSON).

        Args:
            parts: All parts, by key.
            saved_at: When they were committed, in seconds since the epoch.
            fork: Whether this is another run: its log begins at 1, its clocks have the time that was left, and
                nothing counts as lost. Else what ran when it was saved counts as lost to a crash.
            validate: The workflow's classes may have changed since: values that their fields no longer hold pass
                today's validators. Needless if the workflow is the one that saved the parts.
            fresh: Whether a fork has its whole retry budgets and its whole time limit again.
            retry_of: The run that a fork retries: it goes on with what that run left in progress when it ended, under
                the keys of that run, and with fresh budgets.

        Raises:
            SnapshotError: The parts do not fit the workflow, or are malformed.
        """
        restore(
            self.broker,
            parts,
            self.journal.names,
            saved_at=saved_at,
            fork=fork,
            validate=validate,
            fresh=fresh,
            retry_of=retry_of,
        )

    def make_durable(self) -> None:
        """Keep a journal from here on: what cannot be saved is refused at the call."""
        self._run.make_durable(self.journal)

    def begin(self, event: Event | None, timeout: float | None) -> Receipt | None:
        """Accept the start event; a run whose snapshot was of an ended one starts anew with its state.

        Args:
            event: The start event; None for what the restored run holds.
            timeout: The seconds that the run may take in all; None for no bound.
        """
        return self.broker.begin(event, timeout)

    def go(self, workflow: str, carrier: Mapping[str, str], *, resumed: bool) -> None:
        """Drive the run from now on.

        Args:
            workflow: The name to trace the run under.
            carrier: `traceparent` and `tracestate` of the trace that it is part of; may be empty.
            resumed: Whether it was loaded rather than started.
        """
        self._runner.trace(workflow, carrier, resumed=resumed)
        self._run.runner = self._runner
        self._runner.pump()

    # -- while it is in memory ------------------------------------------------------------------------------------

    def act(self) -> None:
        """Do what the host's last transition made possible: start steps, resume waits, set timers."""
        self._runner.pump()

    def hold(self, held: bool) -> None:
        """Start nothing from now on, nor resume a body whose wait was answered; or start again what may.

        What runs goes on, input is kept, and the run's time limit stands still. The hold is not part of the snapshot:
        hold a restored run before `go`.
        """
        self.broker.hold(held)
        if self._run.runner is not None:
            self._runner.pump()

    def child_started(self, run_id: str) -> None:
        """Note that the host has started a child; call `act` then."""
        children = self.broker.made_children
        if children is not None and (child := children.named(run_id)) is not None and self._changes:
            children.started(child)

    def child_sent(self, run_id: str, number: int) -> None:
        """Note that an event was sent to a child, or that the child does not take it; call `act` then."""
        children = self.broker.made_children
        if children is not None and (child := children.named(run_id)) is not None and self._changes:
            children.sent(child, number)

    def child_ended(self, run_id: str, outcome: ChildOutcome) -> None:
        """Note that a child has ended; call `act` then. Harmless for one that this run does not wait for any more."""
        children = self.broker.made_children
        if children is not None and (child := children.named(run_id)) is not None and self._changes:
            children.end(self.broker, child, outcome)

    @property
    def _changes(self) -> bool:
        return self.broker.outcome is None and not self.broker.frozen

    def cancel(self, reason: str = "") -> None:
        """End the run as cancelled; harmless when it has ended or is frozen."""
        self._runner.cancel(reason)

    def expire(self) -> None:
        """Do what is due by now; the alarm calls it, and a host whose clock is not that of the process."""
        self._runner()

    def take_changes(self, *, everything: bool = False) -> Changes:
        """Take what changed since the last call, encoded, for one commit; with `everything` take all parts.

        A state value that was changed in place so that it cannot be saved fails the run: call `act`, and take again.
        """
        return take_changes(self.broker, everything=everything)

    def all_parts(self) -> dict[str, bytes]:
        """Return every part of the snapshot; SerializationError when state was damaged in place."""
        return all_parts(self.broker, registry_encoder(self.journal.names))

    # -- its leaving ----------------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Stop for good without ending: steps are cancelled, what they worked on stays to be run again."""
        self._runner.freeze()

    def leave(self) -> None:
        """Cut what refers back, of a run that was frozen or has ended, so that its memory is freed at once.

        Call it when no step has a last word to say (`broker.cut_off` tells whether one may).
        """
        self._runner.leave()
        self._run.leave()
