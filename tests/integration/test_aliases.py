"""Fields with an alias: schema, stream, requirements, answers and state paths speak of the same names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel, ConfigDict, Field
from tests.integration.rpc_serving import Rpc, event, refused, registry_of, serving
from tests.integration.test_state_rpc import get, put, replace, unset

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows
from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step


class Parcel(StartEvent):
    parcel_id: int = Field(alias="parcelId")


class Weigh(InputRequiredEvent):
    parcel_id: int = Field(alias="parcelId")


class Weight(HumanResponseEvent):
    parcel_id: int = Field(alias="parcelId")
    in_grams: int = Field(default=0, alias="inGrams")


class Scale(BaseModel):
    model_config = ConfigDict(extra="allow")
    last_weight: int = Field(default=0, alias="lastWeight")


class Weighing(Workflow):
    @step
    async def weigh(self, ctx: Context[Scale], ev: Parcel) -> StopEvent:
        answer = await ctx.wait_for_event(
            Weight, waiter_event=Weigh(parcelId=ev.parcel_id), requirements={"parcel_id": ev.parcel_id}
        )
        await ctx.store.set("last_weight", answer.in_grams)
        return StopEvent(result=(await ctx.store.get("lastWeight"), answer.to_dict()))


@pytest.fixture
async def rpc() -> AsyncIterator[Rpc]:
    async with serving(registry_of(flow=Weighing)) as rpc:
        yield rpc


async def question(rpc: Rpc) -> tuple[types.Run, dict[str, object]]:
    """Start a run and return it with its question."""
    run = await rpc.start("flow", {"parcelId": 7})
    run = await rpc.status(run.run_id, "WAITING")
    entries = await rpc.log(run.run_id)
    return run, next(json.loads(entry.payload.json) for entry in entries if entry.type == "Weigh")


async def test_the_stream_and_the_requirements_are_as_the_schema_says(rpc: Rpc) -> None:
    run, asked = await question(rpc)
    flow = (await rpc.workflows.GetWorkflow(workflows.GetWorkflowRequest(name="flow"))).workflow
    schema = next(json.loads(each.json_schema) for each in flow.types if each.name == "Weigh")
    (waiter,) = run.pending_waiters
    assert asked.keys() == schema["properties"].keys()
    assert json.loads(waiter.requirements.json) == asked == {"parcelId": 7}


@pytest.mark.parametrize("names", [("parcelId", "inGrams"), ("parcel_id", "in_grams"), ("parcelId", "in_grams")])
async def test_an_answer_goes_by_alias_and_by_name(rpc: Rpc, names: tuple[str, str]) -> None:
    run, _ = await question(rpc)
    await rpc.send(run.run_id, event("Weight", **dict(zip(names, (7, 250), strict=True))))
    outcome = (await rpc.ended(run.run_id)).outcome
    assert json.loads(outcome.result.json) == [250, {}]


async def test_another_spelling_is_refused_naming_it(rpc: Rpc) -> None:
    run, _ = await question(rpc)
    refusal = await refused(rpc.send(run.run_id, event("Weight", parcelId=7, InGrams=250)))
    assert (refusal.reason, list(refusal.fields)) == ("INVALID_EVENT", ["InGrams"])


async def test_the_state_goes_by_alias(rpc: Rpc) -> None:
    run, _ = await question(rpc)
    assert await get(rpc, run.run_id) == {"lastWeight": 0}
    for path, value in ("lastWeight", 1), ("last_weight", 2):
        await put(rpc, run.run_id, {path: value})
        assert await get(rpc, run.run_id) == {"lastWeight": value}
        assert await get(rpc, run.run_id, "last_weight") == await get(rpc, run.run_id, "lastWeight") == value
    assert (await refused(put(rpc, run.run_id, {"lastweight": 3}))).reason == "INVALID_PATH"
    for name in "lastWeight", "last_weight":
        await replace(rpc, run.run_id, {name: 4})
        assert await get(rpc, run.run_id) == {"lastWeight": 4}
    assert (await refused(replace(rpc, run.run_id, {"LastWeight": 5}))).reason == "INVALID_STATE"
    await unset(rpc, run.run_id, "lastWeight")
    assert await get(rpc, run.run_id) == {"lastWeight": 0}


@pytest.mark.parametrize("name", ["parcelId", "parcel_id"])
async def test_wait_for_event_requires_by_either_name(rpc: Rpc, name: str) -> None:
    run, _ = await question(rpc)
    for number, found in (7, True), (8, False):
        request = runs.WaitForEventRequest(
            run_id=run.run_id,
            event_type="Weigh",
            requirements=types.Payload(json=json.dumps({name: number}).encode()),
            after_sequence=0,
        )
        request.timeout.FromMilliseconds(1)
        answer = await rpc.runs.WaitForEvent(request)
        assert answer.timed_out is not found
