from __future__ import annotations

import asyncio
import json
import threading
import warnings
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from stepwire.workflow.errors import (
    ContextSerdeError,
    SerializationError,
    SnapshotError,
    StateNotFoundError,
    StatePathError,
    WorkflowRuntimeError,
)
from stepwire.workflow.state.hooks import StateHooks, StateValues
from stepwire.workflow.state.serializers import JsonSerializer, PickleSerializer
from stepwire.workflow.state.store import (
    DictState,
    InMemoryStateStore,
    UnserializableKeyWarning,
    in_edit_state,
)


class Part(BaseModel):
    n: int = 0


class Typed(BaseModel):
    count: int = 0
    names: list[str] = Field(default_factory=list)
    part: Part = Field(default_factory=Part)
    low: int = 0
    high: int = 10
    _kept: int = PrivateAttr(default=1)

    @model_validator(mode="after")
    def _ordered(self) -> Typed:
        if self.low > self.high:
            raise ValueError("low above high")
        return self


class Required(BaseModel):
    needed: int
    other: int = 0


class Hooks(StateHooks):
    """Record what the store tells its run."""

    def __init__(self, store: InMemoryStateStore[Any]) -> None:
        self.checks: list[dict[str, Any]] = []
        self.changes: list[set[str]] = []
        self.loans: list[str] = []
        self.refuse = False
        store.hooks = self

    def changed(self, keys: set[str]) -> None:
        self.changes.append(keys)

    def lent(self, key: str) -> None:
        self.loans.append(key)

    def check(self, store: StateValues, values: dict[str, Any]) -> None:
        self.checks.append(dict(values))
        if self.refuse:
            raise SerializationError("no", keys=("k",))


def plain(**values: Any) -> InMemoryStateStore[DictState]:
    return InMemoryStateStore(DictState(**values))


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


# --- edit_state -------------------------------------------------------------------------------


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


def test_values_and_load_values_round_trip() -> None:
    typed = InMemoryStateStore(Typed(count=1, names=["a"], part=Part(n=2)))
    loaded = InMemoryStateStore(Typed())
    loaded.load_values(typed.values(), validate=True)
    assert loaded.values() == typed.values()
    required = InMemoryStateStore(Required(needed=1))
    required.load_values({"needed": "not a number", "other": 1}, validate=False)
    assert required.values()["needed"] == "not a number"
    for values in ({"needed": "x", "other": 1}, {"other": 1}):
        with pytest.raises(SnapshotError, match="needed"):
            required.load_values(values, validate=True)
    with pytest.raises(SnapshotError, match="needed"):
        required.load_values({"other": 1}, validate=False)
    dynamic = plain(old=1)
    hooks = Hooks(dynamic)
    dynamic.load_values({"items": [1], "$x": {1: 2}}, validate=True)
    assert dynamic.values() == {"items": [1], "$x": {1: 2}}
    assert (hooks.checks, hooks.changes) == ([], [])


def test_state_type() -> None:
    assert plain().state_type is DictState
    assert InMemoryStateStore(Typed()).state_type is Typed


# --- to_dict and from_dict --------------------------------------------------------------------


@pytest.mark.parametrize("serializer", [JsonSerializer(), PickleSerializer()])
async def test_to_dict_and_from_dict(serializer: Any) -> None:
    store = plain(a={"b": (1, 2)}, items=Part(n=1))
    data = json.loads(json.dumps(store.to_dict(serializer)))
    assert (data["state_type"], data["state_module"]) == ("DictState", "stepwire.workflow.state.store")
    assert data["state_data"]["_data"].keys() == {"a", "items"}
    assert InMemoryStateStore.from_dict(data, serializer).values() == store.values()

    typed = InMemoryStateStore(Typed(count=1, names=["a"]))
    data = json.loads(json.dumps(typed.to_dict(serializer)))
    assert (data["state_type"], data["state_module"]) == ("Typed", __name__)
    back = InMemoryStateStore.from_dict(data, serializer)
    assert await back.get_state() == await typed.get_state()
    assert InMemoryStateStore.from_dict({}, serializer).state_type is DictState


def test_s21_to_dict_names_every_key_that_cannot_be_saved() -> None:
    store = plain(ok=1, first=threading.Lock(), second={"x": threading.Lock()})
    for serializer in (JsonSerializer(), PickleSerializer()):
        with pytest.raises(SerializationError) as caught:
            store.to_dict(serializer)
        assert caught.value.keys == ("first", "second")
        assert isinstance(caught.value, ValueError)


def test_known_unserializable_keys_are_left_out_with_a_warning() -> None:
    store = plain(memory=threading.Lock(), ok=1)
    with pytest.warns(UnserializableKeyWarning, match="memory"):
        data = store.to_dict(JsonSerializer())
    assert data["state_data"]["_data"].keys() == {"ok"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "memory" in plain(memory=[1]).to_dict(JsonSerializer())["state_data"]["_data"]


def test_state_of_1x_is_read() -> None:
    data = {
        "state_data": {"_data": {"a": "1", "b": '{"x": [null]}'}},
        "state_type": "DictState",
        "state_module": "workflows.context.state_store",
    }
    store = InMemoryStateStore.from_dict(data, JsonSerializer())
    assert store.values() == {"a": 1, "b": {"x": [None]}}
    typed = {
        "state_data": json.dumps(
            {
                "__is_pydantic": True,
                "value": {"count": 3},
                "qualified_name": f"{__name__}.Typed",
            }
        ),
        "state_type": "Typed",
        "state_module": __name__,
    }
    assert InMemoryStateStore.from_dict(typed, JsonSerializer()).values()["count"] == 3


@pytest.mark.parametrize(
    "data",
    [
        {"state_type": "DictState"},
        {"state_data": {"_data": []}, "state_type": "DictState"},
        {"state_data": {"_data": {"a": 1}}, "state_type": "DictState"},
        {"state_data": "5", "state_type": "Typed"},
        {"state_data": "nope", "state_type": "Typed"},
    ],
)
def test_malformed_state_is_a_serde_error(data: dict[str, Any]) -> None:
    with pytest.raises(ContextSerdeError):
        InMemoryStateStore.from_dict(data, JsonSerializer())


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
