"""S22 and S23: serializers, payloads of 1.x, versions of snapshots."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from typing import Any

import pytest
from pydantic import BaseModel
from tests.unit.semantics.harness import DurableRun
from tests.unit.semantics.kept import EVERYTHING, Item, Part, Prompt, Store

from stepwire.workflow import (
    Context,
    ContextSerdeError,
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
