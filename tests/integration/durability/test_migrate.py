"""`migrate(snapshot)`: what other code saved is changed until this code reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.integration.durability.support import life, parked, result, state_of, status
from tests.integration.rpc_serving import Rpc, event, refused, registry_of
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.server.registry import Registry
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    Snapshot,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Order(Event):
    cost: int


class Said(HumanResponseEvent):
    yes: bool = True
    who: str = ""


class Line(BaseModel):
    cost: int = 1


def before() -> Registry:
    class Flow(Workflow):
        version = "1"
        types = (Line, Said)

        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Order | StopEvent:
            await ctx.store.set("money", "USD")
            await ctx.store.set("lines", [Line(cost=2), Line(cost=3)])
            ctx.send_event(Order(cost=1), step="noise")
            return Order(cost=7)

        @step
        async def charge(self, ctx: Context, ev: Order) -> StopEvent | None:
            if ev.cost == 1:
                return None
            await ctx.wait_for_event(Said, InputRequiredEvent(), "ok", {"who": "ann"}, timeout=None)
            return StopEvent()

        @step
        async def noise(self, ctx: Context, ev: Order) -> None:
            if ev.cost == 1:
                await ctx.wait_for_event(Said, InputRequiredEvent(), "noise", {"who": "bob"}, timeout=None)

    Flow.__module__ = __name__ + "_1"
    return registry_of(flow=Flow)


class Bill(Event):
    price: int


class Item(BaseModel):
    price: int = 1


class Answer(HumanResponseEvent):
    yes: bool = True
    by: str = ""


def after(migrate: Any) -> Registry:
    class Flow(Workflow):
        version = "2"

        @step
        async def start(self, ev: StartEvent) -> Bill:
            return Bill(price=0)

        @step
        async def collect(self, ctx: Context, ev: Bill) -> StopEvent:
            answer = await ctx.wait_for_event(Answer, InputRequiredEvent(), "ok", {"by": "ann"}, timeout=None)
            lines = await ctx.store.get("lines")
            return StopEvent(result=[ev.price, [line.price for line in lines], answer.by])

    Flow.migrate = migrate  # type: ignore[attr-defined]
    Flow.types = (Item, Answer)
    Flow.__module__ = __name__ + "_2"
    return registry_of(flow=Flow)


def fit(self: Workflow, snapshot: Snapshot) -> Snapshot:
    assert snapshot.version == "1"
    assert snapshot.steps == {"charge", "noise"}
    snapshot.drop_step("noise")
    snapshot.rename_step("charge", "collect")
    for old, new in (("Order", "Bill"), ("Line", "Item"), ("Said", "Answer")):
        snapshot.rename_type(old, new)
    for type_name in ("Bill", "Item"):
        snapshot.rename_field(type_name, "cost", "price")
    snapshot.rename_field("Answer", "who", "by")
    for fields in snapshot.models("Item"):
        fields["price"] *= 100
    snapshot.state["currency"] = snapshot.state.pop("money")
    assert sorted(snapshot.state) == ["currency", "lines"]
    return snapshot


def in_place(self: Workflow, snapshot: Snapshot) -> None:
    fit(self, snapshot)


@pytest.mark.parametrize("migrate", [fit, in_place])
async def test_steps_types_fields_and_state_are_changed(tmp_path: Path, migrate: Any) -> None:
    async with life(tmp_path, before()) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
    async with life(tmp_path, after(migrate)) as rpc:
        # Looking migrates each time, and changes nothing that is kept.
        for _ in range(2):
            found = await state_of(rpc, run_id)
            assert found == {"currency": "USD", "lines": [{"price": 200}, {"price": 300}]}
        await rpc.send(run_id, event("Answer", by="bob"))
        await rpc.send(run_id, event("Answer", by="ann"))
        assert result(await rpc.ended(run_id)) == [7, [200, 300], "ann"]


async def test_a_snapshot_that_is_migrated_to_nonsense_blocks_the_run(tmp_path: Path) -> None:
    async with life(tmp_path, before()) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
    async with life(tmp_path, after(lambda self, snapshot: 7)) as rpc:
        assert (await refused(rpc.send(run_id, event("Answer")))).reason == "RUN_BLOCKED"
    async with life(tmp_path, before()) as rpc:
        await rpc.send(run_id, event("Said", who="ann"))
        await rpc.ended(run_id)


async def reload(rpc: Rpc, *arguments: str) -> tuple[int, str]:
    command = ["reload", *arguments, "--server", rpc.server.address]
    answer = await asyncio.to_thread(CliRunner().invoke, app, command, env={"STEPWIRE_TOKEN": ""})
    return answer.exit_code, answer.output


def never(self: Workflow, snapshot: Snapshot) -> Snapshot:
    raise AssertionError("it was migrated before")


@pytest.mark.parametrize("by_hand", [False, True], ids=["by an event", "by hand"])
async def test_what_was_migrated_and_written_once_needs_no_migration_any_more(tmp_path: Path, by_hand: bool) -> None:
    async with life(tmp_path, before()) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
    async with life(tmp_path, after(fit)) as rpc:
        if by_hand:
            code, told = await reload(rpc, run_id)
            assert (code, told.split()[:2]) == (0, [run_id, "waiting"])
        else:
            await rpc.send(run_id, event("Answer", by="bob"))
        assert (await rpc.get(run_id)).workflow_version == "2"
    async with life(tmp_path, after(never)) as rpc:
        assert await state_of(rpc, run_id) == {"currency": "USD", "lines": [{"price": 200}, {"price": 300}]}
        await rpc.send(run_id, event("Answer", by="ann"))
        assert result(await rpc.ended(run_id)) == [7, [200, 300], "ann"]


async def test_all_runs_of_a_workflow_are_taken_to_new_code_and_those_that_do_not_fit_are_named(tmp_path: Path) -> None:
    async with life(tmp_path, before()) as rpc:
        ids = [(await rpc.start("flow", {})).run_id for _ in range(3)]
        for run_id in ids:
            await parked(rpc, run_id)

    def all_but_one(self: Workflow, snapshot: Snapshot) -> Snapshot:
        if refuses and snapshot.state["money"] == "CHF":
            raise ValueError("not this one")
        return fit(self, snapshot)

    async with life(tmp_path, before()) as rpc:
        request = states.SetStateRequest(run_id=ids[0])
        request.values.add(path="money", value=types.Payload(json=b'"CHF"'))
        await rpc.states.SetState(request)
    refuses = True
    async with life(tmp_path, after(all_but_one)) as rpc:
        code, told = await reload(rpc, "--workflow", "flow")
        assert code == 1
        assert f"{ids[0]}: The run cannot go on: migrate() raised ValueError" in told
        assert {status(await rpc.get(run_id)) for run_id in ids[1:]} == {"WAITING"}
        assert {(await rpc.get(run_id)).workflow_version for run_id in ids[1:]} == {"2"}
        assert status(await rpc.get(ids[0])) == "BLOCKED"
        # It is tried again as soon as someone asks, without a restart.
        refuses = False
        assert (await reload(rpc, ids[0]))[0] == 0
        assert status(await rpc.get(ids[0])) == "WAITING"
        assert (await reload(rpc, "nothing"))[0] == 1
        assert (await reload(rpc))[0] == 2
        await rpc.send(ids[0], event("Answer", by="ann"))
        await rpc.ended(ids[0])
        refusal = await refused(rpc.runs.ReloadRun(runs.ReloadRunRequest(run_id=ids[0])))
        assert refusal.reason == "RUN_ENDED"
