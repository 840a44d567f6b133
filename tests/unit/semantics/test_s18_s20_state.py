"""S18-S20: the state, through the context that steps get."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    Context,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowConfigurationError,
    WorkflowRuntimeError,
    step,
)
from stepwire.workflow.errors import SerializationError, StatePathError


class Address(BaseModel):
    city: str = "Bonn"

    @property
    def shouted(self) -> str:
        return self.city.upper()


class Profile(BaseModel):
    name: str = "ann"
    age: int = 1
    address: Address = Field(default_factory=Address)
    tags: list[str] = Field(default_factory=lambda: ["a", "b"])
    _secret: str = "hidden"


class Plain(Workflow):
    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent()


class TypedOne(Workflow):
    @step
    async def work(self, ctx: Context[Profile], ev: StartEvent) -> StopEvent:
        return StopEvent()


def plain() -> Context[Any]:
    return Context(Plain())


def typed() -> Context[Profile]:
    return Context(TypedOne())


# -- S18 ------------------------------------------------------------------------------------------------------------


async def test_s18_paths_lead_through_dicts_lists_and_declared_fields() -> None:
    store = plain().store
    await store.set("a.b.c", [10, {"d": 20}])
    assert await store.get("a") == {"b": {"c": [10, {"d": 20}]}}
    assert await store.get("a.b.c.1.d") == 20
    await store.set("a.b.c.0", 11)
    assert await store.get("a.b.c.0") == 11
    profiles = typed().store
    assert await profiles.get("address.city") == "Bonn"
    await profiles.set("tags.1", "z")
    assert await profiles.get("tags") == ["a", "z"]
    assert (await store.get("")).to_dict() == {"a": {"b": {"c": [11, {"d": 20}]}}}


@pytest.mark.parametrize("path", ["address.shouted", "address.model_dump", "name.upper", "tags.append", "model_fields"])
async def test_s18_attributes_and_methods_are_unreachable(path: str) -> None:
    with pytest.raises(StatePathError):
        await typed().store.get(path)
    with pytest.raises(StatePathError):
        await typed().store.set(path, 1)


@pytest.mark.parametrize("path", ["_secret", "__class__", "address.__dict__", "_x.y", "a._b", "a.__init__.__globals__"])
async def test_s18_a_segment_that_begins_with_an_underscore_is_refused(path: str) -> None:
    for store in (plain().store, typed().store):
        with pytest.raises(StatePathError, match="_"):
            await store.get(path, default=None)
        with pytest.raises(StatePathError, match="_"):
            await store.set(path, 1)


@pytest.mark.parametrize("path", ["tags.01", "tags.-1", "tags.+1", "tags. 1", "tags.2", "tags.\u0661"])
async def test_s18_list_indexes_are_plain_decimals_within_the_list(path: str) -> None:
    with pytest.raises(StatePathError):
        await typed().store.get(path)
    with pytest.raises(StatePathError):
        await typed().store.set(path, "x")


async def test_s18_at_most_64_segments() -> None:
    store = plain().store
    await store.set(".".join("a" * 64), 1)
    with pytest.raises(StatePathError, match="64"):
        await store.set(".".join("a" * 65), 1)


async def test_s18_items_is_a_key_like_any_other() -> None:
    store = plain().store
    for key in ("items", "get", "model_dump", "0"):
        await store.set(f"{key}.keys", 5)
        assert await store.get(f"{key}.keys") == 5


# -- S19 ------------------------------------------------------------------------------------------------------------


async def test_s19_get_state_is_a_copy_and_get_the_live_value() -> None:
    store = plain().store
    await store.set("list", [1])
    (await store.get_state())["list"].append(2)
    assert await store.get("list") == [1]
    (await store.get("list")).append(3)
    assert await store.get("list") == [1, 3]


async def test_s19_a_typed_set_validates_and_a_failed_one_changes_nothing() -> None:
    store = typed().store
    before = await store.get_state()
    for path, value in (("age", "old"), ("address.city", []), ("address", 5), ("tags", "no list")):
        with pytest.raises(ValidationError):
            await store.set(path, value)
        assert await store.get_state() == before
    await store.set("age", "7")
    assert await store.get("age") == 7


async def test_s19_edit_state_is_a_transaction() -> None:
    store = typed().store
    async with store.edit_state() as state:
        state.age, state.name = 5, "bob"
        assert await store.get("age") == 1
    assert await store.get("age") == 5
    with pytest.raises(ZeroDivisionError):
        async with store.edit_state() as state:
            state.age = 6 // 0
    assert await store.get("age") == 5
    with pytest.raises(ValidationError):
        async with store.edit_state() as state:
            state.age = "six"  # type: ignore[assignment]
    assert await store.get("age") == 5


async def test_s19_edits_of_parallel_steps_do_not_get_lost() -> None:
    class Parallel(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def add() -> None:
                async with ctx.store.edit_state() as state:
                    count = state.get("count", 0)
                    await asyncio.sleep(0)
                    state["count"] = count + 1

            await asyncio.gather(*(add() for _ in range(20)))
            return StopEvent(result=await ctx.store.get("count"))

    assert await Parallel().run() == 20


@pytest.mark.parametrize("path", ["missing", "a..b", ".a", "a.b", "_x", "list.9"])
async def test_s19_every_bad_path_names_itself_and_is_both_errors(path: str) -> None:
    store = plain().store
    await store.set("a", 1)
    await store.set("list", [])
    with pytest.raises(StatePathError) as caught:
        await store.get(path)
    assert caught.value.path == path
    assert repr(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AttributeError)


async def test_s19_a_default_is_for_what_is_absent_only() -> None:
    store = plain().store
    assert await store.get("missing", default=None) is None
    with pytest.raises(ValueError, match="path"):
        await store.set("", 1)


# -- S20 ------------------------------------------------------------------------------------------------------------


async def test_s20_the_state_type_is_known_at_construction() -> None:
    assert type(await typed().store.get_state()) is Profile
    assert await typed().store.get("name") == "ann"


def test_s20_conflicting_state_types_are_a_configuration_error() -> None:
    class Two(Workflow):
        @step
        async def one(self, ctx: Context[Profile], ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def two(self, ctx: Context[Address], ev: StartEvent) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowConfigurationError, match=r"Profile \(step 'one'\), Address \(step 'two'\)"):
        Two()


def test_s20_a_state_without_defaults_is_a_configuration_error() -> None:
    class Required(BaseModel):
        needed: int

    class Needs(Workflow):
        @step
        async def one(self, ctx: Context[Required], ev: StartEvent) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowConfigurationError, match="Required needs a default"):
        Needs()


async def test_s20_state_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="the state is a Profile, not a Address"):
        await typed().store.set_state(Address())  # type: ignore[arg-type]


# -- durable state --------------------------------------------------------------------------------------------------


class Bag(Workflow):
    """Do to the state what the test says."""

    def __init__(self, body: Any) -> None:
        super().__init__(timeout=None)
        self.body = body

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await self.body(ctx))


async def test_s19_in_a_durable_run_what_cannot_be_saved_is_refused_at_the_call() -> None:
    async def body(ctx: Context[Any]) -> list[str]:
        told: list[str] = []

        async def edit() -> None:
            async with ctx.store.edit_state() as state:
                state["one"], state["two"], state["good"] = {object}, float("nan"), 1

        with pytest.raises(SerializationError) as caught:
            await ctx.store.set("bad", {"deep": object()})
        told += caught.value.keys
        with pytest.raises(SerializationError) as caught:
            await edit()
        told += sorted(key.partition(".")[0] for key in caught.value.keys)
        return told

    run = DurableRun(Bag(body)).start()
    assert (await run.ended()).event.result == ["bad.deep", "one", "two"]
    assert [key for key in run.parts if key.startswith("s/")] == []


async def test_s19_a_commit_writes_only_the_keys_that_changed_or_are_lent() -> None:
    at: dict[str, Any] = {}

    async def body(ctx: Context[Any]) -> None:
        await ctx.store.set("list", [1])
        await ctx.store.set("number", 5)
        at["committed"] = asyncio.Event()
        live = await ctx.store.get("list")
        live.append(2)
        await at["committed"].wait()

    run = DurableRun(Bag(body)).start()
    await run.until(lambda run: run.parts.get("s/list") == b"[1,2]")
    assert run.parts["s/number"] == b"5"
    run.parts["s/number"] = b"not written again"
    run.broker.store.peek("list").append(3)
    run.broker.touch_head()
    await run.until(lambda run: run.parts["s/list"] == b"[1,2,3]")
    assert run.parts["s/number"] == b"not written again"
    at["committed"].set()
    await run.ended()


async def test_s19_a_step_cannot_write_while_it_edits() -> None:
    ctx = plain()
    async with ctx.store.edit_state():
        with pytest.raises(WorkflowRuntimeError, match="edit_state"):
            await ctx.store.set("a", 1)
