"""Whatever a model is made of, it comes back the same, or is refused by name: types are generated as well as values.

The comparison is written out here and shares nothing with the code: `form` shows all that a value is made of.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydantic import (
    AnyUrl,
    BaseModel,
    Field,
    PrivateAttr,
    PydanticUserError,
    RootModel,
    TypeAdapter,
    create_model,
)

from stepwire.workflow.codec.decoder import decode
from stepwire.workflow.codec.encoder import encode
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import SerializationError


class Colour(enum.Enum):
    RED = 1


class Word(enum.StrEnum):
    A = "a"


@dataclass
class Job:
    start: Any = None
    done: bool = field(default=False, init=False)


@dataclass(eq=False)
class Typed:
    at: datetime
    name: str = ""


class Pair(NamedTuple):
    one: Any
    two: datetime | int


class Inner(BaseModel):
    number: int = 0
    _private: Any = PrivateAttr(default=0)


class Paths(RootModel[list[Path]]):
    pass


class ByPath(RootModel[dict[Path, int]]):
    pass


def zero() -> int:
    return 0


CONFIGS: list[dict[str, Any]] = [{}, {"strict": True}, {"extra": "allow"}, {"frozen": True}, {"extra": "forbid"}]
Kind = tuple[Any, st.SearchStrategy[Any]]
zones = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=1), "X"), ZoneInfo("Europe/Oslo")]
)
times = st.builds(lambda at, fold: at.replace(fold=fold), st.datetimes(timezones=zones), st.sampled_from([0, 1]))
urls = st.sampled_from(["http://a/", "https://b.c/d?e=f"]).map(TypeAdapter(AnyUrl).validate_python)
paths = st.sampled_from(["a", "/b/c", "."]).map(Path)


def _inner(number: int, private: Any, given: bool) -> Inner:
    inner = Inner(number=number) if given else Inner()
    inner._private = private
    return inner


def _job(start: Any, done: bool) -> Job:
    job = Job(start)
    job.done = done
    return job


inners = st.builds(_inner, st.integers(0, 3), st.sampled_from([0, "p"]), st.booleans())
SIMPLE: list[Kind] = [
    (int, st.integers()),
    (float, st.sampled_from([0.0, -0.0, 1.5])),
    (str, st.text(max_size=3)),
    (bytes, st.binary(max_size=3)),
    (Decimal, st.sampled_from([Decimal("1.0"), Decimal("1.00")])),
    (datetime, times),
    (date, st.dates()),
    (Colour, st.just(Colour.RED)),
    (str, st.just(Word.A)),
    (Inner, inners),
    (Job, st.builds(_job, times | st.just(Word.A), st.booleans())),
    (Typed, st.builds(Typed, times, st.just("n") | st.just(Word.A))),
    (Pair, st.builds(Pair, st.just(1) | times, times)),
    (deque[int], st.builds(deque, st.lists(st.integers(), max_size=2), st.sampled_from([None, 2, 5]))),
]
ODD: list[Kind] = [
    (Path, paths),
    (AnyUrl, urls),
    (IPv4Address, st.just(IPv4Address("1.2.3.4"))),
    (defaultdict[str, list[int]], st.builds(defaultdict, st.sampled_from([list, zero, None]), st.just({"a": [1]}))),
    (OrderedDict[str, int], st.just(OrderedDict(b=1, a=2))),
    (Paths, st.lists(paths, max_size=2).map(Paths)),
    (ByPath, st.dictionaries(paths, st.integers(), max_size=2).map(ByPath)),
    (dict[Path, Inner], st.dictionaries(paths, inners, max_size=2)),
    (complex, st.just(1 + 2j)),
]


def containers(kind: Kind) -> list[Kind]:
    annotation: Any = kind[0]
    values = kind[1]
    return [
        (list[annotation], st.lists(values, max_size=2)),
        (dict[str, annotation], st.dictionaries(st.sampled_from(["a", "$b"]), values, max_size=2)),
        (dict[int, annotation], st.dictionaries(st.integers(0, 2), values, max_size=2)),
        (tuple[annotation, int], st.tuples(values, st.integers())),
        (annotation | None, st.none() | values),
        (Any, values),
    ]


@st.composite
def kinds(draw: Callable[[st.SearchStrategy[Any]], Any], among: list[Kind]) -> Kind:
    """Draw an annotation, and the strategy of its values."""
    kind: Kind = draw(st.sampled_from(among))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        kind = draw(st.sampled_from(containers(kind)))
    return kind


@st.composite
def models(draw: Callable[[st.SearchStrategy[Any]], Any], among: list[Kind]) -> Any:
    """Draw a class and an instance of it, with private attributes and undeclared fields."""
    fields: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)):
        annotation, strategy = draw(kinds(among))
        options: dict[str, Any] = draw(
            st.sampled_from([{}, {"exclude": True}, {"alias": name.upper()}, {"strict": True}])
        )
        fields[name] = (annotation, Field(default=None, **options))
        values[name] = draw(strategy)
    config: Any = draw(
        st.sampled_from([{}, {"strict": True}, {"extra": "allow"}, {"frozen": True}, {"extra": "forbid"}])
    )
    private = draw(st.sampled_from([None, "p", 1]))
    names: dict[str, Any] = {} if private is None else {"_kept": PrivateAttr(default=0), "_unset": PrivateAttr()}
    base = type("Base", (BaseModel,), {**names, "model_config": {"arbitrary_types_allowed": True, **config}})
    cls: Any
    try:
        cls = create_model("Generated", __base__=base, **fields)
    except (PydanticUserError, RuntimeError):  # pydantic has no class of these fields with this config
        reject()
    explicit = set(draw(st.lists(st.sampled_from(sorted(values)), unique=True)))
    model: Any = cls.model_construct(_fields_set=explicit, **values)
    if private is not None:
        model._kept = private
    if model.__pydantic_extra__ is not None:
        model.__pydantic_extra__["more"] = draw(st.sampled_from([1, (2,)]))
    return model


def form(value: Any) -> Any:
    """Return all that a value is made of, as what `==` compares rightly."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return kind, value.name
    if isinstance(value, BaseModel):
        return (
            kind.__name__,
            {name: form(value.__dict__.get(name)) for name in kind.model_fields},
            form(value.__pydantic_extra__),
            form(value.__pydantic_private__),
            sorted(value.model_fields_set),
        )
    if isinstance(value, datetime):
        zone = value.tzinfo
        known = zone.key if isinstance(zone, ZoneInfo) else (value.utcoffset(), value.tzname())
        return kind, value.replace(tzinfo=None, fold=0), value.fold, known
    if isinstance(value, deque):
        return kind, value.maxlen, [form(item) for item in value]
    if isinstance(value, dict):
        factory = getattr(value, "default_factory", None)
        return kind, factory, [(form(key), form(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return kind, [form(item) for item in value]
    if isinstance(value, Job | Typed):
        return kind, {name: form(item) for name, item in vars(value).items()}
    return kind, repr(value)


def names_of(model: BaseModel) -> TypeRegistry:
    return TypeRegistry([type(model), Colour, Word, Inner, Paths, ByPath, Job, Typed, Pair])


@settings(max_examples=150, deadline=None)
@given(model=models([*SIMPLE, *ODD]))
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_it_comes_back_the_same_or_is_refused_by_name(model: BaseModel) -> None:
    names = names_of(model)
    try:
        data = encode(model, names)
    except SerializationError as refused:
        (key,) = refused.keys
        assert key.partition(".")[0] in {*type(model).model_fields, "more"}
        return
    for validate in True, False:
        assert form(decode(data, names, validate=validate)) == form(model)


@settings(max_examples=80, deadline=None)
@given(model=models(SIMPLE))
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_what_has_tags_is_never_refused(model: BaseModel) -> None:
    names = names_of(model)
    assert form(decode(encode(model, names), names, validate=False)) == form(model)


@pytest.mark.parametrize(
    ("annotation", "values"),
    [each for each in ODD if each[0] in (Path, AnyUrl, IPv4Address, Paths, ByPath)],
    ids=lambda each: str(each)[:20],
)
@pytest.mark.parametrize("options", [{}, {"exclude": True}, {"alias": "A"}, {"strict": True}], ids=str)
@pytest.mark.parametrize("config", [{}, {"strict": True}, {"frozen": True}, {"extra": "forbid"}], ids=str)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value]], ids=["plain", "list"])
def test_what_classes_write_and_read_is_not_refused(
    annotation: Any, values: Any, options: Any, config: Any, wrap: Any
) -> None:
    annotation = annotation if wrap(1) == 1 else list[annotation]

    @settings(max_examples=2, deadline=None)
    @given(values)
    def check(value: Any) -> None:
        base = type("Base", (BaseModel,), {"model_config": config})
        cls: Any = create_model("Generated", __base__=base, a=(annotation, Field(default=None, **options)), n=(int, 1))
        model = cls.model_construct(a=wrap(value))
        names = names_of(model)
        assert form(decode(encode(model, names), names)) == form(model)

    check()
