"""Run `stepwire serve` without access, limits and metrics, to compare with.

`python -m tests.system.security.unguarded SPEC …`

What is left of a call is parsing it, the handler, and translating what the handler raises.
"""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import Any

from stepwire.cli import main
from stepwire.server.principal import ANONYMOUS
from stepwire.server.rpc.errors import abort, status_of
from stepwire.server.rpc.gate import calls, interceptor
from stepwire.server.rpc.gate.calls import CALL, Call
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.telemetry import metrics


def unguarded(self: Any, handler: Any, method: str, parse: Any, **_: bool) -> Any:
    """Return a handler that admits everything and counts nothing."""
    limits = Limits()

    async def unary(data: bytes, context: Any) -> Any:
        CALL.set(Call(method, "unary", ANONYMOUS, limits, None))
        try:
            return await handler(parse(data), context)
        except Exception as error:  # noqa: BLE001 - as the interceptor does
            refusal = status_of(error, method, self._calls.metrics)
        await abort(context, refusal)

    async def stream(data: bytes, context: Any) -> None:
        CALL.set(Call(method, "stream", ANONYMOUS, limits, None))
        async with aclosing(handler(parse(data), context)) as responses:
            async for response in responses:
                await context.write(response)

    return stream if inspect.isasyncgenfunction(handler) else unary


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


if __name__ == "__main__":
    interceptor.ErrorInterceptor._unary = unguarded  # type: ignore[method-assign]
    interceptor.ErrorInterceptor._stream = unguarded  # type: ignore[method-assign,assignment]
    calls.Calls.start = nothing  # type: ignore[method-assign]
    metrics.Histogram.observe = nothing  # type: ignore[method-assign]
    metrics.WorkflowMetrics.moved = nothing  # type: ignore[method-assign]
    metrics.WorkflowMetrics.step = nothing  # type: ignore[method-assign]
    main()
