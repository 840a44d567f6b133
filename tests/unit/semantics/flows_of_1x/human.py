"""A human in the loop, by returned and by awaited questions; saved at a question, restored, answered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from stepwire.workflow import Context, Workflow, step
from stepwire.workflow.context import JsonSerializer, PickleSerializer
from stepwire.workflow.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Task(Event):
    name: str


class Question(InputRequiredEvent):
    prefix: str


class Answer(HumanResponseEvent):
    response: str


class Returned(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="a number: ")

    @step
    async def answered(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


class Awaited(Workflow):
    @step
    async def prepare(self, ctx: Context, ev: StartEvent) -> Task:
        await ctx.store.set("prepared", True)
        return Task(name="trip")

    @step
    async def ask(self, ctx: Context, ev: Task) -> StopEvent:
        first = await ctx.wait_for_event(
            Answer,
            waiter_event=Question(prefix=f"{ev.name}?", user="ann"),
            waiter_id="first",
            requirements={"user": "ann"},
        )
        second = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="sure?"), waiter_id="second"
        )
        return StopEvent(result=[first.response, second.response, await ctx.store.get("prepared")])


class Impatient(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Answer, timeout=0.05)
        except asyncio.TimeoutError:  # noqa: UP041 - as the documentation of 1.x writes it
            return StopEvent(result="no one answered")
        return StopEvent(result="answered")


async def talk(workflow: Workflow, answers: list[list[Event]]) -> Any:
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            print(type(event).__name__, event.prefix)
            for answer in answers.pop(0):
                handler.ctx.send_event(answer)
    return await handler


async def saved_at_the_question(workflow: Workflow, serializer: Any) -> Any:
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    saved = json.dumps(handler.ctx.to_dict(serializer=serializer))
    await handler.cancel_run()
    return json.loads(saved)


async def main() -> None:
    print(await talk(Returned(), [[HumanResponseEvent(response="42")]]))
    first: list[Event] = [Answer(response="no", user="bob"), Answer(response="yes", user="ann")]
    print(await talk(Awaited(), [first, [HumanResponseEvent(response="very")]]))
    print(await talk(Impatient(), []))
    for serializer in (JsonSerializer(), PickleSerializer()):
        returned = Returned()
        saved = await saved_at_the_question(returned, serializer)
        handler = returned.run(ctx=Context.from_dict(returned, saved, serializer=serializer))
        handler.ctx.send_event(HumanResponseEvent(response="7"))
        print(saved["is_running"], await handler)

        awaited = Awaited()
        saved = await saved_at_the_question(awaited, serializer)
        handler = awaited.run(ctx=Context.from_dict(awaited, saved, serializer=serializer))
        await asyncio.sleep(0.1)  # 1.x runs the step again first
        handler.ctx.send_event(Answer(response="later", user="ann"))
        async for event in handler.stream_events():
            if type(event) is InputRequiredEvent:
                handler.ctx.send_event(HumanResponseEvent(response="still"))
        print(await handler)


asyncio.run(main())
