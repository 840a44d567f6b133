"""The colours of a run's status."""

from __future__ import annotations

from collections.abc import Mapping

from stepwire.client import RunStatus

__all__ = ["STATUS_STYLES"]

STATUS_STYLES: Mapping[RunStatus, str] = {
    RunStatus.QUEUED: "blue",
    RunStatus.RUNNING: "cyan",
    RunStatus.WAITING: "yellow",
    RunStatus.PAUSED: "magenta",
    RunStatus.BLOCKED: "magenta",
    RunStatus.COMPLETED: "green",
    RunStatus.FAILED: "red",
    RunStatus.CANCELLED: "red",
    RunStatus.TIMED_OUT: "red",
}
