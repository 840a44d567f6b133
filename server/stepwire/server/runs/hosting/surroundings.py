"""What the runs of one pool share."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stepwire.server.registry import Served
from stepwire.server.runs.hosting.pauses import WorkflowPauses
from stepwire.server.runs.hosting.run_scope import RunScope
from stepwire.server.runs.hosting.slots.step_threads import StepThreads
from stepwire.server.runs.log.chunks import EntryCodec
from stepwire.server.store import Cluster, Commit, Quota, RunKey, RunRecord, RunStore
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import CLOCK, Alarm, Bounds, ChildHost, Clock, Host, HostedRun, executions

__all__ = ["Surroundings"]


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What the runs of one pool share.

    Attributes:
        store: Where they commit.
        codec: Encodes their log entries.
        threads: The threads of their sync steps.
        metrics: Counts what they do.
        pauses: Which workflows are paused.
        failure_detail: What callers are told of failures: `type`, `message` or `traceback`.
        bounds: What each of them may hold.
        clock: What time it is for them.
        cluster: The replicas that share the store; None if no other process can.
        executions: Which attempts get entries in their logs: `LOG_NONE`, `LOG_FAILURES` or `LOG_ALL`.
        alarm: One timer of the event loop for all of them; None before the pool is open.
        quotas: How many runs the callers of new runs may have, where the store sees to it: until the first commit.
        variables: The context variables of commits: those of no call and no step.
        on_commit: Called with each durable commit.
        on_gone: Called once when a run leaves memory, with the LiveRun and the error of a failed commit; with None
            after its end or release.
        children: Gives what starts runs for the steps of the run of a record; None if nothing does.
    """

    store: RunStore
    codec: EntryCodec
    threads: StepThreads
    metrics: Metrics
    pauses: WorkflowPauses
    failure_detail: str = "message"
    bounds: Bounds
    clock: Clock = CLOCK
    cluster: Cluster | None = None
    executions: int = executions.LOG_ALL
    alarm: Alarm | None = None
    quotas: dict[RunKey, Quota] = field(default_factory=dict)
    variables: contextvars.Context = field(default_factory=contextvars.Context)
    on_commit: Callable[[Commit], None]
    on_gone: Callable[[Any, BaseException | None], None]
    children: Callable[[RunRecord], ChildHost | None]

    def drive(self, served: Served, record: RunRecord, host: Host, scope: RunScope) -> HostedRun:
        """Return what drives a run among these surroundings.

        Args:
            served: Its workflow.
            record: Its record.
            host: Commits what changed, and logs failures.
            scope: Names the run to its steps.
        """
        run_id = record.key.run_id
        return HostedRun(
            served.workflow,
            served.names,
            host,
            run_id=run_id,
            executor=self.threads.of(served.name, run_id) if served.has_sync_steps else None,
            alarm=self.alarm,
            variables=scope.variables(),
            clock=self.clock,
            bounds=self.bounds,
            executions=executions.LOG_NONE if served.own else self.executions,
            children=self.children(record),
        )
