"""The run that code is running for, so that log records can name it."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import NamedTuple, Self

from stepwire.server.principal import ANONYMOUS
from stepwire.server.store import RunRecord
from stepwire.server.telemetry.tracing import trace_id

__all__ = ["RUN", "RunScope"]


class RunScope(NamedTuple):
    """Name a run.

    Attributes:
        workflow: Its workflow.
        run_id: Its id.
        principal: Who started it.
        trace_id: The trace that it belongs to; empty for none.
    """

    workflow: str
    run_id: str
    principal: str
    trace_id: str

    @classmethod
    def of(cls, workflow: str, record: RunRecord) -> Self:
        """Name the run of a record, of a workflow as it is served now."""
        principal, trace = record.info.get("principal", ""), trace_id(record.info.get("trace", {}))
        return cls(workflow, record.key.run_id, principal, trace)

    def variables(self) -> Context:
        """Return context variables by which steps and their log records find their run.

        They inherit nothing of the call that started or loaded the run: its message and credential would live as long.
        """
        variables = Context()
        variables.run(RUN.set, self)
        return variables

    def log_fields(self) -> dict[str, str | int]:
        """Return the fields that name the run in a log record."""
        principal = "" if self.principal == ANONYMOUS.name else self.principal
        return {"run": self.run_id, "workflow": self.workflow, "principal": principal, "trace": self.trace_id}


RUN: ContextVar[RunScope | None] = ContextVar("stepwire_run", default=None)
"""The run whose step is running, or whose commit or timer is."""
