"""Each taker of an event gets its own object, so that a run in process, in a service and over a restart agree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    Event,
    HumanResponseEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from stepwire.workflow.state import own


class Bag(Event):
    xs: list[int] = Field(default_factory=list)
    n: int = 0


class Full(Event):
    by: str
    xs: list[int]
    n: int


class Answer(HumanResponseEvent):
    xs: list[int] = Field(default_factory=list)


class FanOut(Workflow):
    """Two steps get one event, and change it; the sender changes it after it was sent."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> None:
        bag = Bag(xs=[0])
        ctx.send_event(bag)
        bag.xs.append(100)
        bag.n = 100

    @step
    async def left(self, ev: Bag) -> Full:
        ev.xs.append(1)
        ev.n += 1
        await asyncio.sleep(0)
        return Full(by="left", xs=ev.xs, n=ev.n)

    @step
    async def right(self, ev: Bag) -> Full:
        ev.xs.append(2)
        ev.n += 2
        await asyncio.sleep(0)
        return Full(by="right", xs=ev.xs, n=ev.n)

    @step
    async def end(self, ctx: Context, ev: Full) -> StopEvent | None:
        found = ctx.collect_events(ev, [Full, Full])
        ev.xs.append(1000)
        if found is None:
            return None
        return StopEvent(result=sorted((each.by, each.xs, each.n) for each in found))


class KeptAfterReturn(Workflow):
    """A step keeps in the state what it returns; the next one changes what it gets."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Bag:
        bag = Bag(xs=[0])
        await ctx.store.set("bag", bag)
        return bag

    @step
    async def next(self, ctx: Context, ev: Bag) -> StopEvent:
        ev.xs.append(1)
        ev.n = 1
        kept = await ctx.store.get("bag")
        return StopEvent(result=[kept.xs, kept.n])


class LentByTheState(Workflow):
    """A value of the state that goes into an event is not the state's any more."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Bag:
        await ctx.store.set("items", [0])
        bag = Bag(n=1)
        bag.xs = await ctx.store.get("items")
        return bag

    @step
    async def next(self, ctx: Context, ev: Bag) -> StopEvent:
        ev.xs.append(1)
        return StopEvent(result=await ctx.store.get("items"))


class Retried(Workflow):
    """Each attempt gets the event and the collected ones as they came."""

    @step
    async def begin(self, ev: StartEvent) -> Bag:
        return Bag(xs=[0])

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=3, delay=0))
    async def work(self, ctx: Context, ev: Bag) -> StopEvent:
        collected = ctx.collect_events(ev, [Bag], "b")
        assert collected is not None
        ev.xs.append(1)
        collected[0].xs.append(2)
        if ctx.step_info().attempt == 1:
            raise ValueError
        return StopEvent(result=[ev.xs, collected[0].xs])


async def in_process(kind: type[Workflow]) -> Any:
    return await kind(disable_validation=True).run()


async def durable(kind: type[Workflow]) -> Any:
    return (await DurableRun(kind(disable_validation=True)).start().ended()).event.result


async def restarted(kind: type[Workflow]) -> Any:
    """Crash after each commit that leaves something to do."""
    run = DurableRun(kind(disable_validation=True)).start()
    for _ in range(3):
        await asyncio.sleep(0)
        if run.outcome is not None:
            break
        run.commit()
        run.crash_and_recover()
    return (await run.ended()).event.result


WAYS: list[Callable[[type[Workflow]], Any]] = [in_process, durable, restarted]


@pytest.mark.parametrize("way", WAYS)
async def test_steps_share_no_event(way: Any) -> None:
    assert await way(FanOut) == [("left", [0, 1], 1), ("right", [0, 2], 2)]


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_step_keeps_is_not_what_the_next_one_gets(way: Any) -> None:
    assert await way(KeptAfterReturn) == [[0], 0]


@pytest.mark.parametrize("way", WAYS)
async def test_the_state_is_not_changed_through_an_event(way: Any) -> None:
    assert await way(LentByTheState) == [0]


@pytest.mark.parametrize("way", [in_process, durable])
async def test_an_attempt_gets_what_came(way: Any) -> None:
    assert await way(Retried) == [[0, 1], [0, 2]]


