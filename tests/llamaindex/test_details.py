"""Smaller promises of LlamaIndex 2.x: what is told of a run, how it ends, what its store refuses and shares."""

import asyncio
import gc
import json
import weakref
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent, WorkflowIdleEvent
from workflows.testing import WorkflowTestRunner

from stepwire.workflow import adopt
from stepwire.workflow.events import event_to_json
from stepwire.workflow.llamaindex.event_form import adopt_events


class Item(Event):
    n: int


class Done(Event):
    n: int


async def test_a_verbose_workflow_tells_of_its_steps_as_there(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result="well")

    assert await adopt(Loud(verbose=True)).run() == "well"
    told = capsys.readouterr().out.splitlines()
    assert told == ["[only:0] started from StartEvent", "[only:0] complete with StopEvent", told[2]]
    assert told[2].startswith("[result] StopEvent(")
    assert await adopt(Loud()).run() == "well"
    assert not capsys.readouterr().out


async def test_a_run_is_idle_when_nothing_goes_on_with_or_without_a_wait() -> None:
    class Pair(Workflow):
        @step
        async def first(self, ev: StartEvent) -> None:
            return None

        @step
        async def second(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent(result=ev.text)

    handler = adopt(Pair(timeout=60)).run()
    idle = 0
    async for event in handler.stream_events(expose_internal=True):
        if isinstance(event, WorkflowIdleEvent):
            idle += 1
            handler.ctx.send_event(HumanResponseEvent(text="go"))
    assert (await handler, idle) == ("go", 1)


async def test_steps_that_have_begun_run_until_they_let_go_when_another_ends_the_run() -> None:
    seen: list[str] = []

    class Both(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[Item]:
            return [Item(n=n) for n in range(2)]

        @step
        async def work(self, ev: Item) -> Done:
            return Done(n=ev.n)

        @step
        async def one(self, events: list[Done]) -> StopEvent:
            seen.append("one")
            return StopEvent(result=len(events))

        @step
        async def other(self, events: list[Done]) -> None:
            seen.append("other")
            await asyncio.sleep(0)
            seen.append("too late")

    assert await adopt(Both(timeout=60)).run() == 2
    await asyncio.sleep(0.01)
    assert sorted(seen) == ["one", "other"]


async def test_nothing_keeps_a_workflow_whose_run_has_ended() -> None:
    handles: list[asyncio.TimerHandle] = []

    class Tiny(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            handles.append(asyncio.get_running_loop().call_later(3600, lambda: None))
            return StopEvent(result="done")

    workflow = Tiny()
    kept = weakref.ref(workflow)
    await WorkflowTestRunner(adopt(workflow)).run()
    del workflow
    gc.collect()
    handles[0].cancel()
    assert kept() is None


async def test_reading_the_stream_of_a_context_goes_on_where_it_was_left() -> None:
    class Three(Workflow):
        @step
        async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for n in range(3):
                ctx.write_event_to_stream(Item(n=n))
            return StopEvent()

    handler = adopt(Three(timeout=60)).run()
    await handler
    async for event in handler.ctx.stream_events():
        if isinstance(event, Item):  # beside it are internal ones
            assert event.n == 0
            break
    reading = handler.ctx.stream_events()
    assert (await reading.asend(None)).n == 1
    await reading.aclose()
    assert [type(event) async for event in handler.ctx.stream_events()][-1] is StopEvent
    with pytest.raises(KeyError):
        await reading.athrow(KeyError("given"))


class Number(Event):
    n: float = 1.0


class Constants(Number):
    model_config = ConfigDict(ser_json_inf_nan="constants")


class Holding(Event):
    inner: Event


class Failing(Event):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Any = None


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (Number(n=2), {"n": 2.0}),
        (Number(n=2, more="x"), {"n": 2.0, "more": "x"}),
        (Number(n=float("nan")), {"n": None}),
        (Constants(n=float("inf"), more=float("nan")), {"n": None, "more": None}),
        (Holding(inner=Number(more=1)), {"inner": {"n": 1.0, "more": 1}}),
        (Holding(inner=Number()), {"inner": {"n": 1.0}}),
        (StopEvent(result={"_data": {"a": 1}}), {"result": {"_data": {"a": 1}}}),
        (Failing(thing=Ellipsis), {"thing": "Ellipsis"}),
    ],
)
def test_an_event_on_the_wire_has_its_dynamic_fields_beside_the_others(event: Event, fields: dict[str, Any]) -> None:
    adopt_events()
    assert json.loads(event_to_json(event)) == fields


class Notes(BaseModel):
    """What a caller gives to several runs, as a memory of messages."""

    texts: list[str] = Field(default_factory=list)


@pytest.mark.parametrize("lists", [False, True])
async def test_steps_in_process_get_what_the_caller_gave_and_not_a_copy(lists: bool) -> None:
    class Remembers(Workflow):
        @step
        async def remember(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("notes", ev.notes)
            (await ctx.store.get("notes")).texts.append(ev.text)
            return StopEvent(result=len(ev.notes.texts))

    class RemembersBesideLists(Remembers):
        @step
        async def split(self, ev: HumanResponseEvent) -> list[Item]:
            return [Item(n=1)]

        @step
        async def join(self, events: list[Item]) -> StopEvent:
            return StopEvent()

    notes = Notes()
    workflow = adopt(RemembersBesideLists() if lists else Remembers())
    assert await workflow.run(notes=notes, text="one") == 1
    assert await workflow.run(notes=notes, text="two") == 2
    assert notes.texts == ["one", "two"]


class Handle:
    """A client: it cannot be copied and stay what it is."""


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    client: Any = Field(default=None, exclude=True)
    options: dict[str, int] = Field(default_factory=dict, exclude=True)
    texts: list[str] = Field(default_factory=list)


async def test_the_store_shares_handles_and_copies_data() -> None:
    client = Handle()

    class Keeps(Workflow):
        @step
        async def keep(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("held", Holder(client=client, options={"a": 1}, texts=["one"]))
            async with ctx.store.edit_state() as state:
                held = state["held"]
                assert held.client is client
                held.texts.append("two")
                held.options["a"] = 2
                committed = await ctx.store.get("held")
                assert (committed.texts, committed.options) == (["one"], {"a": 1})
            after = await ctx.store.get_state()
            return StopEvent(result=(after["held"].client is client, after["held"].texts))

    assert await adopt(Keeps(timeout=60)).run() == (True, ["one", "two"])


async def test_the_store_says_what_is_not_there_and_refuses_to_be_written_inside_an_edit() -> None:
    class Wrong(Workflow):
        @step
        async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(ValueError, match=r"'a\.b' not found"):
                await ctx.store.get("a.b")
            assert await ctx.store.get("a.b", default=None) is None
            async with ctx.store.edit_state() as state:
                state["a"] = {"b": 1}
                for write in (ctx.store.set("a", 2), ctx.store.set_state(state), ctx.store.clear()):
                    with pytest.raises(RuntimeError, match="edit_state"):
                        await write
                with pytest.raises(RuntimeError, match="edit_state"):
                    async with ctx.store.edit_state():
                        pass
            return StopEvent(result=await ctx.store.get("a.b"))

    assert await adopt(Wrong(timeout=60)).run() == 1
