"""Record each call as a span of its caller's trace, if OpenTelemetry is set up."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from stepwire.server.telemetry.tracing import CARRIER, carrier_of, enabled

with contextlib.suppress(ImportError):  # an optional dependency
    from opentelemetry import context as _context
    from opentelemetry import trace as _trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["traced"]

Handle = Callable[[Any, Any], Awaitable[Any]]

# The codes that are the server's fault by OpenTelemetry's conventions for gRPC.
_SERVER_ERRORS: Final = frozenset(
    code.value[0]
    for code in (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)


def traced(handle: Handle, method: str) -> Handle:
    """Return a handler that records a span around `handle`; without OpenTelemetry, `handle` itself."""
    service, _, name = method.strip("/").rpartition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}

    async def spanned(data: Any, context: Any) -> Any:
        carrier = carrier_of(context.invocation_metadata() or ())
        propagator = TraceContextTextMapPropagator()
        parent = propagator.extract(carrier, _context.Context())
        span = _trace.get_tracer("stepwire.server").start_span(
            method.strip("/"), parent, kind=_trace.SpanKind.SERVER, attributes=attributes
        )
        # The task serves this call alone and ends with it, so the context is never detached.
        inside = _trace.set_span_in_context(span, parent)
        _context.attach(inside)
        own: dict[str, str] = {}
        propagator.inject(own, inside)
        CARRIER.set(own)
        passed = False
        try:
            answer = await handle(data, context)
            passed = True
            return answer
        finally:
            code = 0 if passed else _code(context)
            span.set_attribute("rpc.grpc.status_code", code)
            if code in _SERVER_ERRORS:
                span.set_status(_trace.StatusCode.ERROR)
            span.end()
            del context, data  # gRPC keeps the exception that ends a call, and with it this frame

    return spanned if enabled() else handle


def _code(context: Any) -> int:
    """Return the number of the status that a failed call was aborted with; CANCELLED if the client left."""
    code: Any = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    return int(number or grpc.StatusCode.CANCELLED.value[0])
