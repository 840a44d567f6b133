"""The run that code is running for, so that log records can name it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from stepwire.server.principal import ANONYMOUS

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

    def log_fields(self) -> dict[str, str | int]:
        """Return the fields that name the run in a log record."""
        principal = "" if self.principal == ANONYMOUS.name else self.principal
        return {"run": self.run_id, "workflow": self.workflow, "principal": principal, "trace": self.trace_id}


RUN: ContextVar[RunScope | None] = ContextVar("stepwire_run", default=None)
"""The run whose step is running, or whose commit or timer is."""
