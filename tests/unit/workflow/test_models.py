from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, field_validator, model_validator

from stepwire.workflow.codec.model_json import own_json
from stepwire.workflow.codec.models import load
from stepwire.workflow.errors import SnapshotError

ran: list[Any] = []


class Shop(BaseModel):
    """Validators that note that they ran."""

    name: str = "shop"
    open: bool = True
    rooms: list[Shop] = Field(default_factory=list)
    home: Path = Path("/")
    late: int = Field(default=1, gt=0)

    @field_validator("name", "late")
    @classmethod
    def _note(cls, value: Any) -> Any:
        ran.append(value)
        return value

    @model_validator(mode="after")
    def _all(self) -> Shop:
        ran.append("all")
        return self


class Grown(BaseModel):
    """As Shop was before: without some of its fields, and with another one."""

    model_config = ConfigDict(extra="allow")
    name: str
    size: float = 1.5
    _kept: list[int] = PrivateAttr(default_factory=list)
    _unset: int = PrivateAttr()


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = ""


class Renamed(BaseModel):
    title: str = "none"

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: Any) -> Any:
        if "name" in data:
            data = {**data, "title": data["name"]}
        return data


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def restored(cls: type[Any], fields: dict[str, Any], *, validate: bool = False, **parts: Any) -> Any:
    extra, private = parts.pop("extra", {}), parts.pop("private", None)
    return load(cls, fields, extra, private, {*fields, *extra}, validate=validate, **parts)


def whole(**values: Any) -> dict[str, Any]:
    return {"name": "a", "open": False, "rooms": [], "home": Path("/x"), "late": 3, **values}


@pytest.mark.parametrize("validate", [True, False])
def test_no_validator_runs_over_values_that_fit(validate: bool) -> None:
    room = Shop.model_construct(**{**whole(), "late": 0})
    ran.clear()
    fields = whole(rooms=[room])
    shop = restored(Shop, fields, validate=validate)
    assert shop.__dict__ == fields
    assert shop.rooms[0] is room
    assert ran == []


def test_without_validation_values_that_do_not_fit_come_back_too() -> None:
    assert restored(Shop, whole(late="none")).late == "none"
    with pytest.raises(SnapshotError, match=r"Shop does not validate: late \(int_parsing\)"):
        restored(Shop, whole(late="none"), validate=True)
    with pytest.raises(SnapshotError, match=r"late \(greater_than\)"):
        restored(Shop, whole(late=0), validate=True)


def test_only_what_does_not_fit_is_validated() -> None:
    shop = restored(Shop, whole(late="5"), validate=True)
    assert shop.late == 5
    assert ran == [5]


def test_a_class_that_has_other_fields() -> None:
    fields = {"name": "a", "gone": 1}
    grown = restored(Grown, fields, extra={"size": "2.5", "more": 3})
    assert (grown.name, grown.size, grown.__pydantic_extra__) == ("a", 2.5, {"gone": 1, "more": 3})
    with pytest.raises(SnapshotError, match=r"name \(missing\)"):
        restored(Grown, {"size": 1.0})
    with pytest.raises(SnapshotError, match=r"gone \(extra_forbidden\)"):
        restored(Closed, fields)
    assert restored(Shop, {"name": "a"}).__dict__ == {**Shop().__dict__, "name": "a"}


def test_validators_of_mode_before_know_where_a_field_went() -> None:
    assert restored(Renamed, {"name": "a"}).title == "a"
    assert restored(Renamed, {"title": "b"}).title == "b"


def test_private_attributes() -> None:
    kept = restored(Grown, {"name": "a", "size": 1.0}, private={"_kept": [1], "_gone": 2})
    assert kept.__pydantic_private__ == {"_kept": [1]}
    assert restored(Grown, {"name": "a", "size": 1.0}, private={"_unset": 1}).__pydantic_private__ == {
        "_unset": 1,
        "_kept": [],
    }
    fresh = restored(Grown, {"name": "a", "size": 1.0}), restored(Grown, {"name": "b", "size": 1.0})
    assert [each._kept for each in fresh] == [[], []]
    assert fresh[0]._kept is not fresh[1]._kept


def test_fields_in_the_json_of_their_class_are_read_by_it_and_no_others() -> None:
    fields = whole()
    written = own_json(Shop, fields, ["home"])
    assert written == {"home": "/x"}
    del fields["home"]
    shop = restored(Shop, fields, own=written)
    assert (shop.home, list(shop.__dict__)) == (Path("/x"), list(Shop.model_fields))
    assert ran == []
    with pytest.raises(SnapshotError, match="home"):
        restored(Shop, fields, own={"home": 1})


class Picky(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)
    root_path: Path = Field(default=Path("a"), exclude=True, alias="rootPath")
    nothing: Any = None
    other: Path = Path("b")


def test_json_of_classes_that_are_strict_or_exclude_fields() -> None:
    fields = {"root_path": Path("x"), "nothing": object(), "other": Path("y")}
    assert own_json(Picky, fields, fields) == {"root_path": "x", "other": "y"}


def test_json_of_root_models() -> None:
    class Paths(RootModel[dict[str, list[Path]]]):
        pass

    fields = {"root": {"a": [Path("x")]}}
    assert own_json(Paths, fields, ["root"]) == {"root": {"a": ["x"]}}
    assert restored(Paths, {}, own={"root": {"a": ["x"]}}).root == fields["root"]
