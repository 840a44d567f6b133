"""Workflows whose bodies the tests give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.integration.rpc_flows import Gate

from stepwire.workflow import (
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Work(Event):
    n: int = 0


class Note(Event):
    text: str = ""


class Prompt(InputRequiredEvent):
    text: str = ""


class Answer(HumanResponseEvent):
    n: int = 0


class Item(HumanResponseEvent):
    n: int = 0


class Flow(Workflow):
    """One step whose body the test gives; `attempts` counts how often it began, `gate` is there to stop in."""

    def __init__(self, body: Callable[[Flow, Context[DictState]], Awaitable[Any]], **options: Any) -> None:
        super().__init__(**{"timeout": None, "disable_validation": True, **options})
        self.body = body
        self.attempts = 0
        self.worked: list[int] = []
        self.gate = Gate()

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        self.attempts += 1
        return StopEvent(result=await self.body(self, ctx))

    @step
    async def sink(self, ctx: Context[DictState], ev: Work) -> None:
        self.worked.append(ev.n)


async def ask(flow: Flow, ctx: Context[DictState]) -> int:
    """Wait for one answer and return it."""
    answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(text="?"), waiter_id="q", timeout=None)
    return answer.n


async def stay(flow: Flow, ctx: Context[DictState]) -> str:
    """Stay in the step until the gate is opened."""
    await flow.gate.pass_through("stay")
    return "stayed"


async def sleep_an_hour(flow: Flow, ctx: Context[DictState]) -> str:
    """Sleep durably."""
    await ctx.sleep(3600)
    return "slept"


async def wait_an_hour(flow: Flow, ctx: Context[DictState]) -> str:
    """Wait for an answer, an hour at most."""
    try:
        await ctx.wait_for_event(Answer, waiter_id="q", timeout=3600)
    except TimeoutError:
        return "timed out"
    return "answered"
