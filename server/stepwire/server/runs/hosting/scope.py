"""Which run code is running for: what the log says beside a message."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from stepwire.server.principal import ANONYMOUS

__all__ = ["RUN", "RunScope"]


class RunScope(NamedTuple):
    """A run, who started it, and the id of the trace that it belongs to; empty for nobody and none."""

    workflow: str
    run_id: str
    principal: str
    trace_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return what the log says of it."""
        principal = "" if self.principal == ANONYMOUS.name else self.principal
        return {"run": self.run_id, "workflow": self.workflow, "principal": principal, "trace": self.trace_id}


RUN: ContextVar[RunScope | None] = ContextVar("stepwire_run", default=None)
"""The run whose step the caller is, or which the caller is at work for."""
