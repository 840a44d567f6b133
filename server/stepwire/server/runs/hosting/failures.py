"""Report failures of steps: to the log under a reference id, and to callers as far as `failure_detail` allows."""

from __future__ import annotations

import logging
import traceback
from typing import Any
from uuid import uuid4

from stepwire.server.runs.hosting.redact import without_texts
from stepwire.server.runs.hosting.run_scope import RunScope
from stepwire.workflow.hosting import (
    Broker,
    FailureReport,
    RunLimitError,
    SerializationError,
    WorkflowError,
    running_execution,
    text_of,
)

logger = logging.getLogger("stepwire.runs")

_TRACEBACK_CHARACTERS = 16_384
"""A record tells the end of a longer traceback: the place of the failure is there."""


class FailureReports:
    """Report the failures of one run. `detail` is `type`, `message` or `traceback`."""

    __slots__ = ("_broker", "_detail", "_scope", "traceback")

    def __init__(self, broker: Broker, scope: RunScope, detail: str) -> None:
        self._broker = broker
        self._scope = scope
        self._detail = detail
        self.traceback = ""
        """What callers may be told of the place of the last failure."""

    def report(self, step: str | None, error: BaseException) -> FailureReport:
        """Log a step's failure under a new reference id; return what callers may be told."""
        reference = uuid4().hex[:16]
        self.log("step %s failed (reference %s)", step, reference, error=error, step=step)
        message = trace = ""
        public = error.public if isinstance(error, WorkflowError) else None
        if self._detail in ("message", "traceback"):
            message = text_of(error)
        elif public is not None:
            message = public
        if self._detail == "traceback":
            trace = "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:]
        self.traceback = trace
        return FailureReport(message, trace, reference)

    def log_limit(self) -> None:
        """Log that the run was failed by a limit, or because its state cannot be saved: no step raised that."""
        outcome = self._broker.outcome
        if outcome is None or not isinstance(outcome.error, RunLimitError | SerializationError):
            return
        if not getattr(outcome.event, "reference", ""):
            self.log("failed: %s", outcome.error)

    def log(self, message: str, *facts: object, error: BaseException | None = None, step: str | None = None) -> None:
        """Log an error of this run, with `error` as far as its text may be told."""
        shown: Any = None
        if error is not None:
            shown = without_texts(error) if self._detail == "type" else (type(error), error, error.__traceback__)
        text = message % facts if facts else message
        logger.error("run %s: %s", self._scope.run_id, text, exc_info=shown, extra=self._about(step))

    def _about(self, step: str | None) -> dict[str, Any]:
        """Name the run in the log record: timers and commits run in tasks of other runs and calls."""
        about: dict[str, Any] = {"method": None, "attempt": None, **self._scope.log_fields(), "step": step}
        execution = running_execution()
        if execution is not None and execution.broker is self._broker and execution.delivery.step == step:
            about["attempt"] = execution.delivery.attempt
        return {"stepwire": about}
