"""Typed and dynamic state by path, saved and restored with each serializer; start and stop events of one's own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pydantic import BaseModel, Field

from stepwire.workflow import Context, Workflow, step
from stepwire.workflow.context import JsonSerializer, PickleSerializer
from stepwire.workflow.errors import WorkflowRuntimeError
from stepwire.workflow.events import Event, StartEvent, StopEvent


class Inner(BaseModel):
    number: int = 0
    tags: list[str] = Field(default_factory=list)


class Counted(BaseModel):
    count: int = 0
    inner: Inner = Field(default_factory=Inner)
    loose: dict[str, object] = Field(default_factory=dict)


class Begin(StartEvent):
    topic: str
    times: int = Field(default=2, ge=1)


class End(StopEvent):
    text: str
    note: str = "fine"


class Work(Event):
    n: int


class Typed(Workflow):
    @step
    async def begin(self, ctx: Context[Counted], ev: Begin) -> Work | None:
        await ctx.store.set("inner.tags", [*await ctx.store.get("inner.tags"), ev.topic])
        await ctx.store.set("inner.number", 5)
        await ctx.store.set("loose.deep", {"list": [1, {"x": 3}]})
        for n in range(ev.times):
            ctx.send_event(Work(n=n))
        await ctx.store.set("loose.times", ev.times)
        return None

    @step
    async def work(self, ctx: Context[Counted], ev: Work) -> End | None:
        await ctx.store.set("count", await ctx.store.get("count") + 1)
        if ctx.collect_events(ev, [Work] * await ctx.store.get("loose.times")) is None:
            return None
        print(await ctx.store.get("loose.deep.list.1.x"), await ctx.store.get("loose.none", default="absent"))
        state = await ctx.store.get_state()
        return End(text=f"{state.count} {state.inner.tags}")


class Dynamic(Workflow):
    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("a.b.c", 1)
        await ctx.store.set("model", Inner(number=3))
        try:
            await ctx.store.get("nothing")
        except ValueError:
            print("nothing is there")
        state = await ctx.store.get_state()
        print(state["a"], state.a, state.get("zz"), "a" in state, sorted(state.keys()), len(state))
        state.more = [ev.get("x", "no x")]
        await ctx.store.set_state(state)
        return StopEvent(result=(await ctx.store.get("more.0"), await ctx.store.get("model.number")))


async def main() -> None:
    typed = Typed()
    handler = typed.run(topic="bees", times=3)
    end = await handler
    print(type(end).__name__, end.text, end.note)
    for serializer in (JsonSerializer(), PickleSerializer()):
        saved = json.loads(json.dumps(handler.ctx.to_dict(serializer=serializer)))
        restored = Context.from_dict(typed, saved, serializer=serializer)
        print(await restored.store.get_state() == await handler.ctx.store.get_state())
        print((await typed.run(ctx=restored, start_event=Begin(topic="wasps"))).text)
    nothing: Any = {}
    for wrong in (nothing, {"topic": "x", "times": 0}):
        try:
            await typed.run(**wrong)
        except WorkflowRuntimeError:
            print("no valid start event")

    dynamic = Dynamic()
    handler = dynamic.run(x=1)
    print(await handler)
    for serializer in (JsonSerializer(), PickleSerializer()):
        saved = json.loads(json.dumps(handler.ctx.to_dict(serializer=serializer)))
        restored = Context.from_dict(dynamic, saved, serializer=serializer)
        print(await restored.store.get("a"), await restored.store.get("model") == Inner(number=3))


asyncio.run(main())
