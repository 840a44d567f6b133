"""Retrieval from several sources at once, reranking, an answer; then a second question in the same context."""

from __future__ import annotations

import asyncio

from stepwire.workflow import Context, Workflow, step
from stepwire.workflow.events import Event, StartEvent, StopEvent

DOCUMENTS = {"web": ["w1", "w2"], "library": ["b1", "b2", "b3"], "mail": []}


class Query(Event):
    text: str


class Retrieved(Event):
    source: str
    nodes: list[str]


class Reranked(Event):
    nodes: list[str]


class Progress(Event):
    message: str


class Rag(Workflow):
    def __init__(self, *, top: int, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self.top = top

    @step
    async def ask_all(self, ctx: Context, ev: StartEvent) -> Query | None:
        await ctx.store.set("asked", [*await ctx.store.get("asked", default=[]), ev.question])
        await ctx.store.set("sources", len(DOCUMENTS))
        for source in DOCUMENTS:
            ctx.send_event(Query(text=ev.question, source=source))
        return None

    @step(num_workers=3)
    async def retrieve(self, ctx: Context, ev: Query) -> Retrieved:
        ctx.write_event_to_stream(Progress(message=f"asked {ev.source}"))
        return Retrieved(source=ev.source, nodes=DOCUMENTS[ev.source])

    @step
    async def rerank(self, ctx: Context, ev: Retrieved) -> Reranked | None:
        found = ctx.collect_events(ev, [Retrieved] * await ctx.store.get("sources"))
        if found is None:
            return None
        return Reranked(nodes=sorted(node for each in found for node in each.nodes)[: self.top])

    @step
    async def answer(self, ctx: Context, ev: Reranked) -> StopEvent:
        return StopEvent(result={"asked": await ctx.store.get("asked"), "nodes": ev.nodes})


async def main() -> None:
    workflow = Rag(top=3, timeout=10)
    handler = workflow.run(question="why?")
    async for event in handler.stream_events():
        print(event.message if isinstance(event, Progress) else f"stop: {event.result}")
    print(await handler, handler.is_done())
    print(await workflow.run(ctx=handler.ctx, question="and how?"))


asyncio.run(main())
