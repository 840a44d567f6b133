"""The state of a run."""

import asyncio
from typing import Any

from pydantic import BaseModel
from tests.llamaindex.beside.common import A, Asking, B, raised, until_asked
from tests.llamaindex.beside.harness import Engine, flow, of
from workflows import Context, Workflow, step
from workflows.context.state_store import DictState, InMemoryStateStore
from workflows.events import (
    HumanResponseEvent,
    StartEvent,
    StopEvent,
)


class Base(BaseModel):
    name: str = "Jane"
    age: int = 25


class Derived(Base):
    extra: int = 2


@flow
async def paths_of_the_state(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            store = ctx.store
            await store.set("deep.er.est", 1)
            await store.set("items", [{"name": "a"}])
            await store.set("items.0.name", "b")
            (await store.get("items")).append("live")
            async with store.edit_state() as state:
                state.edited = True
                state["by key"] = 2
            whole = await store.get_state()
            missing = await raised(store.get, "nothing.there")
            return StopEvent(
                result=(
                    await store.get("items"),
                    await store.get("edited"),
                    await store.get("nothing", default="default"),
                    missing is not None and issubclass(missing[0], ValueError),
                    sorted(whole.to_dict()),
                    dict(whole.items()),
                )
            )

    return await of(engine(Flow()).run())


@flow
async def a_state_is_cleared_and_replaced(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def only(self, ctx: Context[Base], ev: StartEvent) -> StopEvent:
            store = ctx.store
            await store.set("age", 30)
            first = await store.get_state()
            await store.set_state(Base(name="John", age=first.age + 1))
            second = await store.get_state()
            await store.clear()
            return StopEvent(result=(first, second, await store.get_state(), await raised(store.set, "age", "old")))

    return (await of(engine(Flow()).run()))[1][:3]


@flow
async def the_most_derived_state(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def first(self, ctx: Context[Base], ev: StartEvent) -> A:
            return A(n=(await ctx.store.get_state()).age)

        @step
        async def second(self, ctx: Context[Derived], ev: A) -> StopEvent:
            state = await ctx.store.get_state()
            return StopEvent(result=(type(state), ev.n + state.extra))

    return await of(engine(Flow()).run())


@flow
async def a_state_is_edited_by_one_step_at_a_time(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | None:
            for _ in range(10):
                ctx.send_event(A())
            return None

        @step
        async def work(self, ctx: Context, ev: A) -> B:
            async with ctx.store.edit_state() as state:
                before = state.get("n", 0)
                await asyncio.sleep(0)
                state.n = before + 1
            return B()

        @step
        async def end(self, ctx: Context, ev: B) -> StopEvent | None:
            if ctx.collect_events(ev, [B] * 10) is None:
                return None
            return StopEvent(result=await ctx.store.get("n"))

    return await of(engine(Flow()).run())


@flow
async def seen_from_the_store(engine: Engine) -> Any:
    handler = engine(Asking(timeout=60)).run()
    await until_asked(handler)
    await handler.ctx.store.set("from outside", 1)
    handler.ctx.send_event(HumanResponseEvent(response="x"))
    state = await handler.ctx.store.get_state()
    return isinstance(state, DictState), dict(state.items()), await of(handler)


@flow
async def a_state_of_a_parent_type_replaces_what_it_has(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def only(self, ctx: Context[Derived], ev: StartEvent) -> StopEvent:
            await ctx.store.set("extra", 7)
            await ctx.store.set_state(Base(name="John"))
            return StopEvent(result=await ctx.store.get_state())

    return await of(engine(Flow()).run())


@flow
async def a_whole_state_of_any_keys(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("gone", 1)
            await ctx.store.set_state(DictState(kept=2))
            state = await ctx.store.get_state()
            return StopEvent(result=(type(state), dict(state.items()), isinstance(ctx.store, InMemoryStateStore)))

    return await of(engine(Flow()).run())
