"""What callers ask of the runs, free of any wire format."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.runs.hosting.delta import Parts
from stepwire.server.store import RunRecord

_RUN_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
MAX_LABELS = 32


class SnapshotData(NamedTuple):
    """A snapshot: its run's record facts and its parts."""

    workflow: str
    version: str
    run_id: str
    sequence: int
    at: float
    parts: Parts


@dataclass(slots=True, kw_only=True)
class StartRequest:
    """Start a run: from an input, from a snapshot, or from a run that this server holds."""

    workflow: str
    input: bytes | None = None
    run_id: str = ""
    use_existing: bool = False
    request_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    snapshot: SnapshotData | None = None
    from_run: tuple[str, int] | None = None
    timeout: float | None = None
    trace: dict[str, str] = field(default_factory=dict)
    """The context of the caller's trace, kept with the run."""

    def check(self) -> None:
        """Raise InvalidError (INVALID_REQUEST) naming every field that breaks its limits."""
        violations: list[Violation] = []
        if not self.workflow:
            violations.append(Violation("workflow", "is required"))
        if self.run_id and not _RUN_ID.fullmatch(self.run_id):
            violations.append(Violation("run_id", "must be 1 to 128 of letters, digits and ._:-"))
        violations += check_request_id(self.request_id)
        if len(self.labels) > MAX_LABELS:
            violations.append(Violation("labels", f"must be at most {MAX_LABELS}"))
        for key, value in self.labels.items():
            if not 1 <= len(key) <= 63 or len(value) > 255:
                violations.append(Violation("labels", "keys are 1 to 63, values at most 255 characters"))
                break
        if self.timeout is not None and self.timeout <= 0:
            violations.append(Violation("timeout", "must be positive"))
        if violations:
            raise InvalidError("INVALID_REQUEST", "The request is not valid", violations)


def check_request_id(request_id: str) -> list[Violation]:
    """Return what is wrong with a request_id."""
    if len(request_id) > 128:
        return [Violation("request_id", "must be at most 128 characters")]
    return []


class WaitResult(NamedTuple):
    """What came of waiting for a run."""

    record: RunRecord
    timed_out: bool
