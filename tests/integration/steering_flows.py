"""Workflows that the tests of retry, pause and search serve."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
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


class Job(StartEvent):
    name: str = "job"


class Reserved(Event):
    name: str


class Charged(Event):
    name: str


class Confirm(InputRequiredEvent):
    name: str


class Confirmed(HumanResponseEvent):
    yes: bool = True


class Dependency:
    """What the steps depend on: up or down. It counts what was done under each key."""

    def __init__(self, *, up: bool = True) -> None:
        self.up = up
        self.tried: list[tuple[str, int]] = []
        self.done: Counter[str] = Counter()
        self.hold: asyncio.Event | None = None
        self.news = asyncio.Event()

    async def use(self, key: str, attempt: int) -> None:
        """Do something under a key. ConnectionError while the dependency is down."""
        self.tried.append((key, attempt))
        self.news.set()
        if self.hold is not None:
            await self.hold.wait()
        if not self.up:
            raise ConnectionError("the dependency is down")
        self.done[key] += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is looked at after each use."""
        while not condition():
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 60)


class Pay(Workflow):
    """Reserve, charge with retries, finish."""

    def __init__(self, dependency: Dependency, **options: Any) -> None:
        super().__init__(**options)
        self.dependency = dependency

    @step
    async def reserve(self, ctx: Context[DictState], ev: Job) -> Reserved:
        info = ctx.step_info()
        self.dependency.done[info.key] += 1
        await ctx.store.set("name", ev.name)
        return Reserved(name=ev.name)

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=3, delay=0.01))
    async def charge(self, ctx: Context[DictState], ev: Reserved) -> Charged:
        info = ctx.step_info()
        await self.dependency.use(info.key, info.attempt)
        return Charged(name=ev.name)

    @step
    async def finish(self, ctx: Context[DictState], ev: Charged) -> StopEvent:
        return StopEvent(result=ev.name)


class Approve(Workflow):
    """Ask, then finish; the question may have a deadline."""

    def __init__(self, patience: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.patience = patience

    @step
    async def ask(self, ctx: Context[DictState], ev: Job) -> StopEvent:
        answer = await ctx.wait_for_event(
            Confirmed, waiter_event=Confirm(name=ev.name), waiter_id="confirm", timeout=self.patience
        )
        return StopEvent(result=answer.yes)


class Sleeper(Workflow):
    """Sleep for a day, durably."""

    @step
    async def sleep(self, ctx: Context[DictState], ev: Job) -> StopEvent:
        await ctx.sleep(86_400)
        return StopEvent()

    @step
    async def take(self, ev: Confirmed) -> None:
        return None


class Flaky(Workflow):
    """Try again and again, in short intervals."""

    def __init__(self, dependency: Dependency, **options: Any) -> None:
        super().__init__(**options)
        self.dependency = dependency

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=100_000, delay=0.01))
    async def try_it(self, ctx: Context[DictState], ev: Job) -> StopEvent:
        info = ctx.step_info()
        await self.dependency.use(info.key, info.attempt)
        return StopEvent(result=ev.name)
