"""Workflows that steps of others run: what the inner one does says its input, what the outer one does the test."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, field_serializer
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from stepwire.client import RunStatus, SyncClient, SyncRun
from stepwire.server.testing import serve

BEGUN: Counter[str] = Counter()
"""How often something was done, by what the input says."""


class OddError(Exception):
    """An exception of the author's own."""


class CodeError(Exception):
    """Makes its text of something else."""

    def __init__(self, code: object) -> None:
        super().__init__(f"code {code}")


class Note(Event):
    text: str
    at: tuple[int, int] = (0, 0)


class Lossy(Event):
    """Its class does not read what it writes."""

    n: int

    @field_serializer("n")
    def _write(self, n: int) -> str:
        return f"number {n}"


class Question(InputRequiredEvent):
    text: str


class Answer(HumanResponseEvent):
    text: str


class Point(BaseModel):
    x: int


class Measured(StopEvent):
    """A stop event of the author's own."""

    length: int
    words: set[str]


class Given(StartEvent):
    text: str = ""
    how: str = ""


class Inner(Workflow):
    """Do what its input says."""

    @step
    async def go(self, ctx: Context, ev: Given) -> StopEvent:
        BEGUN[f"inner {ev.text}"] += 1
        how, text = ev.how, ev.text
        if how == "fail":
            raise OddError(f"no {text}")
        if how == "fail with a code":
            raise CodeError(7)
        if how == "fail locally":

            class LocalError(Exception):
                pass

            raise LocalError(f"no {text}")
        if how == "fail to divide":
            return StopEvent(result=1 // 0)
        if how == "hang":
            await asyncio.Event().wait()
        if how == "note":
            for number in range(3):
                ctx.write_event_to_stream(Note(text=f"{text} {number}", at=(number, 1)))
        if how == "lossy":
            ctx.write_event_to_stream(Lossy(n=1))
        if how == "ask":
            said = []
            for turn in range(2):
                answer = await ctx.wait_for_event(Answer, Question(text=f"{text} {turn}"), f"turn {turn}")
                said.append(answer.text)
            return StopEvent(result=said)
        if how == "remember":
            seen = await ctx.store.get("seen", default=[])
            await ctx.store.set("seen", [*seen, text])
            return StopEvent(result=[*seen, text])
        if how == "point":
            return StopEvent(result=(Point(x=1), {text}))
        return StopEvent(result=text.upper())


class Measure(Workflow):
    """Has a stop event of its own, and starts with any fields."""

    @step
    async def go(self, ev: StartEvent) -> Measured:
        text = str(ev.get("text"))
        return Measured(length=len(text), words=set(text.split()))


class Worker(Workflow):
    """Its objects differ by an attribute."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.name = name

    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=self.name)


class Recursive(Workflow):
    """Runs itself until its number is 0."""

    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        BEGUN[f"recursive {ev.n}"] += 1
        return StopEvent(result=0 if ev.n == 0 else 1 + await self.run(n=ev.n - 1))


class Outer(Workflow):
    """Has a step that does what the test says."""

    def __init__(self, act: Callable[[Context], Any], **settings: Any) -> None:
        super().__init__(**{"timeout": None, **settings})
        self.act = act

    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        BEGUN["outer"] += 1
        return StopEvent(result=await self.act(ctx))


# -- for the tests ----------------------------------------------------------------------------------------------------

inner, measure = Inner(), Measure()


def children(client: SyncClient, run: SyncRun) -> list[Any]:
    """Return the children of a run, oldest first."""
    return sorted(client.list_runs(parent=run.run_id), key=lambda each: each.created_at)


def came(act: Callable[[Context], Any], **workflows: Workflow) -> tuple[Any, list[Any]]:
    """Return what a served step came to, and the children of its run."""
    with serve(outer=Outer(act), **(workflows or {"inner": inner})) as server, server.client() as client:
        run = client.start_run("outer")
        return run.result(timeout=60), children(client, run)


def until(found: Callable[[], Any], what: str) -> Any:
    """Wait until something is found."""
    end = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)
    return value


def until_asked(run: SyncRun, text: str) -> None:
    """Wait until a run asks this by itself, and does nothing else."""

    def asks() -> bool:
        info = run.info()
        own = [each.prompt.text for each in info.pending_waiters if not each.run_id]
        return info.status is RunStatus.WAITING and own == [text]

    until(asks, f"the question {text}")
