"""Agents that are tools of other agents, and workflows that steps of others run; what is served decides."""

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from tests.llamaindex.agents import Obedient, approve, multiply, note
from workflows import Context
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent


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
            note(f"asked {type(event).__name__}")
            answer = await ctx.wait_for_event(
                HumanResponseEvent,
                waiter_event=event,
                waiter_id=f"forwarded {event.what}",
                requirements={"what": event.what},
            )
            handler.ctx.send_event(answer)
        elif isinstance(event, Event):
            note(f"saw {type(event).__name__}")
    return str(await handler)


async def plain(wanted: str) -> str:
    """Have the inner agent do it."""
    return str(await inner.run(user_msg=wanted))


outer = FunctionAgent(name="outer", tools=[forward, plain, count], llm=Obedient())
crew = AgentWorkflow(agents=[FunctionAgent(name="chief", tools=[forward, plain], llm=Obedient())])
