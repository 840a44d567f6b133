"""Report failures of steps: to the log under a reference id, and to callers as far as `failure_detail` allows."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from stepwire.server.runs.hosting.redact import without_texts
from stepwire.server.runs.hosting.run_scope import RunScope
from stepwire.server.store import RunRecord, Status
from stepwire.server.telemetry.code_origin import package_of_file
from stepwire.workflow.hosting import (
    Broker,
    FailureReport,
    WorkflowError,
    readable,
    running_execution,
    text_of,
)

logger = logging.getLogger("stepwire.runs")

_TRACEBACK_CHARACTERS = 16_384
"""A record tells the end of a longer traceback: the place of the failure is there."""
_LINE_CHARACTERS = 500
"""Characters of an error's text in a line of the log."""


class FailureReports:
    """Report the failures of one run. `detail` is `type`, `message` or `traceback`."""

    __slots__ = ("_broker", "_detail", "_scope", "traceback")

    def __init__(self, broker: Broker, scope: RunScope, detail: str) -> None:
        self._broker = broker
        self._scope = scope
        self._detail = detail
        self.traceback = ""
        """What callers may be told of the place of the last failure."""

    def report(
        self, step: str | None, error: BaseException, *, attempt: int = 0, next_at: float | None = None
    ) -> FailureReport:
        """Log a step's failure under a new reference id; return what callers may be told.

        Args:
            step: The step.
            error: What it failed with.
            attempt: The number of the attempt that failed; 0 when none did.
            next_at: When the next one is made: then this is a warning.
        """
        reference = uuid4().hex[:16]
        self._log_failure(step, error, reference, attempt, next_at)
        message = trace = ""
        public = error.public if isinstance(error, WorkflowError) else None
        if self._detail in ("message", "traceback"):
            message = text_of(error)
        elif public is not None:
            message = public
        if self._detail == "traceback":
            trace = readable("".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:])
        self.traceback = trace
        return FailureReport(message, trace, reference)

    def _log_failure(
        self, step: str | None, error: BaseException, reference: str, attempt: int, next_at: float | None
    ) -> None:
        """Log a failed attempt: one line while it is repeated, with the traceback when it is not."""
        told = type(error).__name__ if self._detail == "type" else one_line(error)
        about = {"attempt": attempt or None, "error": type(error).__name__, "reference": reference}
        if attempt == 0:
            self.log("step %s failed (reference %s)", step, reference, error=error, step=step)
        elif next_at is None:
            text = "step %s failed, attempt %d, the last: %s (reference %s)"
            self.log(text, step, attempt, told, reference, error=error, step=step, about=about)
        else:
            again = datetime.fromtimestamp(next_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            text = f"step {step} failed, attempt {attempt}: {told}{_place_of(error)} (reference {reference});"
            text += f" the next attempt is at {again}"
            fields = {**self._about(step), **about, "next_attempt": again}
            logger.warning("run %s: %s", self._scope.run_id, text, extra={"stepwire": fields})

    def log_end(self, record: RunRecord) -> None:
        """Log how a run ended, unless it completed."""
        told = record.info.get("outcome") or {}
        status, about = record.status, {"stepwire": self._about(None)}
        if status == Status.FAILED:
            failure = told.get("failure") or {}
            why = f"step {failure['step']}: " if failure.get("step") else ""
            why += failure.get("error_type", "")
            if message := failure.get("message"):
                why += f": {first_line(message)}"
            if failure.get("attempts"):
                why += f", after {failure['attempts']} attempt{'s' * (failure['attempts'] != 1)}"
            if failure.get("reference_id"):
                why += f" (reference {failure['reference_id']})"
            logger.error("run %s failed: %s", self._scope.run_id, why, extra=about)
        elif status == Status.TIMED_OUT:
            why = "" if self._broker.deliveries else f"; {self._nobody_took()}"
            logger.error("run %s timed out: %s%s", self._scope.run_id, told.get("reason", ""), why, extra=about)
        elif status == Status.CANCELLED:
            reason = first_line(told.get("reason", "")) or "no reason was given"
            logger.info("run %s was cancelled: %s", self._scope.run_id, reason, extra=about)

    def log_stall(self) -> None:
        """Log that nothing goes on in the run and nothing is asked, after an event that nothing took."""
        text = f"run {self._scope.run_id} is stalled: {self._nobody_took()}"
        logger.warning("%s", text, extra={"stepwire": self._about(None)})

    def _nobody_took(self) -> str:
        untaken = self._broker.untaken
        return f"no step is at work, and none took {untaken}" if untaken else "no step is at work"

    def log(
        self,
        message: str,
        *facts: object,
        error: BaseException | None = None,
        step: str | None = None,
        about: Mapping[str, Any] = {},
        level: int = logging.ERROR,
    ) -> None:
        """Log an error of this run, with `error` as far as its text may be told, and more fields of the record."""
        shown: Any = None
        if error is not None:
            shown = without_texts(error) if self._detail == "type" else (type(error), error, error.__traceback__)
        text = message % facts if facts else message
        logger.log(
            level,
            "run %s: %s",
            self._scope.run_id,
            text,
            exc_info=shown,
            extra={"stepwire": {**self._about(step), **about}},
        )

    def _about(self, step: str | None) -> dict[str, Any]:
        """Name the run in the log record: timers and commits run in tasks of other runs and calls."""
        about: dict[str, Any] = {"method": None, "attempt": None, **self._scope.log_fields(), "step": step}
        execution = running_execution()
        if execution is not None and execution.broker is self._broker and execution.delivery.step == step:
            about["attempt"] = execution.delivery.attempt
        return about


def first_line(text: str) -> str:
    """Return the first line of a text, with a mark where more follows."""
    line, _, rest = text.strip().partition("\n")
    return f"{line[:_LINE_CHARACTERS]} …" if rest or len(line) > _LINE_CHARACTERS else line


def one_line(error: BaseException) -> str:
    """Return an error as `Type: text`, with the first line of its text."""
    text = first_line(text_of(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place_of(error: BaseException) -> str:
    """Return where the author's code raised an error: its innermost line that is not in an installed package."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not package_of_file(frame.f_code.co_filename):
            place = f" at {frame.f_code.co_filename}:{line}"
    return place
