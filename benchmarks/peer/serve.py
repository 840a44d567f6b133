"""Serve the benchmarks' workflows with llama-agents-server; runs under the interpreter of its own venv.

python benchmarks/peer/serve.py [DATABASE]      without one: in memory
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

import uvicorn
from llama_agents.server import MemoryWorkflowStore, SqliteWorkflowStore, WorkflowServer
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

TEXT = "x" * 189
FRAME = 64


class Token(Event):
    text: str = TEXT


class Question(InputRequiredEvent):
    number: int = 0


class Answer(HumanResponseEvent):
    number: int = 0


class Trivial(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


class Talk(Workflow):
    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(1, ev.get("count", 1) + 1):
            ctx.write_event_to_stream(Token())
            if number % FRAME == 0:
                await asyncio.sleep(0)
        return StopEvent(result="done")


class PingPong(Workflow):
    """Ask by events, not by waiting in one step: the way that its documentation shows."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Question:
        await ctx.store.set("count", ev.get("count", 1))
        return Question(number=0)

    @step
    async def go_on(self, ctx: Context, ev: Answer) -> Question | StopEvent:
        if ev.number + 1 >= await ctx.store.get("count"):
            return StopEvent(result="done")
        return Question(number=ev.number + 1)


async def main() -> None:
    store = SqliteWorkflowStore(sys.argv[1]) if len(sys.argv) > 1 else MemoryWorkflowStore()
    server = WorkflowServer(workflow_store=store)
    for kind in (Trivial, Talk, PingPong):
        server.add_workflow(kind.__name__, kind(timeout=600))
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.app, log_level="error", access_log=False)
    sys.stderr.write(f"peer: listening on 127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stderr.flush()
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    asyncio.run(main())
