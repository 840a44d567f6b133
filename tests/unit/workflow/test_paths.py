from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from stepwire.workflow.errors import StateNotFoundError, StatePathError
from stepwire.workflow.events import Event
from stepwire.workflow.state.paths import MAX_SEGMENTS, Edit, get_in, parse, set_in, unset_in


class Leaf(BaseModel):
    n: int = 0
    _hidden: int = PrivateAttr(default=7)

    @property
    def twice(self) -> int:
        return 2 * self.n

    def method(self) -> None: ...


class Root(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    leaf: Leaf = Leaf()
    leaves: list[Leaf] = []
    counts: dict[str, int] = {}
    free: Any = None
    low: int = 0
    high: int = 10
    needed: str
    aliased: int = Field(default=1, alias="otherName")

    @model_validator(mode="after")
    def _ordered(self) -> Root:
        if self.low > self.high:
            raise ValueError("low above high")
        return self


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    x: int = 1


def root(**params: Any) -> Root:
    return Root(needed="yes", **params)


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "_a",
        "a._b",
        "__class__",
        "a.__init__.__globals__",
        "a.__dict__",
        ".".join(["a"] * (MAX_SEGMENTS + 1)),
    ],
)
def test_s18_refused_segments(path: str) -> None:
    tree = {"a": {"b": 1, "_b": 2}, "_a": 3, "": 4}
    before = copy.deepcopy(tree)
    for call in (
        lambda: parse(path),
        lambda: get_in(tree, path),
        lambda: set_in(tree, path, 1),
        lambda: unset_in(tree, path),
    ):
        with pytest.raises(StatePathError) as caught:
            call()
        assert caught.value.path == path
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, AttributeError)
    assert tree == before


def test_s18_a_path_is_text() -> None:
    with pytest.raises(StatePathError):
        parse(3)  # type: ignore[arg-type]


def test_s18_64_segments_are_fine() -> None:
    path = ".".join(["a"] * MAX_SEGMENTS)
    tree: dict[str, Any] = {}
    set_in(tree, path, 1)
    assert get_in(tree, path) == 1


@pytest.mark.parametrize(
    "path",
    [
        "leaf.method",
        "leaf.twice",
        "leaf.model_fields",
        "leaf.model_config",
        "leaf.model_dump",
        "leaf.copy",
        "leaves.append",
        "leaves.sort.x",
        "counts.keys",
        "counts.items.x",
        "needed.upper",
        "model_fields_set",
        "event.get",
        "event.keys",
        "event.model_extra.k",
        "free.real",
    ],
)
def test_s18_attributes_and_methods_are_unreachable(path: str) -> None:
    tree = root(free=3, leaves=[Leaf()])
    with pytest.raises(StateNotFoundError):
        get_in(tree, path)
    with pytest.raises(StateNotFoundError):
        get_in({"event": Event(k=1), "leaf": Leaf()}, path)
    before = tree.model_copy(deep=True)
    if path != "counts.keys" and not path.startswith("counts."):
        with pytest.raises(StatePathError):
            set_in(tree, path, 1)
        assert tree == before


def test_s18_items_is_a_key_like_any_other() -> None:
    tree: dict[str, Any] = {}
    set_in(tree, "items.keys.get", 1)
    assert tree == {"items": {"keys": {"get": 1}}}
    assert get_in(tree, "items.keys.get") == 1
    event = Event()
    set_in(event, "items", [1])
    assert event["items"] == [1]
    assert get_in(event, "items.0") == 1


