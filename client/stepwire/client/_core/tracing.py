"""The caller's trace in the metadata of a call, as W3C Trace Context. Needs OpenTelemetry's API."""

from __future__ import annotations

import contextlib
from typing import Any

_propagator: Any = None
with contextlib.suppress(ImportError):  # an optional dependency
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    _propagator = TraceContextTextMapPropagator()

__all__ = ["trace_metadata"]


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Return `traceparent` and `tracestate` of the current span, nothing when there is none."""
    if _propagator is None:
        return ()
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return tuple(carrier.items())
