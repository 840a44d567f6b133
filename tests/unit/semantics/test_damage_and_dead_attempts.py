"""State damaged in place, events that cannot be saved, and attempts that were abandoned."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.durable_flow import Answer, Flow, Note, Work, settle
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    StartEvent,
    StopEvent,
    step,
)
from stepwire.workflow.broker.outcome import FAILED
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import DeadAttemptError, SerializationError


async def test_damage_found_at_commit_fails_the_run_naming_the_keys() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        await ctx.store.set("good", [1])
        await ctx.store.set("bad", [1])
        await ctx.store.set("worse", {"a": 1})
        await flow.pause()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: "s/bad" in run.parts)
    run.context.store.peek("good").append(2)
    run.context.store.peek("bad").append(object())
    run.context.store.peek("worse")["b"] = {1: float("nan")}
    run.broker.touch_head()
    outcome = await run.ended()
    assert outcome.status == FAILED
    assert isinstance(outcome.error, SerializationError)
    assert sorted(outcome.error.keys) == ["bad", "worse"]
    assert "bad, worse" in outcome.event.message
    assert {key: part for key, part in run.parts.items() if key[0] == "s"} == {
        "s/good": b"[1,2]",
        "s/bad": b"[1]",
        "s/worse": b'{"a":1}',
    }


async def test_damage_done_by_the_last_step_fails_the_run_that_would_have_completed() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        await ctx.store.set("bad", [1])
        (await ctx.store.get("bad")).append(object())

    run = DurableRun(Flow(body)).start()
    outcome = await run.ended()
    assert outcome.status == FAILED
    assert isinstance(outcome.error, SerializationError)
    assert outcome.error.keys == ("bad",)
    assert run.stream == ["WorkflowFailedEvent"]


async def test_damage_an_event_that_cannot_be_saved_is_refused_at_the_call_and_nothing_changes() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> int:
        before = run_of(ctx).broker.sequence
        for event in (Work(bad=object()), Note(bad=float("nan"))):
            with pytest.raises(SerializationError, match="bad"):
                ctx.send_event(event)
            with pytest.raises(SerializationError, match="bad"):
                ctx.write_event_to_stream(event)
        with pytest.raises(SerializationError, match="bad"):
            ctx.collect_events(Work(bad=object()), [Work, Work])
        return run_of(ctx).broker.sequence - before

    run = DurableRun(Flow(body)).start()
    assert (await run.ended()).event.result == 0


async def test_damage_a_result_that_cannot_be_saved_fails_the_step() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        return object()

    run = DurableRun(Flow(body)).start()
    outcome = await run.ended()
    assert (outcome.status, outcome.event.error_type) == (FAILED, "SerializationError")


@pytest.mark.parametrize("how", ["timeout", "cancel", "release", "crash"])
async def test_dead_attempts_raise_and_change_nothing(how: str) -> None:
    told: list[str] = []
    may_act = asyncio.Event()
    acted = asyncio.Event()

    class Zombie(Flow):
        @step(timeout=10, retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=1000))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            self.at_work.set()
            while not may_act.is_set():
                try:
                    await may_act.wait()
                except asyncio.CancelledError:
                    told.append("cancelled")
            for call in (
                lambda: ctx.send_event(Work()),
                lambda: ctx.write_event_to_stream(Note()),
                lambda: ctx.collect_events(Work(), [Work, Work]),
            ):
                try:
                    call()
                except DeadAttemptError:
                    told.append("dead")
            store = ctx.store
            reads = (store.get("a", default=1), store.get_state(), store.edit_state().__aenter__())
            for awaitable in (store.set("a", 1), ctx.wait_for_event(Answer), ctx.sleep(1), *reads):
                try:
                    await awaitable
                except DeadAttemptError:
                    told.append("dead")
            acted.set()
            return StopEvent(result="too late")

    flow = Zombie(None)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    if how == "timeout":
        run.advance(10)
    elif how == "cancel":
        run.cancel()
    elif how == "release":
        run.release()
    else:
        run.crash()
    await settle()
    before = (dict(run.parts), len(run.log), run.broker.sequence)
    may_act.set()
    await acted.wait()
    await settle()
    assert told == ["cancelled"] + ["dead"] * 9
    assert (run.parts, len(run.log), run.broker.sequence) == before


async def test_dead_attempts_whose_waits_are_open_are_told() -> None:
    told: list[str] = []

    async def body(flow: Flow, ctx: Context[Any]) -> None:
        async def aside() -> None:
            try:
                await ctx.wait_for_event(Answer, timeout=None)
            except DeadAttemptError:
                told.append("dead")

        flow.aside = asyncio.create_task(aside())  # type: ignore[attr-defined]
        await flow.go_on.wait()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await run.until(lambda run: run.kept("w"))
    run.release()
    await flow.aside  # type: ignore[attr-defined]
    assert told == ["dead"]
    assert len(run.kept("w")) == 1
