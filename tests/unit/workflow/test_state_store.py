from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from tests.unit.workflow.stores import Hooks, Part, Required, Typed, plain

from stepwire.workflow.errors import (
    StateNotFoundError,
    StatePathError,
)
from stepwire.workflow.state.store import (
    DictState,
    InMemoryStateStore,
)

# --- DictState --------------------------------------------------------------------------------


def test_dict_state_is_dict_like() -> None:
    state = DictState(a=1, _data={"b": 2})
    state.c = 3
    state["items"] = 4
    assert (state.a, state["b"], state.get("c"), state.get("nope", 5)) == (1, 2, 3, 5)
    assert list(state) == list(state.keys()) == ["a", "b", "c", "items"]
    assert (len(state), "a" in state, bool(DictState())) == (4, True, True)
    assert dict(state.items()) == state.to_dict() == {"a": 1, "b": 2, "c": 3, "items": 4}
    assert list(state.values()) == [1, 2, 3, 4]
    assert DictState(a=1) == DictState(a=1) != DictState(a=2)
    del state["a"]
    del state.b
    state.update({"d": 1}, e=2)
    assert state.to_dict() == {"c": 3, "items": 4, "d": 1, "e": 2}
    with pytest.raises(AttributeError):
        _ = state.nope
    with pytest.raises(KeyError):
        _ = state["nope"]


# --- reading and writing ----------------------------------------------------------------------


async def test_s19_get_state_is_an_isolated_copy() -> None:
    for store in (plain(d={"x": [1]}), InMemoryStateStore(Typed(names=["a"]))):
        copied = await store.get_state()
        values = store.values()
        assert copied == await store.get("")
        for value in values.values():
            if isinstance(value, dict):
                copied["d"]["x"].append(2)  # type: ignore[index]
                assert value == {"x": [1]}
    typed = InMemoryStateStore(Typed(names=["a"]))
    state = await typed.get_state()
    state.names.append("b")
    state.part.n = 5
    state._kept = 2
    assert await typed.get("names") == ["a"]
    assert await typed.get("part.n") == 0
    assert (await typed.get_state())._kept == 1


async def test_s19_get_is_the_live_value() -> None:
    store = plain(d={"x": 1})
    (await store.get("d"))["x"] = 2
    assert await store.get("d.x") == 2
    live = await store.get("d")
    await store.set("d.y", 3)
    assert live == {"x": 2, "y": 3}
    (await store.get("")).top = 1
    assert await store.get("top") == 1


async def test_get_default() -> None:
    store = plain(a=None)
    assert await store.get("a", default=1) is None
    assert await store.get("b", default=None) is None
    assert await store.get("b.c", default=2) == 2
    with pytest.raises(StateNotFoundError, match=r"b\.c"):
        await store.get("b.c")
    with pytest.raises(ValueError, match="b"):
        await store.get("b")


async def test_s19_every_bad_path_is_a_state_path_error() -> None:
    for store in (plain(text="x", d={}), InMemoryStateStore(Typed())):
        before = await store.get_state()
        for path in ("", "a..b", "_x", "__class__.x", "d.__init__"):
            with pytest.raises(StatePathError) as caught:
                await store.set(path, 1)
            assert isinstance(caught.value, ValueError)
            assert isinstance(caught.value, AttributeError)
            assert caught.value.path == path
            if path:
                with pytest.raises(StatePathError):
                    await store.get(path, default=1)
        assert await store.get_state() == before


async def test_set_creates_missing_dicts() -> None:
    store = plain()
    await store.set("a.b.c", 1)
    assert store.values() == {"a": {"b": {"c": 1}}}


async def test_s19_a_typed_set_validates_and_a_failed_one_changes_nothing() -> None:
    store = InMemoryStateStore(Typed())
    hooks = Hooks(store)
    before = await store.get_state()
    for path, value in (("count", "x"), ("part.n", "x"), ("names.0", 1), ("low", 11), ("names", 1)):
        with pytest.raises((ValidationError, StatePathError)):
            await store.set(path, value)
    with pytest.raises(StatePathError, match="undeclared"):
        await store.set("undeclared", 1)
    assert await store.get_state() == before
    assert (hooks.checks, hooks.changes, store.version) == ([], [], 0)
    await store.set("count", "3")
    assert await store.get("count") == 3


async def test_set_state() -> None:
    store = InMemoryStateStore(Typed())
    state = Typed(count=2, names=["a"])
    await store.set_state(state)
    state.names.append("b")
    assert store.values()["names"] == ["a"]
    with pytest.raises(ValueError, match="Typed"):
        await store.set_state(Required(needed=1))  # type: ignore[arg-type]
    state.count = "wrong"  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        await store.set_state(state)
    assert await store.get("count") == 2


async def test_clear() -> None:
    store: InMemoryStateStore[Any] = plain(a=1)
    hooks = Hooks(store)
    await store.clear()
    assert (store.values(), hooks.changes) == ({}, [{"a"}])
    typed = InMemoryStateStore(Typed(count=3))
    await typed.clear()
    assert await typed.get_state() == Typed()
    required = InMemoryStateStore(Required(needed=1))
    with pytest.raises(ValueError, match="needed"):
        await required.clear()
    assert required.values() == {"needed": 1, "other": 0}