def test_s18_classes_with_item_access_of_their_own_are_not_asked() -> None:
    class Loud(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise AssertionError

        def __missing__(self, key: str) -> Any:
            raise AssertionError

        def get(self, key: str, default: Any = None) -> Any:
            raise AssertionError

    assert get_in({"a": Loud(x=1)}, "a.x") == 1
    with pytest.raises(StateNotFoundError):
        get_in({"a": Loud()}, "a.x")
    tree: dict[str, Any] = {"a": defaultdict(list)}
    with pytest.raises(StateNotFoundError):
        get_in(tree, "a.x")
    assert tree["a"] == {}


@pytest.mark.parametrize("index", ["01", "-1", "+1", "1.0", " 1", "1_0", "²", "٣", "9", "1" * 30])
def test_s18_list_indexes(index: str) -> None:
    tree = {"l": [0] * 5, "t": (1, 2)}
    assert (get_in(tree, "l.4"), get_in(tree, "t.1")) == (0, 2)
    with pytest.raises(StateNotFoundError):
        get_in(tree, f"l.{index}")
    with pytest.raises(StatePathError):
        set_in(tree, f"l.{index}", 1)
    with pytest.raises(StatePathError):
        set_in(tree, "t.0", 1)
    assert tree == {"l": [0] * 5, "t": (1, 2)}


def test_s18_dict_keys_come_before_indexes_and_set_creates_dicts() -> None:
    tree: dict[Any, Any] = {"d": {"0": "key"}, 1: "int"}
    assert get_in(tree, "d.0") == "key"
    with pytest.raises(StateNotFoundError):
        get_in(tree, "1")
    set_in(tree, "new.0.x", 1)
    assert tree["new"] == {"0": {"x": 1}}
    with pytest.raises(StatePathError):
        set_in(tree, "d.0.x", 1)  # text is no container


def test_s19_a_typed_set_validates_and_changes_nothing_when_it_fails() -> None:
    tree = root(leaves=[Leaf(n=1)], counts={"a": 1}, leaf=Leaf(n=5))
    before = tree.model_copy(deep=True)
    for path, value in [
        ("low", 11),
        ("low", "x"),
        ("leaf.n", "x"),
        ("leaves.0.n", "x"),
        ("leaves.0", "x"),
        ("counts.b", "x"),
        ("counts.b.c", 1),
        ("leaf", None),
    ]:
        with pytest.raises(ValidationError):
            set_in(tree, path, value)
        assert tree == before
    for path in ("nope", "nope.x", "leaf.nope"):
        with pytest.raises(StatePathError, match=path):
            set_in(tree, path, 1)
        assert tree == before
    set_in(tree, "low", "3")
    set_in(tree, "counts.b", "4")
    set_in(tree, "leaves.0.n", "5")
    assert (tree.low, tree.counts, tree.leaves[0].n) == (3, {"a": 1, "b": 4}, 5)


def test_s19_set_changes_the_live_containers() -> None:
    tree = root(leaves=[Leaf(n=1)], counts={"a": 1}, free={"x": [{}]})
    leaf, leaves, first, counts, inner = (
        tree.leaf,
        tree.leaves,
        tree.leaves[0],
        tree.counts,
        tree.free["x"][0],
    )
    set_in(tree, "leaf.n", 2)
    set_in(tree, "leaves.0.n", 3)
    set_in(tree, "counts.b", 4)
    set_in(tree, "free.x.0.y", 5)
    assert (leaf.n, first.n, counts, inner) == (2, 3, {"a": 1, "b": 4}, {"y": 5})
    assert tree.leaf is leaf
    assert tree.leaves is leaves
    assert tree.leaves[0] is first
    assert tree.counts is counts
    assert tree.leaf._hidden == 7


def test_frozen_models_stay() -> None:
    tree = {"f": Frozen()}
    with pytest.raises(ValidationError):
        set_in(tree, "f.x", 2)
    set_in(tree, "f", Frozen(x=2))
    assert tree["f"].x == 2


def test_events_take_dynamic_fields() -> None:
    tree = {"e": Event(k={"a": 1})}
    set_in(tree, "e.k.b", 2)
    set_in(tree, "e.new", 3)
    assert tree["e"].to_dict() == {"k": {"a": 1, "b": 2}, "new": 3}
    unset_in(tree, "e.k")
    assert tree["e"].to_dict() == {"new": 3}


def test_unset() -> None:
    tree = {"a": {"b": 1, "c": 2}, "l": [1, 2, 3], "r": root(low=4)}
    unset_in(tree, "a.b")
    unset_in(tree, "l.1")
    unset_in(tree, "r.low")
    assert (tree["a"], tree["l"], tree["r"].low) == ({"c": 2}, [1, 3], 0)  # type: ignore[attr-defined]
    with pytest.raises(StatePathError, match="requires"):
        unset_in(tree, "r.needed")
    for path in ("a.b", "l.2", "x", "a.c.d", "r.nope"):
        with pytest.raises(StateNotFoundError):
            unset_in(tree, path)


def test_an_edit_touches_nothing_before_its_commit() -> None:
    tree: dict[str, Any] = {"a": {"x": 1}, "b": [1], "c": 1}
    a, before = tree["a"], copy.deepcopy(tree)
    edit = Edit(tree)
    edit.set("a.y", 2)
    edit.set("a.z.deep", 3)
    edit.set("b.0", 4)
    edit.set("new", {})
    edit.set("new.k", 5)
    edit.unset("c")
    assert tree == before
    assert edit.changed() == {
        "a": {"x": 1, "y": 2, "z": {"deep": 3}},
        "b": [4],
        "new": {"k": 5},
    }
    assert edit.keys() == {"a", "b", "c", "new"}
    edit.commit()
    assert tree == {"a": {"x": 1, "y": 2, "z": {"deep": 3}}, "b": [4], "new": {"k": 5}}
    assert tree["a"] is a


def test_errors_name_the_path_and_no_value() -> None:
    with pytest.raises(StatePathError) as caught:
        set_in({"a": "s3cret"}, "a.b", "pa55")
    assert "a.b" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "pa55" not in str(caught.value)


def test_a_field_goes_by_its_alias_and_by_its_name() -> None:
    tree = root(otherName=5)
    assert get_in(tree, "otherName") == get_in(tree, "aliased") == 5
    for path, value in ("otherName", 6), ("aliased", 7):
        edit = Edit(tree)
        edit.set(path, value)
        assert edit.keys() == {"aliased"}
        edit.commit()
        assert tree.aliased == value
    unset_in(tree, "otherName")
    assert tree.aliased == 1


def test_another_spelling_of_a_field_is_no_dynamic_field() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(extra="allow")
        order_id: int = Field(default=1, alias="orderId")

    tree = Loose()
    for path in "orderid", "order-id", "OrderID":
        with pytest.raises(StatePathError, match="spelled otherwise"):
            set_in(tree, path, 2)
    assert (tree.order_id, tree.__pydantic_extra__) == (1, {})
    set_in(tree, "orders", 2)  # nothing like it
