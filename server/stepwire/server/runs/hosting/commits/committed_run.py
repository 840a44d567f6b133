"""The run in memory, as its commits see it."""

from __future__ import annotations

from typing import Protocol

from stepwire.server.registry import Served
from stepwire.server.runs.hosting.commits.record import RunPause
from stepwire.server.store import RunRecord
from stepwire.workflow.hosting import Broker

__all__ = ["CommittedRun"]


class CommittedRun(Protocol):
    """Give what a commit writes beside the answers to requests, and go on after it.

    Attributes:
        served: Its workflow.
        broker: Its data.
        record: The record that the last commit wrote; of a new run, as it will be created.
        queued: Whether it is queued behind `num_concurrent_runs`, or for its trial.
        pause: The pause of the run itself; None while it is not paused.
        survived: Whether it was suspect of a crash, and has survived its trial since.
    """

    served: Served
    broker: Broker
    record: RunRecord
    queued: bool
    pause: RunPause | None
    survived: bool

    def recorded(self, record: RunRecord) -> None:
        """Take the record of a commit that is durable."""

    def leave(self, error: BaseException | None) -> None:
        """Leave memory, with what a commit failed with; harmless for a run that has left."""

    def end(self) -> None:
        """Leave memory now that the end is durable."""
