"""Traces across client, server and steps: W3C Trace Context in the metadata of calls, and OpenTelemetry's set-up.

The context of a trace is a *carrier*: a dict with `traceparent` and perhaps `tracestate`. That of the call which
started a run is kept with the run, so that it belongs to its caller's trace over restarts.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final

_trace: Any = None
with contextlib.suppress(ImportError):  # an optional dependency
    from opentelemetry import trace as _trace

__all__ = ["CARRIER", "TracingError", "carrier_of", "enabled", "setup", "trace_id"]

_FORMS: Final = {
    "traceparent": re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"),
    "tracestate": re.compile(r"[ -~]{1,512}"),
}
_EXPORTERS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

CARRIER: ContextVar[Mapping[str, str]] = ContextVar("stepwire_carrier", default={})  # noqa: B039 - nobody changes it
"""The context of the trace that the call belongs to which this task serves; empty for none."""


class TracingError(ValueError):
    """Traces cannot be exported; the message says why."""


def carrier_of(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Return the context of a trace in a call's metadata; empty when there is none, or none that is valid."""
    found: dict[str, str] = {}
    for key, value in metadata:
        form = _FORMS.get(key)
        if form is not None and isinstance(value, str) and form.fullmatch(value):
            found[key] = value
    return found if "traceparent" in found else {}


def trace_id(carrier: Mapping[str, str]) -> str:
    """Return the id of a carrier's trace, 32 hexadecimal digits; empty for none."""
    return carrier.get("traceparent", "")[3:35]


def enabled() -> bool:
    """Tell whether OpenTelemetry is installed and set up."""
    return _trace is not None and not isinstance(_trace.get_tracer_provider(), _trace.ProxyTracerProvider)


def setup(endpoint: str | None) -> Callable[[], None] | None:
    """Export traces by OTLP over gRPC to `endpoint`, or to where OTEL_EXPORTER_OTLP_ENDPOINT says; None for neither.

    Returns what flushes and ends the export. Other OTEL_* variables hold as OpenTelemetry's SDK documents them; a
    tracer provider that is set already stays. Raises TracingError when the packages are missing.
    """
    if endpoint is None and not any(os.environ.get(name) for name in _EXPORTERS):
        return None
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or enabled():
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError(f"{error.name} is not installed: pip install 'stepwire[otel]'") from None
    resource = Resource.create({} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "stepwire"})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint) if endpoint is not None else OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _trace.set_tracer_provider(provider)
    return provider.shutdown
