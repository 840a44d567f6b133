"""Workflows that start runs, and what they did."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from stepwire.client import SyncClient
from stepwire.server.store import RunQuery
from stepwire.server.store.terms import CLOSE, TELL
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

BEGUN: Counter[str] = Counter()
"""How often the body of a step began, by what its input says."""
GATE: dict[str, Any] = {}
"""What steps wait for."""


class Given(StartEvent):
    text: str = ""
    n: int = 1
    how: str = ""


class Question(InputRequiredEvent):
    text: str


class Answer(HumanResponseEvent):
    text: str


class Finish(Event):
    pass


class Note(Event):
    text: str


class Point(BaseModel):
    """A value that plain JSON does not tell from a dict."""

    x: int
    y: int


class Measured(StopEvent):
    """A stop event of the author's own."""

    length: int
    words: set[str]


class Inner(Workflow):
    """Do what its input says."""

    types = (Point,)

    @step
    async def go(self, ctx: Context, ev: Given) -> StopEvent:
        """Do it."""
        BEGUN[f"inner {ev.text}"] += 1
        if ev.how == "ask":
            answer = await ctx.wait_for_event(
                Answer, Question(text=ev.text), requirements={"text": ev.text}, timeout=None
            )
            return StopEvent(result=f"{ev.text} {answer.text}")
        if ev.how == "fail" and not GATE.get("mended"):
            raise ValueError(f"no {ev.text}")
        if ev.how == "hang":
            await asyncio.sleep(60.0)
        if ev.how == "note":
            for number in range(ev.n):
                ctx.write_event_to_stream(Note(text=f"{ev.text} {number}"))
        if ev.how == "point":
            return StopEvent(result=(Point(x=1, y=2), {ev.text}))
        return StopEvent(result=ev.text.upper())


class Measure(Workflow):
    """Has a stop event of its own."""

    @step
    async def go(self, ev: Given) -> Measured:
        """Measure."""
        return Measured(length=len(ev.text), words=set(ev.text.split()))


Act = Callable[["Outer", Context, Given], Any]


class Outer(Workflow):
    """Has a step that does what the test says."""

    act: Act

    def __init__(self, act: Act, inner: Workflow | None = None, **options: Any) -> None:
        super().__init__(**{"timeout": None, **options})
        self.act = act
        self.inner = inner or Inner()

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=2, delay=0.01))
    async def go(self, ctx: Context, ev: Given) -> StopEvent:
        """Do it."""
        BEGUN["outer"] += 1
        return StopEvent(result=await self.act(self, ctx, ev))


def children_of(client: SyncClient, run_id: str) -> list[Any]:
    """Return the children of a run, oldest first."""
    return sorted(client.list_runs(parent=run_id), key=lambda run: run.created_at)


def until(found: Callable[[], Any], what: str = "it", seconds: float = 60.0) -> Any:
    """Wait until something is found."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)
    return value


def runs_of(server: RunningServer) -> Any:
    """Return the rooms of a server."""
    return server._runs


def in_memory(server: RunningServer) -> set[str]:
    """Return the ids of the runs in memory."""
    return {run.key.run_id for run in runs_of(server).pool}


def outcome_of(act: Callable[..., Any], *others: Any, **options: Any) -> Any:
    """Return the result of a run whose step does `act`, on a server of its own."""
    with serve(Outer(act, **options), Inner, *others) as server, server.client() as client:
        return client.start_run("Outer").result()


def undone(server: Any) -> list[str]:
    """Return the runs of which something is to be done still."""
    runs = runs_of(server)

    async def find() -> list[str]:
        found: list[str] = []
        for what in (CLOSE, TELL):
            records = await runs.pool.store.list(RunQuery(namespace="default", terms=(what,)))
            found += [record.key.run_id for record in records]
        return found

    left: list[str] = server._call(find())
    return left
