"""S4-S7: order, routing, what steps return, the stream's input events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.deliveries import Done, Exact, Question, SubWork, Twins, Work
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Workflow,
    WorkflowRuntimeError,
    catch_error,
    step,
)
from stepwire.workflow.broker.deliveries.delivery import QUEUED, RUNNING
from stepwire.workflow.errors import StepDoesNotAcceptError, StepReturnError, UnknownStepError


@pytest.mark.parametrize("workers", [1, 3])
async def test_s04_deliveries_start_in_order_and_no_more_than_num_workers_run(workers: int) -> None:
    order: list[int] = []
    running: list[int] = []
    most = 0

    class Order(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
            for n in range(20):
                ctx.send_event(Work(n=n))
            return None

        @step(num_workers=workers)
        async def work(self, ev: Work) -> Done:
            nonlocal most
            order.append(ev.n)
            running.append(ev.n)
            most = max(most, len(running))
            for _ in range(ev.n % 3):
                await asyncio.sleep(0)
            running.remove(ev.n)
            return Done(n=ev.n)

        @step
        async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
            return StopEvent() if ctx.collect_events(ev, [Done] * 20) else None

    await Order().run()
    assert order == list(range(20))
    assert most == workers


async def test_s04_a_retry_goes_before_younger_events() -> None:
    order: list[tuple[int, int]] = []

    class Order(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
            for n in range(3):
                ctx.send_event(Work(n=n))
            return None

        @step(num_workers=1, retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
        async def work(self, ctx: Context, ev: Work) -> StopEvent | None:
            attempt = ctx.step_info().attempt
            order.append((ev.n, attempt))
            if ev.n == 0 and attempt == 1:
                raise ValueError("again")
            return StopEvent() if ev.n == 2 else None

    await Order().run()
    assert order == [(0, 1), (0, 2), (1, 1), (2, 1)]


async def test_s05_routing_is_by_exact_type() -> None:
    assert await Exact().run() == "exact"
    assert await Exact().run(sub=True) == "sub"


async def test_s05_a_step_may_opt_in_to_subclasses() -> None:
    class Wide(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> SubWork:
            return SubWork(n=2)

        @step(accept_subclasses=True)
        async def wide(self, ev: Work) -> StopEvent:
            return StopEvent(result=type(ev).__name__)

    assert await Wide().run() == "SubWork"


async def test_s05_an_event_no_one_takes_is_recorded_and_reported() -> None:
    class Unheard(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ctx.send_event(Done(n=1)).delivered)

    run = DurableRun(Unheard()).start()
    assert (await run.ended()).event.result == 0
    assert [(entry.type, entry.delivered) for entry in run.log] == [
        ("StartEvent", 1),
        ("Done", 0),
        ("StopEvent", 0),
    ]
    assert [entry.sequence for entry in run.log] == [1, 2, 3]


async def test_s05_an_event_for_one_step_goes_to_that_step_only() -> None:
    class Two(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
            assert ctx.send_event(Work(n=1), step="second").delivered == 1
            with pytest.raises(UnknownStepError, match="third does not exist"):
                ctx.send_event(Work(n=1), step="third")
            with pytest.raises(StepDoesNotAcceptError, match="second does not accept event of type Done"):
                ctx.send_event(Done(), step="second")
            with pytest.raises(WorkflowRuntimeError, match="takes an Event, not int"):
                ctx.send_event(1)  # type: ignore[arg-type]
            return None

        @step
        async def first(self, ev: Work) -> StopEvent:
            return StopEvent(result="first")

        @step
        async def second(self, ev: Work) -> StopEvent:
            return StopEvent(result="second")

    assert await Two().run() == "second"


@pytest.mark.parametrize("returned", ["text", 5, StopEvent, [Work()], (Work(),)])
async def test_s06_anything_but_an_event_fails_the_run_naming_step_and_type(returned: Any) -> None:
    class Wrong(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=4, delay=60))
        async def work(self, ev: StartEvent) -> StopEvent:
            return returned  # type: ignore[no-any-return]

        @catch_error
        async def rescue(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="rescued")

    told = f"the class {returned.__name__}" if isinstance(returned, type) else type(returned).__name__
    with pytest.raises(StepReturnError, match=f"'work' returned {told} ") as caught:
        await Wrong().run()
    assert (caught.value.step, caught.value.type_name) == ("work", type(returned).__name__)


async def test_s06_none_is_no_event_and_a_declared_list_fans_out() -> None:
    class Fan(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Work | Done]:
            return [Work(n=1), Done(n=2), Work(n=3)]

        @step
        async def work(self, ev: Work) -> Done:
            return Done(n=ev.n)

        @step
        async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
            found = ctx.collect_events(ev, [Done] * 3)
            return None if found is None else StopEvent(result=sorted(each.n for each in found))

    run = DurableRun(Fan()).start()
    assert (await run.ended()).event.result == [1, 2, 3]
    assert await Fan().run() == [1, 2, 3]


async def test_s06_a_declared_list_with_something_else_fails_the_run() -> None:
    class Fan(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Work] | StopEvent:
            return [Work(n=1), 2]  # type: ignore[list-item]

        @step
        async def work(self, ev: Work) -> None:
            return None

    with pytest.raises(StepReturnError, match="'begin' returned a list with a int"):
        await Fan().run()


@pytest.mark.parametrize("how", ["return", "send"])
async def test_s07_an_input_required_event_goes_to_the_stream(how: str) -> None:
    class Ask(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Question | None:
            if how == "return":
                return Question(text="who?")
            ctx.send_event(Question(text="who?"))
            return None

        @step
        async def end(self, ev: Work) -> StopEvent:
            return StopEvent(result=ev.n)

    handler = Ask(disable_validation=True).run()
    seen: list[Event] = []
    async for event in handler.stream_events():
        seen.append(event)
        if isinstance(event, Question):
            handler.ctx.send_event(Work(n=1))
    assert seen == [Question(text="who?"), StopEvent(result=1)]
    assert await handler == 1


async def test_s07_the_stream_takes_events_only() -> None:
    class Write(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(WorkflowRuntimeError, match="takes an Event, not dict"):
                ctx.write_event_to_stream({"n": 1})  # type: ignore[arg-type]
            ctx.write_event_to_stream(Work(n=1))
            return StopEvent()

    handler = Write().run()
    await handler
    assert [type(ev).__name__ async for ev in handler.stream_events()] == ["Work", "StopEvent"]


async def test_s07_a_queued_delivery_is_saved_as_queued() -> None:
    workflow = Twins()
    run = DurableRun(workflow).start()
    await workflow.both.wait()
    assert {part["st"] for part in run.kept("d")} == {RUNNING}
    run.release()
    assert {part["st"] for part in run.kept("d")} == {QUEUED}
