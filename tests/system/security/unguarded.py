"""Run `stepwire serve` without access, limits and metrics, to compare with.

`python -m tests.system.security.unguarded SPEC …`

What is left of a call is parsing it, the handler, and translating what the handler raises.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from stepwire.cli import main
from stepwire.server.principal import ANONYMOUS
from stepwire.server.rpc.errors import abort, status_of
from stepwire.server.rpc.gate import calls, gatekeeper
from stepwire.server.rpc.gate.call import CALL, Call
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.telemetry import metrics


def unguarded_unary(self: Any, handler: Any, _admission: Any, method: str, parse: Any) -> Any:
    """Return a handler that admits everything and counts nothing."""
    limits = Limits()

    async def unary(data: bytes, context: Any) -> Any:
        CALL.set(Call(method, "unary", ANONYMOUS, limits, None))
        try:
            return await handler(parse(data), context)
        except Exception as error:  # noqa: BLE001 - as the gatekeeper does
            refusal = status_of(error, method, self._calls.metrics)
        await abort(context, refusal)

    return unary


def unguarded_stream(_self: Any, handler: Any, _admission: Any, method: str, receive: Any) -> Any:
    """Return a handler of a stream that admits everything and counts nothing."""
    limits = Limits()

    async def stream(data: bytes, context: Any) -> None:
        call = Call(method, "stream", ANONYMOUS, limits, None)
        CALL.set(call)
        async with aclosing(handler(await receive(call, data), context)) as responses:
            async for response in responses:
                await context.write(response)

    return stream


def parsed(parse: Any, _admission: Any) -> Any:
    """Return a function that only parses the request of a stream."""

    async def receive(_call: Call, data: bytes) -> Any:
        return parse(data)

    return receive


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


if __name__ == "__main__":
    gatekeeper.Gatekeeper._unary = unguarded_unary  # type: ignore[method-assign]
    gatekeeper.Gatekeeper._stream = unguarded_stream  # type: ignore[method-assign]
    gatekeeper.one = parsed  # type: ignore[attr-defined]
    calls.Calls.start = nothing  # type: ignore[method-assign]
    metrics.Histogram.observe = nothing  # type: ignore[method-assign]
    metrics.WorkflowMetrics.moved = nothing  # type: ignore[method-assign]
    metrics.WorkflowMetrics.step = nothing  # type: ignore[method-assign]
    main()
