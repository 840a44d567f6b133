"""Serve the benchmarks' workflows with llama-agents-server; with BENCH_AGENTS, the agents too.

Runs under the interpreter of its own venv, started like `stepwire serve`, of whose options it takes `--data`.

    python benchmarks/peer/server.py serve … --data DATABASE|:memory: …
"""

import asyncio
import logging
import os
import socket
import sys

os.environ["BENCH_ENGINE"] = "workflows"

import uvicorn
from flows import Quiz, Talk, Trivial
from llama_agents.server import MemoryWorkflowStore, SqliteWorkflowStore, WorkflowServer
from workflows.context import JsonSerializer
from workflows.events import HumanResponseEvent


async def serve(data: str) -> None:
    store = MemoryWorkflowStore() if data == ":memory:" else SqliteWorkflowStore(data)
    # Its own serializer refuses what an agent keeps in its state: the memory.
    server = WorkflowServer(workflow_store=store, serializer=JsonSerializer())
    for kind in (Trivial, Talk, Quiz):
        server.add_workflow(kind.__name__, kind(timeout=600))
    if os.environ.get("BENCH_AGENTS"):
        import approver

        server.add_workflow("team", approver.team)
        # Or it refuses the answer: no step of the agent takes it, only a tool waits for it.
        server.add_workflow("approver", approver.approver, additional_events=[HumanResponseEvent])
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.app, log_level="error", access_log=False)
    print(f"peer: listening on 127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    asyncio.run(serve(sys.argv[sys.argv.index("--data") + 1]))
