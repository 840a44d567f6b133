"""Waits for events, by people and others."""

from typing import Any

from tests.llamaindex.beside.harness import Engine, flow, of
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class A(Event):
    n: int = 0


class B(Event):
    n: int = 0


@flow
async def answers_go_to_the_wait_that_requires_them(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | None:
            for n in range(3):
                ctx.send_event(A(n=n))
            return None

        @step(num_workers=4)
        async def ask(self, ctx: Context, ev: A) -> B:
            prompt = InputRequiredEvent(number=ev.n)
            answer = await ctx.wait_for_event(HumanResponseEvent, prompt, requirements={"number": ev.n})
            return B(n=answer.value)

        @step
        async def end(self, ctx: Context, ev: B) -> StopEvent | None:
            got = ctx.collect_events(ev, [B] * 3)
            return None if got is None else StopEvent(result=sorted(each.n for each in got))

    handler = engine(Flow(timeout=60)).run()
    asked = []
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            asked.append(event.number)
            handler.ctx.send_event(HumanResponseEvent(number=event.number, value=event.number * 10))
    return sorted(asked), await of(handler)


@flow
async def branches_without_waiter_ids_wait_apart_and_one_answer_serves_all(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | None:
            for _ in range(3):
                ctx.send_event(A())
            return None

        @step(num_workers=3)
        async def ask(self, ctx: Context, ev: A) -> B:
            answer = await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent(prefix="same"))
            return B(n=answer.value)

        @step
        async def end(self, ctx: Context, ev: B) -> StopEvent | None:
            got = ctx.collect_events(ev, [B] * 3)
            return None if got is None else StopEvent(result=[each.n for each in got])

    handler = engine(Flow(timeout=60)).run()
    asked = 0
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            asked += 1
            if asked == 3:
                handler.ctx.send_event(HumanResponseEvent(value=5))
    return asked, await of(handler)


@flow
async def a_wait_that_is_late(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                await ctx.wait_for_event(HumanResponseEvent, timeout=0.01)
            except TimeoutError as error:
                return StopEvent(result=(type(error), str(error)))
            return StopEvent(result="answered")

    return await of(engine(Flow(timeout=60)).run())


@flow
async def asked_by_one_step_and_answered_to_another(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> InputRequiredEvent:
            return InputRequiredEvent(prefix="name?")

        @step
        async def answer(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent(result=ev.response)

    handler = engine(Flow(timeout=60)).run()
    seen = []
    async for event in handler.stream_events():
        seen.append(type(event))
        if isinstance(event, InputRequiredEvent):
            await handler.send_event(HumanResponseEvent(response="Ada"))
    return seen, await of(handler)
