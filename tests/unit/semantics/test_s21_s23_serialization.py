"""S21-S23: what is saved comes back equal, or is refused."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    Context,
    ContextSerdeError,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    JsonSerializer,
    PickleSerializer,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowCheckpointer,
    step,
)
from stepwire.workflow.errors import (
    SerializationError,
    SnapshotError,
    SnapshotVersionError,
    SnapshotWorkflowError,
    UnknownTypeError,
)
from stepwire.workflow.state.serializers import RegistrySerializer


class Mood(Enum):
    GOOD = 1
    BAD = 2


class Part(BaseModel):
    name: str
    mood: Mood = Mood.GOOD


class Item(Event):
    part: Part
    nested: Event | None = None


class Prompt(InputRequiredEvent):
    pass


class Key(HumanResponseEvent):
    pass


class Voice:
    """No model, and equal to itself only: the class that has it says how it is written and read."""

    def __init__(self, name: str) -> None:
        self.name = name


class Profile(BaseModel):
    """As the documentation of 1.x has it, and types that pydantic knows and no tag is for."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    voice: Voice = Field(default_factory=lambda: Voice("alto"))
    home: Path = Path("/home")
    address: IPv4Address = IPv4Address("127.0.0.1")
    seen: list[Path] = []
    data: dict[str, Any] = {}

    @field_serializer("voice", when_used="always")
    def write_voice(self, voice: Voice) -> str:
        return voice.name

    @field_validator("voice", mode="before")
    @classmethod
    def read_voice(cls, value: Any) -> Any:
        return Voice(value) if isinstance(value, str) else value


