"""Agents that are tools of other agents, and a workflow that runs one in many ways."""

from typing import Any

import pytest
from llama_index.core.agent.workflow import (
    AgentOutput,
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ToolCall,
    ToolCallResult,
)
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer, Memory
from tests.llamaindex.agents import Obedient, approve, multiply, note
from workflows import Context, Workflow, step
from workflows.errors import WorkflowRuntimeError
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


def count(what: str) -> str:
    """Do something that is seen."""
    note(f"counted {what}")
    return f"{what} is done"


inner = FunctionAgent(name="inner", tools=[count, multiply, approve], llm=Obedient())


async def forward(ctx: Context, wanted: str) -> str:
    """Have the inner agent do it, and ask a person what it asks."""
    handler = inner.run(user_msg=wanted)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            note(f"asked {event.what}")
            answer = await ctx.wait_for_event(HumanResponseEvent, event, requirements={"what": event.what})
            handler.ctx.send_event(answer)
    return str(await handler)


async def plain(wanted: str) -> str:
    """Have the inner agent do it."""
    return str(await inner.run(user_msg=wanted))


middle = FunctionAgent(name="middle", tools=[forward], llm=Obedient())


async def delegate(ctx: Context, wanted: str) -> str:
    """Have an agent do it that has the inner agent do it."""
    handler = middle.run(user_msg=wanted)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            answer = await ctx.wait_for_event(HumanResponseEvent, event, requirements={"what": event.what})
            await handler.send_event(answer)
    return str(await handler)


outer = FunctionAgent(name="outer", tools=[forward, plain, count, delegate], llm=Obedient())
crew = AgentWorkflow(agents=[FunctionAgent(name="chief", tools=[forward, plain], llm=Obedient())])

ONE = '[["multiply", {"a": 6, "b": 7}]]'


class Helpers(Workflow):
    """Run the inner agent in many ways; the result has the ids of the runs."""

    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        runs: dict[str, str] = {}

        async def tell(name: str, handler: Any) -> Any:
            runs[name] = handler.run_id
            seen = [event async for event in handler.stream_events()]
            output = await handler
            assert isinstance(output, AgentOutput), output
            assert str(output) in ("42", "nothing to do"), str(output)
            assert isinstance(output.response, ChatMessage)
            kinds = {type(event) for event in seen}
            assert AgentStream in kinds, kinds
            assert ToolCall in kinds or str(output) != "42", kinds
            (called, *_) = [event for event in seen if isinstance(event, ToolCallResult)] or [None]
            assert called is None or (called.tool_output.content, called.tool_kwargs) == ("42", {"a": 6, "b": 7})
            return handler

        first = await tell("text", inner.run(ONE))
        await tell("message", inner.run(user_msg=ChatMessage(role="user", content=ONE)))
        history = [ChatMessage("hello", role="user"), ChatMessage(ONE, role="user")]
        await tell("history", inner.run(chat_history=history))
        await tell("ctx of child", inner.run(user_msg="[]", ctx=first.ctx))
        endless = inner.run(user_msg=ONE, max_iterations=1)
        runs["iterations"] = endless.run_id
        with pytest.raises(WorkflowRuntimeError, match="Max iterations"):
            await endless
        in_ram, buffer = Memory.from_defaults(), ChatMemoryBuffer.from_defaults()
        await tell("memory in RAM", inner.run(user_msg=ONE, memory=in_ram))
        await tell("memory buffer", inner.run(user_msg=ONE, memory=buffer))
        assert len(await in_ram.aget()) == len(await buffer.aget()) == 4
        await tell("context", inner.run(user_msg=ONE, ctx=Context(inner)))
        return StopEvent(result=runs)


helpers = Helpers(timeout=None)
