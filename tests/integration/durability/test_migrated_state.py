"""What `migrate` has changed in the state is not put back when a step begins again that had changed it in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepwire.server.testing import serve
from stepwire.workflow import (
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    Snapshot,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Work(Event):
    pass


class Old(Workflow):
    version = "1"

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Work:
        await ctx.store.set("lines", [{"cost": 1}])
        await ctx.store.set("money", "USD")
        return Work()

    @step
    async def work(self, ctx: Context, ev: Work) -> StopEvent:
        return await self.note(ctx, "lines", "cost")

    async def note(self, ctx: Context, name: str, field: str) -> StopEvent:
        """Append to a list of the state in place, then wait; give the list, and the names of the state."""
        lines = await ctx.store.get(name)
        lines.append({field: 2})
        await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent(), "ok", timeout=None)
        state: DictState = await ctx.store.get_state()
        return StopEvent(result=[await ctx.store.get(name), sorted(state.keys())])


class Moved(Old):
    version = "2"

    def migrate(self, snapshot: Snapshot) -> None:
        snapshot.state["items"] = snapshot.state.pop("lines")

    @step
    async def work(self, ctx: Context, ev: Work) -> StopEvent:
        return await self.note(ctx, "items", "cost")


class Changed(Old):
    version = "2"

    def migrate(self, snapshot: Snapshot) -> None:
        for line in snapshot.state["lines"]:
            line["price"] = line.pop("cost")

    @step
    async def work(self, ctx: Context, ev: Work) -> StopEvent:
        return await self.note(ctx, "lines", "price")


class LeftAlone(Old):
    version = "2"

    def migrate(self, snapshot: Snapshot) -> None:
        snapshot.state["money"] = snapshot.state["money"].lower()


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (Moved, [[{"cost": 1}, {"cost": 2}, {"cost": 2}], ["items", "money"]]),
        (Changed, [[{"price": 1}, {"price": 2}, {"price": 2}], ["lines", "money"]]),
        (LeftAlone, [[{"cost": 1}, {"cost": 2}], ["lines", "money"]]),
    ],
)
def test_what_migrate_has_changed_is_not_put_back(tmp_path: Path, new: type[Old], found: Any) -> None:
    with serve(flow=Old(timeout=None), data=tmp_path) as server, server.client() as client:
        run = client.start_run("flow")
        next(iter(run.events(types=["InputRequiredEvent"])))
        server.restart(flow=new(timeout=None))
        assert run.context.send_event(("HumanResponseEvent", {})).delivered == 1
        assert run.result(60) == found
