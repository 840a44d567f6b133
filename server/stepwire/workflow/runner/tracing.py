"""Spans for runs and steps, where OpenTelemetry's API is installed and a tracer provider is set; else nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

_trace: Any = None
with contextlib.suppress(ImportError):  # an optional dependency
    from opentelemetry import context as _context
    from opentelemetry import trace as _trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["RunTrace", "StepTrace"]

TRACER = "stepwire.workflow"


# Whether the environment names a tracer provider, which the API then loads at the first call for one.
_is_named = _trace is not None and bool(os.environ.get("OTEL_PYTHON_TRACER_PROVIDER"))


def _is_traced() -> bool:
    """Tell whether a tracer provider is set."""
    # While none is, the public function reads the environment each time: a tenth of a short run's time.
    if not _is_named and getattr(_trace, "_TRACER_PROVIDER", _trace) is None:
        return False
    return not isinstance(_trace.get_tracer_provider(), _trace.ProxyTracerProvider)


class StepTrace:
    """The span of one execution of a step; it is the current one in the step's code."""

    __slots__ = ("_delivery", "_open", "_outcome", "_span")

    def __init__(self, span: Any, delivery: int, open: dict[int, StepTrace]) -> None:
        self._span = span
        self._delivery = delivery
        self._open = open
        self._outcome = "finished"
        open[delivery] = self

    def failed(self, error: BaseException) -> None:
        """Note why the execution failed, by the type: the text may hold what no trace should."""
        self._outcome = "failed"
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(_trace.StatusCode.ERROR, type(error).__name__)

    def unfinished(self, why: str) -> None:
        """Note why the delivery is not through, unless the execution failed.

        `parked`: its run left memory while it waited, the next attempt goes on; else `abandoned`.
        """
        if self._outcome == "finished":
            self._outcome = why

    def __enter__(self) -> StepTrace:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open.get(self._delivery) is self:
            del self._open[self._delivery]
        self._span.set_attribute("stepwire.outcome", self._outcome)
        self._span.end()


class RunTrace:
    """The span of a run while this process drives it: from its start, or from where it was taken up again."""

    __slots__ = ("_context", "_open", "_run_id", "_span", "_tracer", "_workflow")

    def __init__(self, workflow: str, run_id: str, parent: Any, resumed: bool) -> None:
        self._workflow = workflow
        self._run_id = run_id
        self._tracer = _trace.get_tracer(TRACER)
        self._open: dict[int, StepTrace] = {}
        """The executions under way by delivery, of each the latest."""
        attributes = {"stepwire.workflow": workflow, "stepwire.run_id": run_id, "stepwire.resumed": resumed}
        self._span = self._tracer.start_span(f"run {workflow}", parent, attributes=attributes)
        self._context = _trace.set_span_in_context(self._span, parent)

    @classmethod
    def begin(
        cls, workflow: str, run_id: str, carrier: Mapping[str, str] | None = None, *, resumed: bool = False
    ) -> RunTrace | None:
        """Start the span of a run; None where nobody traces.

        Its parent is what `carrier` (`traceparent`, `tracestate` of W3C Trace Context) says, else the current span.
        """
        if _trace is None or not _is_traced():
            return None
        parent = _context.get_current()
        if carrier is not None:
            parent = TraceContextTextMapPropagator().extract(carrier, _context.Context())
        return cls(workflow, run_id, parent, resumed)

    def step(self, step: str, delivery: int, attempt: int) -> StepTrace:
        """Start the span of an execution, to be ended by `with`, and make it the current one of the calling task."""
        attributes = {
            "stepwire.workflow": self._workflow,
            "stepwire.run_id": self._run_id,
            "stepwire.step": step,
            "stepwire.delivery": delivery,
            "stepwire.attempt": attempt,
        }
        span = self._tracer.start_span(f"step {step}", self._context, attributes=attributes)
        # The task is the step's own and ends with it: nothing is detached.
        _context.attach(_trace.set_span_in_context(span, self._context))
        return StepTrace(span, delivery, self._open)

    def failed(self, delivery: int, error: BaseException) -> None:
        """Note why the execution under way of a delivery failed."""
        if (step := self._open.get(delivery)) is not None:
            step.failed(error)

    def end(self, status: str, error: BaseException | None = None) -> None:
        """End the span: with a terminal status, or `released` when the run left memory and goes on later."""
        self._span.set_attribute("stepwire.status", status)
        if status in ("failed", "timed_out"):
            kind = type(error).__name__ if error is not None else status
            self._span.set_attribute("error.type", kind)
            self._span.set_status(_trace.StatusCode.ERROR, kind)
        self._span.end()
