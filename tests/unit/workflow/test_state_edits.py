"""Edits of the state: all or nothing, one at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.workflow.stores import Hooks, Typed, plain

from stepwire.workflow.errors import (
    SerializationError,
    WorkflowRuntimeError,
)
from stepwire.workflow.state.store import (
    DictState,
    InMemoryStateStore,
    in_edit_state,
)


async def test_s19_edit_state_is_a_transaction() -> None:
    store = plain(a=1, d={"x": 1})
    hooks = Hooks(store)
    async with store.edit_state() as state:
        state.a = 2
        state["d"]["y"] = 2
        assert await store.get("a") == 1
        assert await store.get("d") == {"x": 1}
        locked = [store.locked]
    assert [*locked, store.locked] == [True, False]
    assert store.values() == {"a": 2, "d": {"x": 1, "y": 2}}
    assert hooks.changes == [{"a", "d"}]
    assert store.version == 1

    async def fail() -> None:
        async with store.edit_state() as state:
            state.a = 3
            state["d"].clear()
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        await fail()
    assert store.values() == {"a": 2, "d": {"x": 1, "y": 2}}
    assert (store.version, store.lock.locked()) == (1, False)


async def test_s19_edit_state_validates_at_its_end() -> None:
    store = InMemoryStateStore(Typed(names=["a"]))
    before = await store.get_state()

    async def edit(change: Any) -> None:
        async with store.edit_state() as state:
            change(state)

    for change in (
        lambda s: setattr(s, "count", "x"),
        lambda s: s.names.append(5),
        lambda s: setattr(s.part, "n", "x"),
        lambda s: setattr(s, "low", 99),
    ):
        with pytest.raises(ValidationError):
            await edit(change)
        assert await store.get_state() == before
        assert not store.lock.locked()

    def both(state: Typed) -> None:
        state.low, state.high, state._kept = 50, 60, 2

    await edit(both)
    assert (await store.get("low"), await store.get("high")) == (50, 60)
    assert (await store.get_state())._kept == 2


async def test_an_edit_marks_what_changed_and_leaves_the_rest_live() -> None:
    store = plain(a=[1], b={"x": 1}, c=1, gone=1)
    hooks = Hooks(store)
    b = await store.get("b")
    async with store.edit_state() as state:
        state.a.append(2)
        state.new = 1
        del state["gone"]
    assert hooks.changes == [{"a", "new", "gone"}]
    assert hooks.checks == [{"a": [1, 2], "new": 1}]
    assert await store.get("b") is b
    async with store.edit_state():
        pass
    assert len(hooks.changes) == 1
    async with store.edit_state() as state:
        state.c = True  # equal to 1, and yet another value
    assert hooks.changes[1:] == [{"c"}]
    assert await store.get("c") is True


async def test_what_others_do_in_place_during_an_edit_stays() -> None:
    store = plain(a=[1], b=[1])
    a = await store.get("a")
    async with store.edit_state() as state:
        a.append(2)
        state.b.append(2)
    assert store.values() == {"a": [1, 2], "b": [1, 2]}


async def test_s19_a_refused_edit_leaves_the_state() -> None:
    store = plain(a=1)
    hooks = Hooks(store)
    hooks.refuse = True
    with pytest.raises(SerializationError):
        async with store.edit_state() as state:
            state.a = 2
    assert store.values() == {"a": 1}
    with pytest.raises(SerializationError):
        await store.set("a", 2)
    with pytest.raises(SerializationError):
        await store.set_state(DictState(a=2))
    assert (store.values(), hooks.changes, store.version) == ({"a": 1}, [], 0)


async def test_s11_writes_inside_the_tasks_own_edit_raise() -> None:
    store, other = plain(a=1), plain()
    assert not in_edit_state()
    async with store.edit_state() as state:
        assert in_edit_state()
        for write in (
            lambda: store.set("a", 2),
            lambda: store.set_state(DictState()),
            lambda: store.clear(),
            lambda: store.edit_state().__aenter__(),
        ):
            with pytest.raises(WorkflowRuntimeError, match="edit_state"):
                await write()
        await other.set("fine", 1)
        state.a = 3
    assert not in_edit_state()
    assert store.values() == {"a": 3}
    await store.set("a", 4)
    assert await store.get("a") == 4


async def test_s11_other_tasks_wait_for_the_edit() -> None:
    store = plain(n=0)
    seen: list[object] = []

    async def write() -> None:
        assert not in_edit_state()
        await store.set("other", 1)
        seen.append("set")

    async def edit() -> None:
        async with store.edit_state() as state:
            state.n += 1
        seen.append("edit")

    async with store.edit_state() as state:
        tasks = [asyncio.create_task(write()), asyncio.create_task(edit())]
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == []
        state.n += 1
        assert await store.get("n") == 0
    await asyncio.gather(*tasks)
    assert seen == ["set", "edit"]
    assert store.values() == {"n": 2, "other": 1}


async def test_concurrent_edits_lose_nothing() -> None:
    store = InMemoryStateStore(Typed(high=1000))

    async def increment() -> None:
        async with store.edit_state() as state:
            count = state.count
            await asyncio.sleep(0)
            state.count = count + 1

    await asyncio.gather(*(increment() for _ in range(50)))
    assert await store.get("count") == 50


async def test_a_cancelled_edit_is_dropped() -> None:
    store = plain(a=1)
    entered = asyncio.Event()

    async def edit() -> None:
        async with store.edit_state() as state:
            state.a = 2
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(edit())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.values() == {"a": 1}
    await store.set("a", 3)
    assert await store.get("a") == 3