async def test_an_attempt_after_a_lost_one_gets_what_came() -> None:
    seen: list[list[int]] = []
    began = asyncio.Event()

    class Loses(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Bag:
            return Bag(xs=[0])

        @step
        async def work(self, ev: Bag) -> StopEvent:
            ev.xs.append(1)
            seen.append(ev.xs)
            if len(seen) == 1:
                began.set()
                await asyncio.Event().wait()
            return StopEvent(result=ev.xs)

    run = DurableRun(Loses(disable_validation=True)).start()
    await began.wait()
    (execution,) = run.broker.executions
    assert execution.delivery.event == Bag(xs=[0])
    (task,) = (task for task in asyncio.all_tasks() if getattr(task, "owner", None) is execution)
    task.cancel()
    assert (await run.ended()).event.result == [0, 1]
    assert seen == [[0, 1], [0, 1]]


async def test_waiters_share_no_answer() -> None:
    class Two(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def one(n: int) -> list[int]:
                answer = await ctx.wait_for_event(Answer, waiter_id=str(n))
                answer.xs.append(n)
                await asyncio.sleep(0)
                return answer.xs

            return StopEvent(result=await asyncio.gather(one(1), one(2)))

        @step
        async def never(self, ev: Answer) -> None: ...

    handler = Two(disable_validation=True).run()
    for _ in range(4):
        await asyncio.sleep(0)
    sent = Answer()
    assert handler.ctx.send_event(sent).delivered == 3
    assert await handler == [[1], [2]]
    assert sent.xs == []


async def test_an_answer_is_told_again_as_it_came() -> None:
    class Twice(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(Answer, waiter_id="a")
            answer.xs.append(1)
            await ctx.wait_for_event(Answer, waiter_id="b", requirements={"last": True})
            return StopEvent(result=answer.xs)

    run = DurableRun(Twice(disable_validation=True)).start()
    await run.until(lambda run: run.kept("w"))
    run.send(Answer())
    await run.until(lambda run: run.kept("w") and run.kept("w")[0]["id"] == "b")
    run.crash_and_recover()
    run.send(Answer(last=True))
    assert (await run.ended()).event.result == [1]


async def test_each_entry_of_the_stream_is_what_was_written() -> None:
    class Progress(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            bag = Bag(xs=[])
            for n in range(3):
                bag.n = n
                bag.xs.append(n)
                ctx.write_event_to_stream(bag)
            return StopEvent()

    handler = Progress().run()
    await handler
    seen = []
    async for event in handler.stream_events():
        if isinstance(event, Bag):
            seen.append((event.n, list(event.xs)))
            event.xs.append(99)
    assert seen == [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])]
    again = [event.xs async for event in handler.stream_events(after=0) if isinstance(event, Bag)]
    assert again == [[0], [0, 1], [0, 1, 2]]


async def test_what_a_step_has_set_and_changes_then_is_saved() -> None:
    changed = asyncio.Event()

    class Sets(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            items = [0]
            await ctx.store.set("items", items)
            await ctx.sleep(0)  # a commit later
            items.append(1)
            changed.set()
            await ctx.wait_for_event(Answer)
            return StopEvent(result=await ctx.store.get("items"))

    run = DurableRun(Sets(disable_validation=True)).start()
    await run.until(lambda run: run.kept("w") and changed.is_set())
    assert run.parsed()["s/items"] == [0, 1]


class Plain(Event):
    n: int = 0


class Last(Event):
    n: int = 0


@pytest.mark.parametrize("counted", [True, False])
async def test_only_an_event_that_nobody_else_holds_is_passed_on_as_it_is(
    counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In process, where it saves the copy of most events, if the interpreter tells who holds one."""
    if counted and not own._COUNTED:
        pytest.skip("this interpreter does not tell")
    monkeypatch.setattr(own, "_COUNTED", counted)
    kept: list[Last] = []
    seen: list[int] = []

    class Chain(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Plain:
            plain = Plain()
            seen.append(id(plain))
            return plain

        @step
        async def next(self, ev: Plain) -> Last:
            seen.append(id(ev))
            kept.append(Last(n=1))
            return kept[0]

        @step
        async def end(self, ev: Last) -> StopEvent:
            ev.n = 5
            return StopEvent()

    await Chain().run()
    assert kept == [Last(n=1)]
    assert (seen[0] == seen[1]) is counted
