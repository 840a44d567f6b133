"""An agent that calls tools in a loop, streams what its model says and remembers the conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic import BaseModel

from stepwire.workflow import Context, Workflow, step
from stepwire.workflow.events import Event, StartEvent, StopEvent


class Message(BaseModel):
    role: str
    content: str


class ToolCall(BaseModel):
    name: str
    arguments: dict[str, int]


class Prepare(Event):
    pass


class Input(Event):
    messages: list[Message]


class Token(Event):
    text: str


class CallTools(Event):
    calls: list[ToolCall]


class Model:
    """Ask for the tool once for each question, then answer with what it found."""

    async def stream(self, messages: list[Message]) -> AsyncIterator[str]:
        last = messages[-1]
        for token in ["call", "add", "2", "3"] if last.role == "user" else ["it", "is", last.content]:
            await asyncio.sleep(0)
            yield token


class Agent(Workflow):
    def __init__(self, model: Model, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self.model = model

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Prepare:
        memory = await ctx.store.get("memory_of_talk", default=[])
        await ctx.store.set("memory_of_talk", [*memory, Message(role="user", content=ev.input)])
        await ctx.store.set("reasoning", [])
        return Prepare()

    @step
    async def prepare(self, ctx: Context, ev: Prepare) -> Input:
        memory = await ctx.store.get("memory_of_talk")
        return Input(messages=[*memory, *await ctx.store.get("reasoning")])

    @step
    async def think(self, ctx: Context, ev: Input) -> CallTools | StopEvent:
        said = []
        async for token in self.model.stream(ev.messages):
            said.append(token)
            ctx.write_event_to_stream(Token(text=token))
        if said[0] == "call":
            return CallTools(calls=[ToolCall(name=said[1], arguments={"a": int(said[2]), "b": int(said[3])})])
        (await ctx.store.get("memory_of_talk")).append(Message(role="assistant", content=" ".join(said)))
        return StopEvent(result=" ".join(said))

    @step
    async def use_tools(self, ctx: Context, ev: CallTools) -> Prepare:
        for call in ev.calls:
            found = call.arguments["a"] + call.arguments["b"]
            (await ctx.store.get("reasoning")).append(Message(role="tool", content=str(found)))
        return Prepare()


async def main() -> None:
    agent = Agent(Model(), timeout=10)
    context = Context(agent)
    handler = agent.run(input="2 + 3?", ctx=context)
    async for event in handler.stream_events():
        if isinstance(event, Token):
            print(event.text)
    print(await handler)
    print(await agent.run(input="again?", ctx=context))
    restored = Context.from_dict(agent, context.to_dict())
    print(await agent.run(input="once more?", ctx=restored))
    print([(each.role, each.content) for each in await restored.store.get("memory_of_talk")])


asyncio.run(main())
