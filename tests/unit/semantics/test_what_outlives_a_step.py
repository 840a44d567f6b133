"""A timer, task or thread that outlives its step holds no run by a context variable."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import Context, Event, HumanResponseEvent, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.errors import DeadAttemptError


class Big(Event):
    data: bytes


class Answer(HumanResponseEvent):
    pass


def collected(*refs: weakref.ref[Any]) -> bool:
    gc.collect()
    return all(ref() is None for ref in refs)


async def at_work(run: DurableRun) -> None:
    """Wait until the first body runs."""
    await run.until(lambda run: run.broker.executions)
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["timer", "task", "context"])
async def test_of_a_step_that_is_through_nothing_is_held(how: str) -> None:
    never = asyncio.Event()
    left: list[Any] = []

    class Leaves(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Big:
            return Big(data=bytes(1000))

        @step
        async def work(self, ev: Big) -> StopEvent:
            loop = asyncio.get_running_loop()
            if how == "timer":
                left.append(loop.call_later(1000, never.clear))
            elif how == "task":
                left.append(asyncio.create_task(never.wait()))
            else:
                left.append(contextvars.copy_context())
            events.append(weakref.ref(ev))
            return StopEvent()

    events: list[weakref.ref[Any]] = []
    run = DurableRun(Leaves()).start()
    await run.ended()
    held: list[weakref.ref[Any]] = [weakref.ref(run.broker), weakref.ref(run.context), *events]
    run.hosted.leave()
    del run
    await asyncio.sleep(0)
    assert collected(*held)
    for each in left:
        if how != "context":
            each.cancel()


async def test_of_an_attempt_that_was_abandoned_nothing_is_held() -> None:
    left: list[asyncio.TimerHandle] = []

    class Leaves(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            left.append(asyncio.get_running_loop().call_later(1000, print))
            await asyncio.Event().wait()
            return StopEvent()

    run = DurableRun(Leaves()).start()
    await at_work(run)
    assert left
    held: list[weakref.ref[Any]] = [weakref.ref(run.broker), weakref.ref(run.context)]
    run.release()
    for _ in range(3):
        await asyncio.sleep(0)
    run.hosted.leave()
    del run
    assert collected(*held)
    left[0].cancel()


async def test_its_calls_are_refused_as_long_as_the_run_is_there() -> None:
    refused: list[type[BaseException]] = []

    class Stubborn(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                for call in (lambda: ctx.send_event(Answer()), lambda: ctx.write_event_to_stream(Answer())):
                    try:
                        call()
                    except DeadAttemptError as error:
                        refused.append(type(error))
                try:
                    await ctx.store.set("a", 1)
                except DeadAttemptError as error:
                    refused.append(type(error))
            return StopEvent()

        @step
        async def never(self, ev: Answer) -> StopEvent:
            return StopEvent()

    run = DurableRun(Stubborn(disable_validation=True)).start()
    await at_work(run)
    run.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert refused == [DeadAttemptError] * 3
