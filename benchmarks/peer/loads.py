"""Load a server by its own Python client, Stepwire's or llama-agents', in the same way: prints one JSON object.

Runs under any interpreter that has the client.

    python benchmarks/peer/loads.py stepwire|peer ADDRESS LOAD SIZE
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import time
from contextlib import aclosing
from typing import Any

IN_FLIGHT = 64
# A start event without all fields of an agent's cannot be saved by the peer: its own serializer reads them.
ALL = {"chat_history": [], "max_iterations": 20}
HELLO = ("team", {"user_msg": "hello", **ALL})
REFUND = ("approver", {"user_msg": "Please refund A-17", **ALL})
"""The first agent answers by itself; the second calls a tool, which asks a person."""


class Stepwire:
    quiz = "PingPong"

    def __init__(self, address: str) -> None:
        from stepwire.client import Client

        self.connection = self._client = Client(address)

    async def run(self, workflow: str, **fields: Any) -> None:
        await (await self._client.start_run(workflow, **fields)).result()

    async def start(self, workflow: str, **fields: Any) -> Any:
        return await self._client.start_run(workflow, **fields)

    async def events(self, run: Any) -> Any:
        async with aclosing(run.events()) as events:
            async for event in events:
                yield event.type, lambda name, event=event: getattr(event, name)

    async def answer(self, run: Any, kind: str, **fields: Any) -> None:
        await run.context.send_event((kind, fields))


class Peer:
    quiz = "Quiz"

    def __init__(self, address: str) -> None:
        import httpx
        from llama_agents.client import WorkflowClient

        limits = httpx.Limits(max_connections=IN_FLIGHT + 8, max_keepalive_connections=IN_FLIGHT + 8)
        self.connection = httpx.AsyncClient(base_url=f"http://{address}", timeout=120, limits=limits)
        self._client = WorkflowClient(httpx_client=self.connection)

    async def run(self, workflow: str, **fields: Any) -> None:
        found = await self._client.run_workflow(workflow, start_event=fields)
        assert found.status == "completed", found

    async def start(self, workflow: str, **fields: Any) -> Any:
        return (await self._client.run_workflow_nowait(workflow, start_event=fields)).handler_id

    async def events(self, run: Any) -> Any:
        async for event in self._client.get_workflow_events(run):
            yield event.type, event.value.__getitem__

    async def answer(self, run: Any, kind: str, **fields: Any) -> None:
        await self._client.send_event(run, {"type": kind, "value": fields})


async def many(size: int, in_flight: int, call: Any) -> float:
    """Make so many calls; return calls per second."""
    left = iter(range(size))

    async def worker() -> None:
        for _ in left:
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return size / (time.perf_counter() - began)


async def until(side: Any, kind: str, agent: tuple[str, Any]) -> float:
    """Start an agent and follow it until an event of this type comes; return the seconds until then."""
    began = time.perf_counter()
    run = await side.start(agent[0], **agent[1])
    async with aclosing(side.events(run)) as events:
        async for found, _ in events:
            if found == kind:
                return time.perf_counter() - began
    raise AssertionError(f"no {kind} came")


async def runs(side: Any, size: int) -> float:
    await side.run("Trivial")
    return await many(size, IN_FLIGHT, lambda: side.run("Trivial"))


async def stream(side: Any, size: int) -> float:
    began = time.perf_counter()
    run = await side.start("Talk", count=size)
    seen = len([kind async for kind, _ in side.events(run)])
    assert seen >= size, seen
    return size / (time.perf_counter() - began)


async def human(side: Any, size: int) -> float:
    run = await side.start(side.quiz, count=size + 1)
    times: list[float] = []
    began = 0.0
    async for kind, field in side.events(run):
        if kind == "Question":
            if began:
                times.append(time.perf_counter() - began)
            began = time.perf_counter()
            await side.answer(run, "Answer", number=field("number"))
    return statistics.median(times)


async def team_runs(side: Any, size: int) -> float:
    return await many(size, IN_FLIGHT, lambda: side.run(HELLO[0], **HELLO[1]))


async def team_token(side: Any, size: int) -> float:
    return statistics.median([await until(side, "AgentStream", HELLO) for _ in range(size)])


async def team_human(side: Any, size: int) -> float:
    times = []
    for _ in range(size):
        run = await side.start(REFUND[0], **REFUND[1])
        async for kind, _ in side.events(run):
            if kind == "InputRequiredEvent":
                began = time.perf_counter()
                await side.answer(run, "HumanResponseEvent", approved=True, order="A-17")
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def team_memory(side: Any, size: int) -> float:
    return await many(size, 8, lambda: until(side, "InputRequiredEvent", REFUND))


async def main(client: str, address: str, load: str, size: str) -> None:
    loads = (runs, stream, human, team_runs, team_token, team_human, team_memory)
    side: Any = {"stepwire": Stepwire, "peer": Peer}[client](address)
    async with side.connection:
        value = await {each.__name__: each for each in loads}[load](side, int(size))
    print(json.dumps({"value": value, "operations": int(size)}))


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    asyncio.run(main(*sys.argv[1:]))
