"""What the runs of one pool share."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stepwire.server.runs.hosting.step_threads import StepThreads
from stepwire.server.runs.log.chunks import EntryCodec
from stepwire.server.store import Commit, RunStore
from stepwire.server.telemetry.metrics import Metrics
from stepwire.workflow.hosting import Alarm, Bounds

__all__ = ["Surroundings"]


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What the runs of one pool share.

    Attributes:
        store: Where they commit.
        codec: Encodes their log entries.
        threads: The threads of their sync steps.
        metrics: Counts what they do.
        failure_detail: What callers are told of failures: `type`, `message` or `traceback`.
        bounds: What each of them may hold.
        alarm: One timer of the event loop for all of them; None before the pool is open.
        variables: The context variables of commits: those of no call and no step.
        on_commit: Called with each durable commit.
        on_gone: Called once when a run leaves memory, with the LiveRun and the error of a failed commit; with None
            after its end or release.
    """

    store: RunStore
    codec: EntryCodec
    threads: StepThreads
    metrics: Metrics
    failure_detail: str = "message"
    bounds: Bounds
    alarm: Alarm | None = None
    variables: contextvars.Context = field(default_factory=contextvars.Context)
    on_commit: Callable[[Commit], None]
    on_gone: Callable[[Any, BaseException | None], None]
