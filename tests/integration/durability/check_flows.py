"""A workflow before and after changes, as commands load it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step


class Go(HumanResponseEvent):
    """Go on."""


class Begin(StartEvent):
    """Begin; `count` goes into the state."""

    count: int = 1


class Cart(BaseModel):
    """The state."""

    count: int = 0


class Before(Workflow):
    """Wait in the step `charge`."""

    @step
    async def charge(self, ctx: Context[Cart], ev: Begin) -> StopEvent:
        """Wait."""
        await ctx.store.set("count", ev.count)
        await ctx.wait_for_event(Go, waiter_event=InputRequiredEvent(), timeout=None)
        return StopEvent(result=await ctx.store.get("count"))


class Renamed(Workflow):
    """The step has another name."""

    @step
    async def collect(self, ctx: Context[Cart], ev: Begin) -> StopEvent:
        """Wait."""
        await ctx.wait_for_event(Go, waiter_event=InputRequiredEvent(), timeout=None)
        return StopEvent(result=await ctx.store.get("count"))


class Aliased(Workflow):
    """The step has another name, and says which it had."""

    @step(aliases=["charge"])
    async def collect(self, ctx: Context[Cart], ev: Begin) -> StopEvent:
        """Wait."""
        await ctx.wait_for_event(Go, waiter_event=InputRequiredEvent(), timeout=None)
        return StopEvent(result=await ctx.store.get("count"))


class Picky(Workflow):
    """Migrates runs with a small count only."""

    version = "2"

    def migrate(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Refuse some."""
        if parts["s/count"] > 1:
            raise ValueError("too much")
        return parts

    @step
    async def charge(self, ctx: Context[Cart], ev: Begin) -> StopEvent:
        """Wait."""
        await ctx.wait_for_event(Go, waiter_event=InputRequiredEvent(), timeout=None)
        return StopEvent(result=await ctx.store.get("count"))
