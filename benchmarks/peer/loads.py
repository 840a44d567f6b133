"""Load a server by its own Python client, Stepwire's or llama-agents', in the same way: prints one JSON object.

Runs under any interpreter that has the client.

    python benchmarks/peer/loads.py PACKAGE ADDRESS LOAD SIZE      PACKAGE: stepwire.workflow or workflows
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

IN_FLIGHT = 64
# A start event without all fields of an agent's cannot be saved by the peer: its own serializer reads them.
ALL = {"chat_history": [], "max_iterations": 20}
HELLO = ("team", {"user_msg": "hello", **ALL})
REFUND = ("approver", {"user_msg": "Please refund A-17", **ALL})
"""The first agent answers by itself; the second calls a tool, which asks a person."""


async def together(
    call: Callable[[int], Awaitable[object]], turns: Iterable[object], in_flight: int = IN_FLIGHT
) -> tuple[float, int]:
    """Have callers, each with its number, share the turns, a call for each; return calls per second, and calls."""
    left, calls = iter(turns), 0

    async def caller(number: int) -> None:
        nonlocal calls
        for _ in left:
            await call(number)
            calls += 1

    began = time.perf_counter()
    await asyncio.gather(*map(caller, range(in_flight)))
    return calls / (time.perf_counter() - began), calls


class Stepwire:
    """What a load does, by Stepwire's client: `run` waits for the end, an event is its type and what reads a field."""

    quiz = "PingPong"

    def __init__(self, address: str) -> None:
        from stepwire.client import Client

        self.connection = self._client = Client(address)

    async def start(self, workflow: str, fields: Any) -> Any:
        return await self._client.start_run(workflow, **fields)

    async def run(self, workflow: str, fields: Any) -> None:
        await (await self.start(workflow, fields)).result()

    async def events(self, run: Any) -> Any:
        async with aclosing(run.events()) as events:
            async for event in events:
                yield event.type, partial(getattr, event)

    async def answer(self, run: Any, kind: str, fields: Any) -> None:
        await run.context.send_event((kind, fields))


class Peer:
    """The same by theirs."""

    quiz = "Quiz"

    def __init__(self, address: str) -> None:
        import httpx
        from llama_agents.client import WorkflowClient

        limits = httpx.Limits(max_connections=IN_FLIGHT + 8, max_keepalive_connections=IN_FLIGHT + 8)
        self.connection = httpx.AsyncClient(base_url=f"http://{address}", timeout=120, limits=limits)
        self._client = WorkflowClient(httpx_client=self.connection)

    async def start(self, workflow: str, fields: Any) -> Any:
        return (await self._client.run_workflow_nowait(workflow, start_event=fields)).handler_id

    async def run(self, workflow: str, fields: Any) -> None:
        found = await self._client.run_workflow(workflow, start_event=fields)
        assert found.status == "completed", found

    async def events(self, run: Any) -> Any:
        async for event in self._client.get_workflow_events(run):
            yield event.type, event.value.__getitem__

    async def answer(self, run: Any, kind: str, fields: Any) -> None:
        await self._client.send_event(run, {"type": kind, "value": fields})


async def until(side: Any, kind: str, agent: tuple[str, Any]) -> float:
    """Start an agent and follow it until an event of this type comes; return the seconds until then."""
    began = time.perf_counter()
    async with aclosing(side.events(await side.start(*agent))) as events:
        async for found, _ in events:
            if found == kind:
                return time.perf_counter() - began
    raise AssertionError(f"no {kind} came")


async def answered(side: Any, start: tuple[str, Any], question: str, answer: Any) -> list[float]:
    """Answer each question of a run; return the seconds from each until the next, and from the last until the end."""
    run, times = await side.start(*start), []
    async for kind, field in side.events(run):
        if kind == question:
            times.append(time.perf_counter())
            await side.answer(run, *answer(field))
    return [after - before for before, after in pairwise([*times, time.perf_counter()])]


async def runs(side: Any, size: int) -> float:
    await side.run("Trivial", {})
    return (await together(lambda _: side.run("Trivial", {}), range(size)))[0]


async def stream(side: Any, size: int) -> float:
    began = time.perf_counter()
    run = await side.start("Talk", {"count": size})
    seen = len([kind async for kind, _ in side.events(run)])
    assert seen >= size, seen
    return size / (time.perf_counter() - began)


async def human(side: Any, size: int) -> float:
    quiz = side.quiz, {"count": size + 1}
    times = await answered(side, quiz, "Question", lambda field: ("Answer", {"number": field("number")}))
    return median(times[:-1])


async def team_runs(side: Any, size: int) -> float:
    return (await together(lambda _: side.run(*HELLO), range(size)))[0]


async def team_token(side: Any, size: int) -> float:
    return median([await until(side, "AgentStream", HELLO) for _ in range(size)])


async def team_human(side: Any, size: int) -> float:
    answer = "HumanResponseEvent", {"approved": True, "order": "A-17"}
    found = [await answered(side, REFUND, "InputRequiredEvent", lambda field: answer) for _ in range(size)]
    return median(times[-1] for times in found)


async def team_memory(side: Any, size: int) -> float:
    return (await together(lambda _: until(side, "InputRequiredEvent", REFUND), range(size), 8))[0]


async def main(package: str, address: str, load: str, size: str) -> None:
    loads = (runs, stream, human, team_runs, team_token, team_human, team_memory)
    side: Any = {"stepwire.workflow": Stepwire, "workflows": Peer}[package](address)
    async with side.connection:
        print(json.dumps(await {each.__name__: each for each in loads}[load](side, int(size))))


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    asyncio.run(main(*sys.argv[1:]))
