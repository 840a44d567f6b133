"""What callers ask of the runs, in domain types: no wire format."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from stepwire.server.runs.errors import Violation
from stepwire.server.runs.hosting.delta import Parts
from stepwire.server.runs.limits import MAX_ID, check_labels, check_length, refuse
from stepwire.server.store import RunRecord

_RUN_ID = re.compile(rf"[A-Za-z0-9._:\-]{{1,{MAX_ID}}}")


class SnapshotData(NamedTuple):
    """A snapshot: facts of its run, and its parts.

    `at` is the time of its commit, in seconds since the epoch.
    """

    workflow: str
    version: str
    run_id: str
    sequence: int
    at: float
    parts: Parts


@dataclass(slots=True, kw_only=True)
class StartRequest:
    """Start a run: from an input, from a snapshot, or from a run of this server.

    Attributes:
        workflow: The name of the workflow.
        input: The JSON of the start event; None when the request has none.
        run_id: The id that the run shall have; empty for one of the server's choice.
        use_existing: Whether to return the run that has this run_id, if there is one.
        request_id: Repeats under this id return the run that the first request started.
        labels: The labels of the run.
        snapshot: The snapshot to start from.
        from_run: The run_id and the sequence to start from.
        timeout: Seconds until the run times out; None for the workflow's own timeout.
        trace: The trace context of the caller. It is kept with the run.
    """

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

    def check(self) -> None:
        """Check every field but the payload.

        Raises:
            InvalidError: INVALID_REQUEST, with every field that is wrong.
        """
        violations: list[Violation] = []
        if not self.workflow:
            violations.append(Violation("workflow", "is required"))
        if self.run_id and not _RUN_ID.fullmatch(self.run_id):
            violations.append(Violation("run_id", f"must be 1 to {MAX_ID} of letters, digits and ._:-"))
        violations += check_length("request_id", self.request_id)
        violations += check_labels(self.labels)
        if self.timeout is not None and self.timeout <= 0:
            violations.append(Violation("timeout", "must be positive"))
        refuse(violations)


class WaitResult(NamedTuple):
    """The record of a run that a caller waited for, and whether the wait timed out first."""

    record: RunRecord
    timed_out: bool
