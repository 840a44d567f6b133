"""Flows that run on the engine of LlamaIndex and on this one; what they tell of themselves must be the same."""

from collections.abc import Awaitable, Callable
from typing import Any

from workflows.events import Event, InternalDispatchEvent

from stepwire.workflow import adopt

__all__ = ["BACK", "ENGINES", "FLOWS", "MOVED", "Engine", "Flow", "flow", "of", "stream_of"]

Engine = Callable[[Any], Any]
"""Takes a workflow of theirs, and returns what has its `run`."""
Flow = Callable[[Engine], Awaitable[Any]]

FLOWS: dict[str, Flow] = {}
ENGINES: dict[str, Engine] = {"theirs": lambda workflow: workflow, "ours": adopt}


class _Moving:
    """A workflow that begins on one engine, and goes on from what was saved on another."""

    def __init__(self, first: Any, then: Any) -> None:
        self._first, self._then = first, then

    def run(self, ctx: Any = None, **kwargs: Any) -> Any:
        return self._first.run(**kwargs) if ctx is None else self._then.run(ctx=ctx, **kwargs)


def MOVED(workflow: Any) -> Any:
    """Begin on their engine and go on with this one."""
    return _Moving(workflow, adopt(workflow))


def BACK(workflow: Any) -> Any:
    """Begin on this engine and go on with theirs."""
    return _Moving(adopt(workflow), workflow)


def flow(function: Flow) -> Flow:
    """Note a flow under the name of its function."""
    assert function.__name__ not in FLOWS
    FLOWS[function.__name__] = function
    return function


async def of(run: Awaitable[Any]) -> Any:
    """Return how a run ended: its result, or the class and the text of what awaiting it raises."""
    try:
        result = await run
    except Exception as error:  # noqa: BLE001 - whatever it is, both engines must raise it
        return "error", type(error), str(error)
    return "result", result


async def stream_of(handler: Any, internal: bool = False) -> list[Any]:
    """Return the events of the stream of a run, to its end: classes and fields."""
    return [told(event) async for event in handler.stream_events(expose_internal=internal)]


def told(event: Event) -> Any:
    """Return an event as something to compare; times, workers and exceptions are not told the same twice."""
    if isinstance(event, InternalDispatchEvent):
        return type(event).__name__
    fields = {key: value for key, value in dict(event).items() if key not in ("elapsed_seconds", "failed_at")}
    return type(event).__name__, {
        key: repr(value) if isinstance(value, Exception) else value for key, value in fields.items()
    }