class Hidden(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    secret: SecretStr = SecretStr("psst")
    anything: Any = Path("psst")
    voice: Voice = Field(default_factory=lambda: Voice("psst"))


class Told(Event):
    profile: Profile
    home: Path


class Locked:
    """In process only; pickle cannot hold it either."""

    def __reduce__(self) -> Any:
        raise TypeError("no")


class Holder:
    """A plain object: only pickle can hold it."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holder) and other.n == self.n

    __hash__ = None  # type: ignore[assignment]


EVERYTHING: dict[str, Any] = {
    "model": Part(name="a", mood=Mood.BAD),
    "event": Item(part=Part(name="b"), nested=StopEvent(result=[1]), dynamic={"x": Part(name="c")}),
    "bytes": b"\x00\xff",
    "datetime": datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC),
    "date": date(2024, 5, 6),
    "timedelta": timedelta(days=-1, microseconds=5),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=5),
    "enum": Mood.GOOD,
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "tuple": (1, (2,), []),
    "keys": {1: "int", (1, 2): "tuple", None: "none", Mood.BAD: "enum"},
    "like a tag": {"$set": [1]},
    "like an old tag": {"__is_pydantic": True, "qualified_name": "os.system", "value": {}},
    "float": 0.1,
    "big": 2**70,
}


class Store(Workflow):
    types = (Part, Mood)

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> Item | StopEvent:
        for key, value in EVERYTHING.items():
            await ctx.store.set(key, value)
        ctx.collect_events(EVERYTHING["event"], [Item, Item], buffer_id="one")
        return EVERYTHING["event"]  # type: ignore[no-any-return]

    @step
    async def hold(self, ctx: Context, ev: Item) -> Prompt | StopEvent:
        answer = await ctx.wait_for_event(
            Key, waiter_event=Prompt(held=ev), requirements={"key": (1, b"x")}, timeout=None
        )
        (first, second) = ctx.collect_events(ev, [Item, Item], buffer_id="one") or (None, None)
        state = (await ctx.store.get_state()).to_dict()
        return StopEvent(result=[state == EVERYTHING, first == second == ev == EVERYTHING["event"], answer.n])


# -- S21 ------------------------------------------------------------------------------------------------------------


async def test_s21_everything_that_a_snapshot_holds_comes_back_equal() -> None:
    run = DurableRun(Store(disable_validation=True)).start()
    await run.until(lambda run: run.kept("w"))
    run.crash_and_recover()
    state = (await run.context.store.get_state()).to_dict()
    assert state == EVERYTHING
    for key, value in EVERYTHING.items():
        assert type(state[key]) is type(value)
    assert run.send(Key(key=[1, b"x"])).delivered == 0
    assert run.send(Key(key=(1, b"x"), n=5)).delivered == 1
    assert (await run.ended()).event.result == [True, True, 5]


async def test_s21_everything_comes_back_through_to_dict_and_from_dict() -> None:
    workflow = Store(disable_validation=True)
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            break
    text = json.dumps(handler.ctx.to_dict())
    await handler.cancel_run()
    ctx: Context[Any] = Context.from_dict(workflow, json.loads(text))
    assert (await ctx.store.get_state()).to_dict() == EVERYTHING
    again = workflow.run(ctx=ctx)
    ctx.send_event(Key(key=(1, b"x"), n=6))
    assert await again == [True, True, 6]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}, Decimal("NaN"), object(), print])
async def test_s21_what_cannot_be_saved_is_refused_naming_the_key_and_not_the_value(value: Any) -> None:
    ctx: Context[Any] = Context(Store())
    await ctx.store.set("good", 1)
    await ctx.store.set("bad", value)
    await ctx.store.set("worse", object())
    with pytest.raises(SerializationError) as caught:
        ctx.to_dict()
    assert {key.partition(".")[0] for key in caught.value.keys} == {"bad", "worse"}
    assert "0x" not in str(caught.value)


class Profiled(Workflow):
    @step
    async def begin(self, ctx: Context[Profile], ev: StartEvent) -> Told:
        await ctx.store.set("voice", Voice("bass"))
        await ctx.store.set("home", Path("/root"))
        async with ctx.store.edit_state() as state:
            state.seen = [Path("a"), Path("b")]
            state.data = {"$json": 1}
        return Told(profile=await ctx.store.get_state(), home=Path("/told"))

    @step
    async def ask(self, ctx: Context[Profile], ev: Told) -> StopEvent:
        await ctx.wait_for_event(Key, waiter_event=Prompt())
        state = await ctx.store.get_state()
        return StopEvent(result=[described(state), described(ev.profile), str(ev.home)])


def described(profile: Profile) -> str:
    return f"{profile.voice.name} {profile.home} {profile.address} {[*map(str, profile.seen)]} {profile.data}"


WHOLE = "bass /root 127.0.0.1 ['a', 'b'] {'$json': 1}"


async def test_s21_a_field_comes_back_as_its_class_writes_and_reads_it() -> None:
    workflow = Profiled()
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            break
    saved = json.loads(json.dumps(handler.ctx.to_dict()))
    await handler.cancel_run()
    context: Context[Profile] = Context.from_dict(workflow, saved)
    state = await context.store.get_state()
    assert [type(value) for value in (state.home, *state.seen)] == [type(Path())] * 3
    handler = workflow.run(ctx=context)
    handler.ctx.send_event(Key())
    assert await handler == [WHOLE, WHOLE, "/told"]


async def test_s21_a_field_of_the_state_comes_back_in_a_service_too() -> None:
    run = DurableRun(Profiled()).start()
    await run.until(lambda run: run.kept("w"))
    assert json.loads(run.parts["s/home"]) == {"$json": "/root"}
    for _ in range(2):
        run.crash_and_recover()
    fork = run.fork()
    for each in (run, fork):
        each.send(Key())
        assert (await each.ended()).event.result == [WHOLE, WHOLE, "/told"]


@pytest.mark.parametrize("field", ["secret", "anything", "voice"])
def test_s21_a_field_that_its_class_does_not_read_back_the_same_is_refused(field: str) -> None:
    kept = {"secret": None, "anything": None, "voice": None, field: getattr(Hidden(), field)}
    with pytest.raises(SerializationError, match=f"cannot save {field} of Hidden: ") as caught:
        JsonSerializer().serialize(Hidden.model_construct(**kept))
    assert "psst" not in str(caught.value)
    with pytest.raises(SnapshotError, match="a tag that this version does not know"):
        JsonSerializer().deserialize('{"format":"stepwire-json/1","data":[{"$json":1}]}')


async def test_s21_new_payloads_carry_an_envelope_and_untagged_ones_are_1x() -> None:
    serializer = JsonSerializer()
    assert json.loads(serializer.serialize({1: 2}))["format"] == "stepwire-json/1"
    name = f"{__name__}.Part"
    old = json.dumps({"__is_pydantic": True, "value": {"name": "x", "mood": 2}, "qualified_name": name})
    assert serializer.deserialize(old) == Part(name="x", mood=Mood.BAD)
    assert serializer.deserialize("[1, 2]") == [1, 2]


async def test_s21_user_dicts_that_look_like_a_tag_are_escaped() -> None:
    for value in (
        {"$set": [1]},
        {"$model": ["os.system", {}]},
        {"format": "stepwire-json/1", "data": 5},
        {"__is_pydantic": True, "qualified_name": "os.system", "value": {}},
    ):
        for serializer in (JsonSerializer(), PickleSerializer()):
            assert serializer.deserialize(serializer.serialize(value)) == value


# -- S22 ------------------------------------------------------------------------------------------------------------


async def test_s22_pickle_is_tagged_and_nothing_untagged_is_unpickled() -> None:
    serializer = PickleSerializer()
    text = serializer.serialize(Holder(5))
    assert text.startswith("stepwire-pickle/1:")
    assert serializer.deserialize(text) == Holder(5)
    bare = base64.b64encode(pickle.dumps(Holder(5))).decode()
    with pytest.raises(SnapshotError):
        serializer.deserialize(bare)
    with pytest.raises(SnapshotError):
        JsonSerializer().deserialize(text)
    with pytest.raises(SerializationError):
        serializer.serialize(Locked())


async def test_s22_a_context_can_be_saved_with_pickle() -> None:
    workflow = Store()
    ctx: Context[Any] = Context(workflow)
    await ctx.store.set("holder", Holder(5))
    with pytest.raises(SerializationError, match="holder"):
        ctx.to_dict()
    serializer = PickleSerializer()
    restored: Context[Any] = Context.from_dict(workflow, ctx.to_dict(serializer), serializer)
    assert await restored.store.get("holder") == Holder(5)


async def test_s22_in_process_json_imports_by_qualified_name() -> None:
    name = "colorsys.rgb_to_hsv"
    sys.modules.pop("colorsys", None)
    with pytest.raises(UnknownTypeError):
        JsonSerializer().deserialize(json.dumps({"__is_pydantic": True, "value": {}, "qualified_name": name}))
    assert "colorsys" in sys.modules


@pytest.mark.parametrize(
    "payload",
    [
        {"__is_pydantic": True, "value": {}, "qualified_name": "colorsys.rgb_to_hsv"},
        {"__is_component": True, "value": {}, "qualified_name": "colorsys.rgb_to_hsv"},
        {"format": "stepwire-json/1", "data": {"$model": ["colorsys.rgb_to_hsv", {}]}},
    ],
)
async def test_s22_the_service_imports_nothing_that_a_payload_names(payload: Any) -> None:
    run = DurableRun(Store())
    sys.modules.pop("colorsys", None)
    with pytest.raises(SnapshotError):
        RegistrySerializer(run.names).deserialize(json.dumps(payload))
    run.parts = {"h": json.dumps({"v": 1, "seq": 0}).encode(), "s/x": json.dumps(payload.get("data", payload)).encode()}
    run.crash()
    with pytest.raises(SnapshotError):
        run.recover()
    assert "colorsys" not in sys.modules


OLD_KEYS = {
    "state",
    "streaming_queue",
    "queues",
    "stepwise",
    "event_buffers",
    "in_progress",
    "accepted_events",
    "broker_log",
    "is_running",
}


async def test_s22_to_dict_has_the_1x_keys() -> None:
    handler = Store(disable_validation=True).run()
    async for event in handler.stream_events():
        if isinstance(event, Prompt):
            break
    data = handler.ctx.to_dict()
    await handler.cancel_run()
    assert data.keys() >= OLD_KEYS
    assert data["is_running"] is True
    assert [JsonSerializer().deserialize(text) for text in data["in_progress"]["hold"]] == [EVERYTHING["event"]]
    assert list(data["event_buffers"]) == ["one"]
    assert data["broker_log"] == data["accepted_events"] == []
    assert set(data["state"]["state_data"]["_data"]) == set(EVERYTHING)


def one_x(value: Any) -> str:
    """Write as 1.x does."""
    if isinstance(value, BaseModel):
        qualified = f"{type(value).__module__}.{type(value).__qualname__}"
        fields = json.loads(type(value).model_dump_json(value))
        return json.dumps({"__is_pydantic": True, "value": fields, "qualified_name": qualified})
    return json.dumps(value)


class Sum(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Item | StopEvent:
        return Item(part=Part(name="never"))

    @step
    async def work(self, ctx: Context, ev: Item) -> StopEvent | None:
        found = ctx.collect_events(ev, [Item] * 3, buffer_id="all")
        if found is None:
            return None
        names = [each.part.name for each in found if isinstance(each, Item)]
        return StopEvent(result=[sorted(names), await ctx.store.get("k")])


def one_x_context() -> dict[str, Any]:
    item = f"{Item.__module__}.{Item.__qualname__}"
    return {
        "state": {
            "state_data": {"_data": {"k": one_x(5)}},
            "state_type": "DictState",
            "state_module": "workflows.context.state_store",
        },
        "streaming_queue": "[]",
        "queues": {"work": json.dumps([one_x(Item(part=Part(name="queued")))]), "begin": "[]", "_done": "[]"},
        "stepwise": False,
        "event_buffers": {"all": {item: [one_x(Item(part=Part(name="buffered")))]}},
        "in_progress": {"work": [one_x(Item(part=Part(name="running")))]},
        "accepted_events": [["begin", "StartEvent"]],
        "broker_log": [one_x(StartEvent())],
        "is_running": True,
    }


async def test_s22_from_dict_reads_what_1x_wrote_and_goes_on() -> None:
    ctx: Context[Any] = Context.from_dict(Sum(), one_x_context())
    assert ctx.is_running
    assert await Sum().run(ctx=ctx) == [["buffered", "queued", "running"], 5]


async def test_s22_from_dict_takes_the_legacy_globals() -> None:
    data = one_x_context()
    del data["state"]
    data["globals"] = {"k": one_x(7)}
    ctx: Context[Any] = Context.from_dict(Sum(), data)
    assert await ctx.store.get("k") == 7


@pytest.mark.parametrize("key", sorted(OLD_KEYS))
async def test_s22_a_missing_key_is_a_clear_error(key: str) -> None:
    data = one_x_context()
    del data[key]
    with pytest.raises(ContextSerdeError, match=f"no key '{key}'"):
        Context.from_dict(Sum(), data)


async def test_s22_a_checkpoint_is_run_on_from_once() -> None:
    ran: list[str] = []

    class Steps(Sum):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Item | StopEvent:
            ran.append("begin")
            return Item(part=Part(name="x"))

        @step
        async def work(self, ctx: Context, ev: Item) -> StopEvent | None:
            ran.append("work")
            return StopEvent(result=ev.part.name)

    workflow = Steps()
    checkpointer = WorkflowCheckpointer(workflow)
    handler = checkpointer.run()
    assert await handler == "x"
    first, last = checkpointer.checkpoints[handler.run_id]
    assert (first.last_completed_step, last.last_completed_step) == ("begin", "work")
    assert await checkpointer.run_from(first) == "x"
    assert ran == ["begin", "work", "work"]
    assert await checkpointer.run_from(last) == "x"
    assert ran == ["begin", "work", "work"]


class Finish(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Item:
        return Item(part=Part(name="x"))

    @step
    async def work(self, ev: Item) -> StopEvent:
        return StopEvent()


async def test_s22_what_the_store_keeps_is_compact() -> None:
    run = DurableRun(Finish()).start()
    await run.ended()
    assert set(run.parts) == {"h"}


# -- S23 ------------------------------------------------------------------------------------------------------------


class Other(Sum):
    pass


async def test_s23_a_snapshot_of_another_workflow_is_refused() -> None:
    with pytest.raises(SnapshotWorkflowError, match="'Sum', not 'Other'"):
        Context.from_dict(Other(), Context(Sum()).to_dict())


async def test_s23_an_unknown_format_version_is_refused() -> None:
    data = Context(Sum()).to_dict()
    data["stepwire"]["format"] = 99
    with pytest.raises(SnapshotVersionError, match="format"):
        Context.from_dict(Sum(), data)
    run = DurableRun(Finish()).start()
    await run.ended()
    run.parts["h"] = json.dumps({**run.head, "v": 99}).encode()
    run.crash()
    with pytest.raises(SnapshotVersionError, match="format version 99"):
        run.recover()


@pytest.mark.parametrize("damage", [5, {"format": 1, "workflow": "Sum"}, {"format": 1, "workflow": "Sum", "parts": []}])
async def test_s23_a_damaged_snapshot_is_a_clear_error(damage: Any) -> None:
    data = Context(Sum()).to_dict()
    data["stepwire"] = damage
    with pytest.raises(SnapshotError):
        Context.from_dict(Sum(), data)


async def test_s23_a_snapshot_that_names_an_unknown_step_is_refused() -> None:
    run = DurableRun(Store(disable_validation=True)).start()
    await run.until(lambda run: run.kept("w"))
    (key,) = [key for key in run.parts if key.startswith("d/")]
    part = json.loads(run.parts[key])
    run.parts[key] = json.dumps({**part, "s": "gone"}).encode()
    run.crash()
    with pytest.raises(SnapshotError, match="step that does not exist: gone"):
        run.recover()
