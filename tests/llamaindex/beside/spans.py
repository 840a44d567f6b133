"""What `llama_index_instrumentation` is told of steps and runs."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from pydantic import PrivateAttr
from tests.llamaindex.beside.harness import Engine, flow, of
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class A(Event):
    n: int = 0


class Spans(BaseSpanHandler[BaseSpan]):
    """Notes how spans begin and end."""

    _told: list[Any] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Spans"

    def _name(self, id_: str | None) -> str:
        """Return a span's id without what is never the same twice."""
        return "" if id_ is None else id_[:-37].rpartition(">.")[2]

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BaseSpan:
        event = (tags or {}).get("llamaindex.step.input_event")
        self._told.append(("enter", self._name(id_), self._name(parent_span_id), event, (tags or {}).get("mine")))
        return BaseSpan(id_=id_, parent_id=parent_span_id)

    def prepare_to_exit_span(self, id_: str, *args: Any, **kwargs: Any) -> BaseSpan | None:
        self._told.append(("exit", self._name(id_)))
        return self.open_spans.get(id_)

    def prepare_to_drop_span(self, id_: str, *args: Any, err: Any = None, **kwargs: Any) -> BaseSpan | None:
        self._told.append(("drop", self._name(id_), repr(err)))
        return self.open_spans.get(id_)


class Events(BaseEventHandler):
    """Notes events."""

    _told: list[Any] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self._told.append((event.class_name(), getattr(event, "output", None), getattr(event, "reason", None)))


@contextlib.contextmanager
def listening() -> Iterator[list[Any]]:
    """Give what is told."""
    spans, events, root = Spans(), Events(), get_dispatcher()
    events._told = spans._told
    root.add_span_handler(spans)
    root.add_event_handler(events)
    try:
        yield spans._told
    finally:
        root.span_handlers.remove(spans)
        root.event_handlers.remove(events)


@flow
async def spans_of_a_run(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def first(self, ev: StartEvent) -> A:
            return A(n=1)

        @step
        def second(self, ev: A) -> StopEvent:
            return StopEvent(result="done")

    with listening() as told, instrument_tags({"mine": 1}):
        return await of(engine(Flow(timeout=60)).run()), told


@flow
async def spans_of_a_failure(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def first(self, ev: StartEvent) -> StopEvent:
            raise ValueError("bad")

    with listening() as told:
        return await of(engine(Flow(timeout=60)).run()), told


@flow
async def tags_of_a_run(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def first(self, ctx: Context, ev: StartEvent) -> StopEvent:
            tags = active_instrument_tags.get()
            return StopEvent(result=(tags.get("llamaindex.run_id"), tags.get("mine")))

    with instrument_tags({"mine": "x"}):
        handler = engine(Flow()).run(run_id="of tags " + str(engine))
    run_id, mine = await handler
    return run_id == handler.run_id, mine
