"""S21: what is saved comes back equal, or is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator
from tests.unit.semantics.harness import DurableRun
from tests.unit.semantics.kept import EVERYTHING, Key, Mood, Part, Prompt, Store

from stepwire.workflow import (
    Context,
    Event,
    JsonSerializer,
    PickleSerializer,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from stepwire.workflow.errors import (
    SerializationError,
    SnapshotError,
)


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
