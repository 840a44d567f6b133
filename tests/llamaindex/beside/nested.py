"""Workflows that steps of others run."""

import asyncio
from typing import Any

from tests.llamaindex.beside.harness import Engine, flow, of
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class A(Event):
    n: int = 0


class B(Event):
    n: int = 0


@flow
async def a_workflow_inside_a_step(engine: Engine) -> Any:
    class Inner(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A:
            await ctx.store.set("mine", ev.n)
            ctx.write_event_to_stream(B(n=ev.n))
            return A(n=ev.n + 1)

        @step
        async def end(self, ctx: Context, ev: A) -> StopEvent:
            if ev.n > 2:
                raise ValueError("too much")
            return StopEvent(result=(ev.n, await ctx.store.get("mine")))

    class Outer(Workflow):
        @step
        async def call(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("mine", "outer")
            handler = Inner(timeout=60).run(n=1)
            seen = [event.n async for event in handler.stream_events() if isinstance(event, B)]
            fine = await handler
            try:
                await Inner(timeout=60).run(n=2)
            except ValueError as error:
                return StopEvent(result=(seen, fine, str(error), await ctx.store.get("mine")))
            return StopEvent()

    return await of(engine(Outer(timeout=60)).run())


@flow
async def a_workflow_inside_asks_a_person_of_its_own(engine: Engine) -> Any:
    class Inner(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent(prefix="inner"))
            return StopEvent(result=answer.response)

    class Outer(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            handler = Inner(timeout=60).run()
            async for event in handler.stream_events():
                if isinstance(event, InputRequiredEvent):
                    handler.ctx.send_event(HumanResponseEvent(response="from outside of it"))
            return StopEvent(result=await handler)

    return await of(engine(Outer(timeout=60)).run())


@flow
async def workflows_inside_of_workflows_inside(engine: Engine) -> Any:
    class Deep(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ev.n + 1)

    class Middle(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Deep().run(n=ev.n * 10))

    class Outer(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(3)]

        @step
        async def call(self, ev: A) -> B:
            return B(n=await Middle().run(n=ev.n))

        @step
        async def join(self, events: list[B]) -> StopEvent:
            return StopEvent(result=sorted(each.n for each in events))

    return await of(engine(Outer(timeout=60)).run())


@flow
async def a_workflow_inside_is_cancelled_or_late(engine: Engine) -> Any:
    class Slow(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            await asyncio.Event().wait()
            return StopEvent()

    class Outer(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            late = await of(Slow(timeout=0.02).run())
            handler = Slow(timeout=60).run()
            await asyncio.sleep(0)
            await handler.cancel_run()
            return StopEvent(result=(late, await of(handler)))

    return await of(engine(Outer(timeout=60)).run())
