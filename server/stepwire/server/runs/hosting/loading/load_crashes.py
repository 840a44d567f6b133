"""How often loading a run crashed the process, and when that keeps it from being loaded again."""

from __future__ import annotations

from dataclasses import dataclass

from stepwire.server.registry import Served
from stepwire.server.runs.hosting.commits.record import LOAD_CRASHES
from stepwire.server.store import RunRecord

__all__ = ["LoadCrashes"]

MAX_LOAD_CRASHES = 3
"""A run whose loading has crashed the process this often is blocked."""
_TRY_AGAIN_SECONDS = 3600.0
"""Seconds after which a blocked run is tried once more under a version that crashed."""


@dataclass(frozen=True)
class LoadCrashes:
    """How often loading a run crashed the process.

    Attributes:
        count: How often.
        version: The version of the workflow that was served then.
        at: When it did last, in seconds since the epoch.
    """

    count: int = 0
    version: str = ""
    at: float = 0.0

    @classmethod
    def of(cls, record: RunRecord) -> LoadCrashes:
        """Return what the record of a run says."""
        return cls(**record.info.get(LOAD_CRASHES, {}))

    def again(self, served: Served, now: float) -> LoadCrashes:
        """Count one more, which is found at `now`, in seconds since the epoch."""
        count = self.count + 1 if self.version == served.version else 1
        return LoadCrashes(count, served.version, now)

    def guilty(self, served: Served, now: float) -> bool:
        """Return whether the run must not be loaded with this code at `now`, in seconds since the epoch.

        Code may change without its version. So after an hour the run is tried once more.
        """
        recent = now - self.at < _TRY_AGAIN_SECONDS
        return self.count >= MAX_LOAD_CRASHES and self.version == served.version and recent

    @property
    def reason(self) -> str:
        """Say why the run is blocked."""
        return f"loading it crashed the process {self.count} times; serve another version of the workflow"
