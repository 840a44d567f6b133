"""Children whose events got other names: they are those of before, and their results are read."""

from __future__ import annotations

from pathlib import Path

from stepwire.server.testing import serve
from stepwire.workflow import (
    Context,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Begin(StartEvent):
    n: int


class Done(StopEvent):
    n: int


class Begun(StartEvent, aliases=["Begin"]):
    n: int


class Finished(StopEvent, aliases=["Done"]):
    n: int


class Child(Workflow):
    @step
    async def work(self, ev: Begin) -> Done:
        return Done(n=ev.n * 10)


class Renamed(Workflow):
    @step(aliases=["work"])
    async def do(self, ev: Begun) -> Finished:
        return Finished(n=ev.n * 10)


class Parent(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.start_run("child", n=1)
        await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent(), "ok", timeout=None)
        second = await ctx.start_run("child", n=2)
        return StopEvent(result=[first.n, type(first).__name__, second.n])


for each in (Child, Renamed, Parent):
    each.__module__ = f"{__name__}_{each.__name__}"  # so that the types of this module are not its own


def test_children_of_renamed_events_are_those_of_before(tmp_path: Path) -> None:
    with serve(parent=Parent(timeout=None), child=Child, data=tmp_path) as server, server.client() as client:
        run = client.start_run("parent")
        next(iter(run.events(types=["InputRequiredEvent"])))
        server.restart(parent=Parent(timeout=None), child=Renamed)
        assert run.context.send_event(("HumanResponseEvent", {})).delivered == 1
        assert run.result(60) == [10, "Finished", 20]
        assert len(list(client.list_runs(workflow="child"))) == 2
