"""What the code that logs works on: the fields that stand beside a log message."""

from __future__ import annotations

from stepwire.server.rpc import CALL
from stepwire.server.runs.hosting.run_scope import RUN
from stepwire.server.telemetry import tracing
from stepwire.workflow.hosting import running_execution

__all__ = ["log_fields"]


def log_fields() -> dict[str, str | int]:
    """Return the run, workflow, step, attempt, principal, method and trace of the running code, as far as known."""
    fields: dict[str, str | int] = {}
    scope, call = RUN.get(), CALL.get()
    if scope is not None:
        fields = scope.log_fields()
        execution = running_execution()
        if execution is not None:
            fields["step"] = execution.delivery.step
            fields["attempt"] = execution.delivery.attempt
    elif call is not None:
        fields = call.log_fields()
    if not fields.get("trace"):
        fields["trace"] = tracing.trace_id(tracing.CARRIER.get())
    return fields
