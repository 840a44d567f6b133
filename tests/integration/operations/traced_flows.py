"""Workflows whose spans go to the file that $SPANS names, a JSON object a line, and which log."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Sequence

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

FORGED = "one\n2026-01-01 00:00:00.000 INFO     forged\r\x1b[2J\u202eend\x7f\x85\u2028"

logger = logging.getLogger("author")

if "SPANS" in os.environ:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class ToFile(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            with open(os.environ["SPANS"], "a", encoding="utf-8") as file:
                for span in spans:
                    context, parent = span.get_span_context(), span.parent
                    assert context is not None
                    document = {
                        "name": span.name,
                        "kind": span.kind.name,
                        "trace": f"{context.trace_id:032x}",
                        "span": f"{context.span_id:016x}",
                        "state": context.trace_state.to_header(),
                        "parent": "" if parent is None else f"{parent.span_id:016x}",
                        "status": span.status.status_code.name,
                        "attributes": dict(span.attributes or {}),
                        "events": [dict(event.attributes or {}) for event in span.events],
                    }
                    file.write(json.dumps(document) + "\n")
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile()))
    trace.set_tracer_provider(provider)


class Answered(Event):
    """Hand the answer on."""

    text: str


class Ask(Workflow):
    """Ask, then work on the answer in a thread."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Answered:
        logger.warning("asking %s", FORGED)
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(), timeout=None)
        return Answered(text=answer.text)

    @step
    def work(self, ev: Answered) -> StopEvent:
        if "SPANS" in os.environ:
            with trace.get_tracer("author").start_as_current_span("own"):
                pass
        logger.warning("working")
        return StopEvent(result=ev.text)


class Fail(Workflow):
    """Fail with what was given."""

    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError(f"{ev.secret}{FORGED}")


class Slow(Workflow):
    """Take too long once, with a second step that looks on."""

    @step(timeout=0.2, retry_policy=ConstantDelayRetryPolicy(maximum_attempts=2, delay=0))
    async def dawdle(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.step_info().attempt == 1:
            await asyncio.Event().wait()
        return StopEvent(result="done")


class TooSlow(Workflow):
    """Take too long."""

    @step(timeout=0.2)
    async def dawdle(self, ev: StartEvent) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()
