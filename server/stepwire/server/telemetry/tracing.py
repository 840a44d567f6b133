"""Traces across client, server and steps: W3C Trace Context in the metadata of calls, set-up of OpenTelemetry.

The context of a trace is a *carrier*: a dict with `traceparent` and perhaps `tracestate`. A run keeps the carrier of
the call that started it, so it belongs to its caller's trace over restarts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from stepwire.server.extras import not_installed

_trace: Any = None
with contextlib.suppress(ImportError):  # an optional dependency
    from opentelemetry import trace as _trace

logger = logging.getLogger("stepwire.server")

__all__ = ["CARRIER", "END_SECONDS", "TracingError", "carrier_of", "enabled", "setup", "trace_id"]

_PARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)
_FLAGS: Final = 0b11
"""The flags that W3C Trace Context defines: sampled, random. Later versions may define more."""
_STATE: Final = re.compile(r"[\t -~]{1,512}")
_MEMBERS: Final = 32
"""How many members a `tracestate` may have."""
END_SECONDS: Final = 2.0
"""How long the last traces may take to be exported when the server stops."""
_EXPORTERS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

CARRIER: ContextVar[Mapping[str, str]] = ContextVar("stepwire_carrier", default={})  # noqa: B039 - nobody changes it
"""The trace context of the call that this task serves; empty without one."""


class TracingError(ValueError):
    """Traces cannot be exported. The message says why."""


def carrier_of(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Return the trace context in a call's metadata; empty when there is none that is valid.

    It is always of version 00: what later versions add is left out, and so is a `tracestate` that is too long or not
    valid.
    """
    text, states = "", []
    for key, value in metadata:
        if key == "traceparent":
            text = value if isinstance(value, str) else ""  # gRPC lets the last of several through
        elif key == "tracestate" and isinstance(value, str):
            states.append(value)
    if not text:
        return {}
    parent = _PARENT.fullmatch(text.strip(" \t"))
    if parent is None or (parent["version"] == "00" and parent["more"]):
        return {}
    found = {"traceparent": f"00-{parent['ids']}-{int(parent['flags'], 16) & _FLAGS:02x}"}
    state = ",".join(states).strip(" \t")
    if _STATE.fullmatch(state) and state.count(",") < _MEMBERS:
        found["tracestate"] = state
    return found


def trace_id(carrier: Mapping[str, str]) -> str:
    """Return the id of a carrier's trace, 32 hexadecimal digits; empty for none."""
    return carrier.get("traceparent", "")[3:35]


def enabled() -> bool:
    """Tell whether OpenTelemetry is installed and set up."""
    return _trace is not None and not isinstance(_trace.get_tracer_provider(), _trace.ProxyTracerProvider)


def setup(endpoint: str | None) -> Callable[[], None] | None:
    """Export traces by OTLP over gRPC.

    Other OTEL_* variables work as OpenTelemetry's SDK documents them. A tracer provider that is already set stays.

    Args:
        endpoint: The collector; None for the one of OTEL_EXPORTER_OTLP_ENDPOINT.

    Returns:
        A function that flushes and ends the export within 2 seconds; None when nothing is exported.

    Raises:
        TracingError: The packages are missing.
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
        raise TracingError(not_installed(error, "otel")) from None
    resource = Resource.create({} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "stepwire"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint) if endpoint is not None else OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _trace.set_tracer_provider(provider)

    def end() -> None:
        # The exporter retries for as long as the collector does not answer, so it is not waited for.
        ending = threading.Thread(target=provider.shutdown, name="stepwire-traces", daemon=True)
        ending.start()
        ending.join(END_SECONDS)
        if ending.is_alive():
            logger.warning("the collector does not answer: the last traces are lost")

    return end
