"""Half-done changes of the state are undone when their delivery begins again (semantics.md#half-done-changes)."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field
from tests.unit.semantics.harness import DurableRun

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

Body = Callable[["Flow", Context[Any]], Awaitable[Any]]


class Other(Event):
    pass


class Answer(HumanResponseEvent):
    pass


class Flow(Workflow):
    """A step that changes the state, hangs in its first attempt, and reports; a second one that the test gives."""

    def __init__(self, body: Body, other: Body | None = None) -> None:
        super().__init__(timeout=None, disable_validation=True)
        self.body, self.other = body, other
        self.attempts = 0
        self.at_work, self.other_done = asyncio.Event(), asyncio.Event()

    @step
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        self.attempts += 1
        await self.body(self, ctx)
        if self.attempts == 1:
            self.at_work.set()
            await asyncio.Event().wait()
        return StopEvent(result=(await ctx.store.get_state()).to_dict())

    @step
    async def beside(self, ctx: Context[DictState], ev: Other) -> None:
        if self.other is not None:
            await self.other(self, ctx)
        self.other_done.set()


async def append(flow: Flow, ctx: Context[Any]) -> None:
    (await ctx.store.get("items")).append(flow.attempts)


async def append_inside(flow: Flow, ctx: Context[Any]) -> None:
    (await ctx.store.get("deep.items")).append(flow.attempts)


async def append_and_set(flow: Flow, ctx: Context[Any]) -> None:
    items = await ctx.store.get("items")
    items.append(flow.attempts)
    await ctx.store.set("items", items)


async def set_and_append(flow: Flow, ctx: Context[Any]) -> None:
    if not await ctx.store.get("items", default=None):
        await ctx.store.set("items", [0])
    (await ctx.store.get("items")).append(flow.attempts)


async def change_the_root(flow: Flow, ctx: Context[Any]) -> None:
    (await ctx.store.get(""))["items"].append(flow.attempts)


async def begun(flow: Flow, state: dict[str, Any] | None = None) -> DurableRun:
    """Start a run whose state is given, and commit when its step has changed it."""
    run = DurableRun(flow)
    if state:
        run.broker.store.apply(list(copy.deepcopy(state).items()))
    run.start()
    await flow.at_work.wait()
    run.commit()
    return run


async def result_of(run: DurableRun) -> Any:
    while run.outcome is None:  # noqa: ASYNC110 - the harness tells nobody
        await asyncio.sleep(0)
    return getattr(run.outcome.event, "result", None)


@pytest.mark.parametrize(
    ("body", "before", "after"),
    [
        (append, {"items": [0]}, {"items": [0, 2]}),
        (append_inside, {"deep": {"items": [0], "kept": True}}, {"deep": {"items": [0, 2], "kept": True}}),
        (append_and_set, {"items": [0], "else": 1}, {"items": [0, 2], "else": 1}),
        (set_and_append, {}, {"items": [0, 2]}),
        (change_the_root, {"items": [0]}, {"items": [0, 2]}),
    ],
    ids=["append", "inside", "append and set", "set and append", "the root"],
)
@pytest.mark.parametrize("how", ["crash", "release", "fork"])
async def test_undo_what_a_delivery_changed_in_place_is_not_there_when_it_begins_again(
    how: str, body: Body, before: dict[str, Any], after: dict[str, Any]
) -> None:
    run = await begun(Flow(body), before)
    assert run.kept("u")
    if how == "crash":
        run = run.crash_and_recover()
    elif how == "release":
        run.release()
        run = run.recover()
    else:
        run = run.fork()
    assert await result_of(run) == after


async def test_undo_what_a_delivery_set_stays() -> None:
    async def once(flow: Flow, ctx: Context[Any]) -> None:
        if await ctx.store.get("done", default=None) is None:
            await ctx.store.set("done", flow.attempts)
        async with ctx.store.edit_state() as state:
            state["edits"] = state.get("edits", 0) + 1
        await ctx.store.set("deep.count", await ctx.store.get("deep.count", default=0) + 1)

    run = await begun(Flow(once))
    assert await result_of(run.crash_and_recover()) == {"done": 1, "edits": 2, "deep": {"count": 2}}


async def test_undo_what_another_step_has_read_stays() -> None:
    async def read(flow: Flow, ctx: Context[Any]) -> None:
        await ctx.store.set("read", len(await ctx.store.get("items")))

    flow = Flow(append, read)
    run = await begun(flow, {"items": []})
    run.send(Other())
    await flow.other_done.wait()
    run.commit()
    assert not run.kept("u")
    assert await result_of(run.crash_and_recover()) == {"items": [1, 2], "read": 1}


@pytest.mark.parametrize("goes_on", [False, True], ids=["ended", "at work"])
async def test_undo_what_another_step_had_changed_before_and_not_committed_stays(goes_on: bool) -> None:
    changed = asyncio.Event()

    async def change(flow: Flow, ctx: Context[Any]) -> None:
        (await ctx.store.get("items")).append("other")
        changed.set()
        if goes_on:
            await asyncio.Event().wait()

    async def change_after(flow: Flow, ctx: Context[Any]) -> None:
        await changed.wait()
        await append(flow, ctx)

    flow = Flow(change_after, change)
    run = DurableRun(flow)
    run.broker.store.apply([("items", [0])])
    run.start()
    run.commit()
    run.send(Other())
    await flow.at_work.wait()
    run.commit()
    found = await result_of(run.crash_and_recover())
    assert [each for each in found["items"] if each != "other"] == [0, 2]
    assert found["items"][1] == "other"


async def test_undo_what_somebody_else_has_set_stays() -> None:
    run = await begun(Flow(append), {"items": []})
    run.broker.store.apply([("items", [9])])  # from outside, as SetState does
    run.commit()
    assert await result_of(run.crash_and_recover()) == {"items": [9, 2]}


async def test_undo_what_a_retry_finds_is_what_the_failed_attempt_left() -> None:
    class Failing(Flow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=3, delay=0))
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            self.attempts += 1
            await append(self, ctx)
            if self.attempts == 1:
                raise ValueError("once")
            if self.attempts == 2:
                self.at_work.set()
                await asyncio.Event().wait()
            return StopEvent(result=(await ctx.store.get_state()).to_dict())

    run = await begun(Failing(append), {"items": []})
    # S2: the failed attempt's change stays. That of the attempt which the crash lost does not.
    assert await result_of(run.crash_and_recover()) == {"items": [1, 3]}


async def test_undo_nothing_is_kept_for_a_delivery_that_finishes_before_the_commit() -> None:
    class Chain(Workflow):
        @step
        async def first(self, ctx: Context[DictState], ev: StartEvent) -> Other:
            await ctx.store.set("items", [1])
            return Other()

        @step
        async def second(self, ctx: Context[DictState], ev: Other) -> StopEvent:
            (await ctx.store.get("items")).append(2)
            return StopEvent(result=await ctx.store.get("items"))

    run = DurableRun(Chain(timeout=None))
    written: list[str] = []
    commit = run._commit

    def note() -> None:
        commit()
        written.extend(run.parts)

    run._commit = note  # type: ignore[method-assign]
    run.start()
    assert await result_of(run) == [1, 2]
    assert written
    assert not [key for key in written if key.startswith("u/")]


class Place(BaseModel):
    name: str = "here"
    places: list[Path] = Field(default_factory=list)
    log: list[str] = Field(default_factory=list)


async def test_undo_a_typed_state_and_fields_that_their_class_writes() -> None:
    class Typed(Workflow):
        def __init__(self) -> None:
            super().__init__(timeout=None)
            self.attempts = 0
            self.at_work = asyncio.Event()

        @step
        async def work(self, ctx: Context[Place], ev: StartEvent) -> StopEvent:
            self.attempts += 1
            await ctx.store.set("name", "there")
            (await ctx.store.get("log")).append("x")
            (await ctx.store.get("places")).append(Path("/sub"))
            if self.attempts == 1:
                self.at_work.set()
                await asyncio.Event().wait()
            state = await ctx.store.get_state()
            return StopEvent(result=(state.name, list(map(str, state.places)), state.log))

    flow = Typed()
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    run.commit()
    assert await result_of(run.crash_and_recover()) == ("there", ["/sub"], ["x"])


async def test_undo_in_process_a_saved_context_begins_a_wait_from_what_was_there() -> None:
    class Waiting(Workflow):
        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            (await ctx.store.get("items")).append("n/a")
            await ctx.store.set("own", [0])
            (await ctx.store.get("own")).append(1)
            await ctx.wait_for_event(Answer, waiter_event=InputRequiredEvent())
            return StopEvent(result=(await ctx.store.get("items"), await ctx.store.get("own")))

    workflow = Waiting()
    ctx: Context[Any] = Context(workflow)
    await ctx.store.set("items", [])
    handler = workflow.run(ctx=ctx)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    saved = json.loads(json.dumps(handler.ctx.to_dict()))
    await handler.cancel_run()
    restored: Context[Any] = Context.from_dict(workflow, saved)
    handler = workflow.run(ctx=restored)
    restored.send_event(Answer())
    assert await handler == (["n/a"], [0, 1])