async def test_what_cannot_be_copied_is_shared_in_process() -> None:
    lock = threading.Lock()
    store = plain(lock=lock, d={"x": [1]})
    copied = await store.get_state()
    assert copied.lock is lock
    assert copied.d == {"x": [1]}
    assert copied.d is not await store.get("d")
    async with store.edit_state() as state:
        state.d["x"].append(2)
    assert await store.get("d.x.1") == 2
    assert await store.get("lock") is lock


class Handle:
    """A client that can be copied, but stands for a connection."""


class Handled(BaseModel):
    client: Any = Field(default=None, exclude=True)
    options: dict[str, int] = Field(default_factory=dict, exclude=True)
    parts: list[Handled] = Field(default_factory=list)


async def test_copies_share_handles_that_are_kept_out_of_what_is_written_and_copy_data() -> None:
    client, inner = Handle(), Handle()
    held = Handled(client=client, options={"a": 1}, parts=[Handled(client=inner)])
    held.parts[0].parts.append(held)
    store = plain(held=held)
    copied = (await store.get_state())["held"]
    assert copied is not held
    assert copied.client is client
    assert copied.parts[0].client is inner
    assert copied.parts[0].parts[0] is copied
    copied.options["a"] = 2
    assert held.options == {"a": 1}


# --- the broker's side ------------------------------------------------------------------------


def test_s19_apply_is_all_or_nothing() -> None:
    dynamic, typed = plain(d={"x": 1}, l=[1]), InMemoryStateStore(Typed(names=["a"]))
    cases: list[tuple[InMemoryStateStore[Any], list[tuple[str, Any]], list[str]]] = [
        (dynamic, [("d.x", 2), ("d.x.y", 3)], []),
        (dynamic, [("l.0", 2)], ["nope"]),
        (dynamic, [("d.new", 2), ("_x", 1)], ["d.x"]),
        (dynamic, [("d.new", 2)], ["d.x", "d.x"]),
        (typed, [("names.0", "b"), ("count", "x")], []),
        (typed, [("count", 1), ("part.n", 2), ("nope", 1)], []),
        (typed, [("low", 5), ("high", 4)], []),
    ]
    for store, sets, unsets in cases:
        hooks = Hooks(store)
        before = json.dumps(store.values(), default=repr)
        with pytest.raises((StatePathError, ValidationError)):
            store.apply(sets, unsets)
        assert json.dumps(store.values(), default=repr) == before
        assert (hooks.checks, hooks.changes, store.version) == ([], [], 0)


def test_apply_checks_first_then_changes_once() -> None:
    store = plain(d={"x": 1}, gone=1)
    hooks = Hooks(store)
    store.apply([("d.y", 2), ("d.z", [3]), ("e", 4)], ["gone"])
    assert hooks.checks == [{"d": {"x": 1, "y": 2, "z": [3]}, "e": 4}]
    assert hooks.changes == [{"d", "e", "gone"}]
    assert hooks.loans == ["d"]  # the caller still holds [3]
    assert store.values() == {"d": {"x": 1, "y": 2, "z": [3]}, "e": 4}
    assert store.version == 1
    store.apply([])
    assert store.version == 1


def test_lending_tells_the_top_level_key() -> None:
    store: InMemoryStateStore[Any] = plain(n=1, d={"l": [1], "s": "x"}, t=(1, 2), m=Part())
    hooks = Hooks(store)
    for path in ("n", "d.s", "d.l.0", "t", "m.n"):
        store.peek(path)
    assert store.peek("nope", None) is None
    assert hooks.loans == []
    store.peek("d.l")
    store.peek("m")
    assert hooks.loans == ["d", "m"]
    store.peek("")
    assert set(hooks.loans[2:]) >= {"d", "m"}


def test_keys_that_come_and_go_on_the_live_root_are_told() -> None:
    store: InMemoryStateStore[Any] = plain(a=1, b=2)
    hooks = Hooks(store)
    root = store.peek("")
    assert set(hooks.loans) == {"a", "b"}
    store.values()
    assert hooks.changes == []
    root.new = 1
    del root["a"]
    assert store.values() == {"b": 2, "new": 1}
    assert hooks.changes == [{"a", "new"}]
    store.apply([("c", 3)])
    store.values()
    assert hooks.changes == [{"a", "new"}, {"c"}]
    store.replace(DictState(z=1))
    root.late = 1
    store.values()
    assert hooks.changes[2:] == [{"b", "new", "c", "z"}]


def test_state_type() -> None:
    assert plain().state_type is DictState
    assert InMemoryStateStore(Typed()).state_type is Typed


async def test_s19_what_lies_beside_something_that_cannot_be_copied_is_copied() -> None:
    class Held(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        lock: Any
        seen: list[int]
        _kept: list[int] = PrivateAttr(default_factory=list)

    lock = threading.Lock()
    held = Held(lock=lock, seen=[1])
    store = plain(held=held, pair=(lock, [1]), both=[{"lock": lock, "list": [1]}])
    await store.set("again", store.values()["both"])
    copied = await store.get_state()
    for found in copied.held, held:
        found.seen.append(2)
    copied.held._kept.append(1)
    copied.pair[1].append(2)
    copied.both[0]["list"].append(2)
    assert copied.held.lock is copied.pair[0] is copied.both[0]["lock"] is lock
    assert copied.both is copied.again
    live = store.values()
    assert (held.seen, held._kept, live["pair"][1], live["both"][0]["list"]) == ([1, 2], [], [1], [1])
