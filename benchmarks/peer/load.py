"""Load a llama-agents-server by its own client; runs under the interpreter of its own venv; prints one JSON object.

python benchmarks/peer/load.py ADDRESS runs|stream|human SIZE
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import httpx
from llama_agents.client import WorkflowClient

IN_FLIGHT = 64


def start(**fields: Any) -> dict[str, Any]:
    return fields


async def runs(client: WorkflowClient, size: int) -> dict[str, float]:
    left = size

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            found = await client.run_workflow("Trivial", start_event=start())
            assert found.status == "completed", found

    await client.run_workflow("Trivial", start_event=start())
    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return {"value": size / (time.perf_counter() - began), "operations": size}


async def stream(client: WorkflowClient, size: int) -> dict[str, float]:
    began = time.perf_counter()
    handler = await client.run_workflow_nowait("Talk", start_event=start(count=size))
    seen = 0
    async for _ in client.get_workflow_events(handler.handler_id):
        seen += 1
    assert seen >= size, seen
    return {"value": seen / (time.perf_counter() - began), "operations": seen}


async def human(client: WorkflowClient, size: int) -> dict[str, float]:
    handler = await client.run_workflow_nowait("PingPong", start_event=start(count=size + 1))
    times: list[float] = []
    began = 0.0
    async for event in client.get_workflow_events(handler.handler_id):
        if event.type != "Question":
            continue
        if began:
            times.append(time.perf_counter() - began)
        if len(times) == size:
            break
        began = time.perf_counter()
        answer = {"type": "Answer", "value": {"number": event.value["number"]}}
        await client.send_event(handler.handler_id, answer)
    times.sort()
    return {"value": times[len(times) // 2], "operations": len(times)}


async def main() -> None:
    address, what, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    limits = httpx.Limits(max_connections=IN_FLIGHT + 8, max_keepalive_connections=IN_FLIGHT + 8)
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=120, limits=limits) as http:
        client = WorkflowClient(httpx_client=http)
        print(json.dumps(await {"runs": runs, "stream": stream, "human": human}[what](client, size)))


if __name__ == "__main__":
    asyncio.run(main())
