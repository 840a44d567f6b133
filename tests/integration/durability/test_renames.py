"""Steps and types that got another name: saved runs, and callers, that use the earlier names go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel
from tests.integration.durability.support import life, parked, result
from tests.integration.rpc_serving import Rpc, event, refused, registry_of

from stepwire.server.registry import Registry
from stepwire.v1 import run_service_pb2 as runs
from stepwire.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowConfigurationError,
    WorkflowValidationError,
    step,
)
from stepwire.workflow.hosting import default_waiter_id


class Line(BaseModel):
    price: int = 1


class Payment(Event):
    amount: int
    line: Line = Line()


class Approve(HumanResponseEvent):
    yes: bool = True


class Item(BaseModel):
    price: int = 1
    currency: str = "EUR"


class Paid(Event, aliases=["Payment"]):
    amount: int
    line: Item = Item()
    by: str = "unknown"


class Approval(HumanResponseEvent, aliases=["Approve"]):
    yes: bool = True
    comment: str = "none"


KEYS: list[Any] = []


def before() -> Registry:
    class Flow(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Payment:
            await ctx.store.set("line", Line(price=7))
            return Payment(amount=3, line=Line(price=5))

        @step
        async def charge(self, ctx: Context, ev: Payment) -> StopEvent:
            KEYS.append(ctx.step_info().key)
            await ctx.wait_for_event(Approve, waiter_event=InputRequiredEvent(), waiter_id="ok", timeout=None)
            return StopEvent()

        @step
        async def note(self, ev: Approve) -> None: ...

    Flow.__module__ = __name__ + "_1"  # so that the types of this module are not its own
    return registry_of(flow=Flow)


def after() -> Registry:
    class Flow(Workflow):
        type_aliases: ClassVar[dict[str, type]] = {"Line": Item}

        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Paid:
            return Paid(amount=0)

        @step(aliases=["charge", "bill"])
        async def collect(self, ctx: Context, ev: Paid) -> StopEvent:
            KEYS.append(ctx.step_info().key)
            answer = await ctx.wait_for_event(Approval, waiter_event=InputRequiredEvent(), waiter_id="ok", timeout=None)
            line = await ctx.store.get("line")
            return StopEvent(result=[ev.amount, ev.by, ev.line.price, ev.line.currency, line.price, answer.comment])

        @step(aliases=["note"])
        async def noted(self, ev: Approval) -> None: ...

    Flow.__module__ = __name__ + "_2"
    return registry_of(flow=Flow)


async def test_a_waiting_run_goes_on_after_steps_events_and_models_were_renamed(tmp_path: Path) -> None:
    KEYS.clear()
    async with life(tmp_path, before()) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
    async with life(tmp_path, after()) as rpc:
        run = (await rpc.runs.GetRun(runs.GetRunRequest(run_id=run_id))).run
        assert [(each.step, each.event_type) for each in run.pending_waiters] == [("collect", "Approval")]
        assert [(each.step, each.event_type) for each in run.active_deliveries] == [("collect", "Paid")]
        # A caller of before still names the event as it was.
        found = await rpc.send(run_id, event("Approve"))
        assert found.delivered == 2
        assert result(await rpc.ended(run_id)) == [3, "unknown", 5, "EUR", 7, "none"]
    assert KEYS[0] == KEYS[-1]


async def test_lists_find_runs_by_each_name_of_a_step_and_an_event(tmp_path: Path) -> None:
    async def found(**filters: Any) -> list[str]:
        ids: list[str] = []
        token = ""
        while True:
            answer = await rpc.runs.ListRuns(runs.ListRunsRequest(page_size=2, page_token=token, **filters))
            ids += [run.run_id for run in answer.runs]
            token = answer.next_page_token
            if not token:
                return ids

    async with life(tmp_path, before()) as rpc:
        old = [(await rpc.start("flow", {})).run_id for _ in range(3)]
        for run_id in old:
            await parked(rpc, run_id)
    async with life(tmp_path, after()) as rpc:
        new = [(await rpc.start("flow", {})).run_id for _ in range(3)]
        for run_id in new:
            await parked(rpc, run_id)
        newest_first = [*reversed(new), *reversed(old)]
        for name in ("collect", "charge", "bill"):
            assert await found(step=name) == newest_first
            assert await found(step=name, workflow="flow") == newest_first
            assert await found(step=name, waiting_for="Approve") == newest_first
            assert await found(step=name, workflow="other") == []
        for name in ("Approval", "Approve"):
            assert await found(waiting_for=name) == newest_first
        assert await found(step="start") == []
        assert await found(step="collect", waiting_for="Paid") == []


async def test_an_earlier_name_of_a_step_may_be_sent_to(tmp_path: Path) -> None:
    async with life(tmp_path, after()) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        assert (await rpc.send(run_id, event("Approval"), step="note")).delivered == 1
        assert (await refused(rpc.send(run_id, event("Approval"), step="nothing"))).reason == "STEP_NOT_FOUND"
        waited = await rpc.runs.WaitForEvent(
            runs.WaitForEventRequest(run_id=run_id, event_type="Approve", after_sequence=0)
        )
        assert waited.entry.type == "Approval"


async def test_an_observer_that_asked_under_an_earlier_name_asks_no_second_time(tmp_path: Path) -> None:
    async def ask(rpc: Rpc, run_id: str, event_type: str, waiter_id: str = "") -> int:
        """Wait with a prompt; return how often the prompt is in the log."""
        question = event("InputRequiredEvent", text="approved?")
        request = runs.WaitForEventRequest(
            run_id=run_id, event_type=event_type, waiter_event=question, waiter_id=waiter_id
        )
        request.timeout.FromSeconds(0)
        assert (await rpc.runs.WaitForEvent(request, timeout=60)).timed_out
        return sum(b"approved?" in entry.payload.json for entry in await rpc.log(run_id))

    async with life(tmp_path, before()) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
        assert await ask(rpc, run_id, "Approve") == 1
    async with life(tmp_path, after()) as rpc:
        assert await ask(rpc, run_id, "Approval") == 1
        assert await ask(rpc, run_id, "Approve") == 1
        other = (await rpc.start("flow", {})).run_id
        assert await ask(rpc, other, "Approval", default_waiter_id(Approval, {})) == 1, "as earlier versions called it"
        assert await ask(rpc, other, "Approval") == 1


async def test_a_run_is_blocked_without_the_aliases(tmp_path: Path) -> None:
    class Flow(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    Flow.__module__ = __name__ + "_2"
    async with life(tmp_path, before()) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await parked(rpc, run_id)
    async with life(tmp_path, registry_of(flow=Flow)) as rpc:
        assert (await refused(rpc.send(run_id, event("HumanResponseEvent")))).reason == "RUN_BLOCKED"


def test_an_earlier_name_that_is_taken_is_refused() -> None:
    class Other(Event):
        pass

    class Taken(Event, aliases=["Other"]):
        pass

    class Types(Workflow):
        @step
        async def one(self, ev: StartEvent) -> Other | Taken:
            return Other()

        @step
        async def two(self, ev: Other | Taken) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowConfigurationError, match="cannot have the alias 'Other'"):
        registry_of(flow=Types)

    class Steps(Workflow):
        @step
        async def one(self, ev: StartEvent) -> Other:
            return Other()

        @step(aliases=["one"])
        async def two(self, ev: Other) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowConfigurationError, match="it is a name of step 'one'"):
        registry_of(flow=Steps)
    with pytest.raises(WorkflowValidationError, match="aliases"):
        step(aliases="one")(Types.two)
    with pytest.raises(TypeError, match="aliases"):
        type("Wrong", (Event,), {}, aliases="one")
