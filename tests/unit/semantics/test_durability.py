"""Commits, the membrane, forks, retries and every crash point of durable runs, in process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.durable_flow import Answer, Done, Flow, Note, Prompt, Work, settle
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import (
    Context,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from stepwire.workflow.broker.outcome import FAILED
from stepwire.workflow.broker.progress import is_idle
from stepwire.workflow.context.context import run_of
from stepwire.workflow.errors import SnapshotError


async def test_membrane_a_body_starts_only_after_its_delivery_is_durable() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> list[str]:
        return [part["st"] for part in run.kept("d") if part["s"] == "work"]

    flow = Flow(body)
    run = DurableRun(flow)
    run.hold()
    run.start()
    await settle()
    assert (flow.attempts, run.parts) == (0, {})
    run.let_go()
    assert (await run.ended()).event.result == ["running"]


async def test_membrane_a_run_lost_before_its_commit_has_done_nothing() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        raise AssertionError

    flow = Flow(body)
    run = DurableRun(flow)
    run.hold()
    run.start()
    await settle()
    run.crash()
    run.let_go()
    await settle()
    assert (flow.attempts, run.parts, run.log) == (0, {}, [])


async def test_membrane_an_answer_reaches_the_body_only_when_it_is_durable() -> None:
    answered: list[int] = []

    async def body(flow: Flow, ctx: Context[Any]) -> int:
        answered.append((await ctx.wait_for_event(Answer)).n)
        return answered[-1]

    run = DurableRun(Flow(body)).start()
    await run.until(lambda run: run.kept("w"))
    run.hold()
    run.send(Answer(n=5))
    await settle()
    assert answered == []
    run.let_go()
    assert (await run.ended()).event.result == 5


async def test_commit_counters_are_never_behind_the_log() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> None:
        for n in range(3):
            ctx.write_event_to_stream(Note(text=str(n)))
        await flow.pause()

    flow = Flow(body)
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    await run.until(lambda run: len(run.log) == 4)
    assert run.head["seq"] == 4
    run.crash_and_recover()
    await run.ended()
    assert [entry.sequence for entry in run.log] == [1, 2, 3, 4, 5]


async def test_commit_outputs_and_the_end_of_their_delivery_are_one() -> None:
    class Two(Workflow):
        go_on = asyncio.Event()

        @step
        async def first(self, ev: StartEvent) -> Work:
            return Work(n=1)

        @step
        async def second(self, ev: Work) -> StopEvent:
            await self.go_on.wait()
            return StopEvent()

    run = DurableRun(Two()).start()
    states: set[tuple[str, ...]] = set()
    while not any(part["s"] == "second" and part["st"] == "running" for part in run.kept("d")):
        count = run.commits
        await run.until(lambda run, count=count: run.commits > count)  # type: ignore[misc]
        states.add(tuple(part["s"] for part in run.kept("d")))
    assert states == {("first",), ("second",)}
    Two.go_on.set()
    await run.ended()


async def test_fork_copies_ledger_buffers_and_open_waiters_and_begins_its_log_at_1() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        ctx.write_event_to_stream(Note(text="once"))
        ctx.collect_events(Work(n=1), [Work, Done], buffer_id="mine")
        ctx.collect_events(Work(n=flow.attempts), [Work, Done], buffer_id="kept")
        first = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=1), waiter_id="1", timeout=None)
        second = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=2), waiter_id="2", timeout=None)
        found = ctx.collect_events(Done(n=2), [Work, Done], buffer_id="mine")
        return [first.n, second.n, found, len(run_of(ctx).broker.buffers)]

    run = DurableRun(Flow(body)).start()
    await run.until(lambda run: run.kept("w"))
    run.send(Answer(n=1))
    await run.until(lambda run: [part["id"] for part in run.kept("w")] == ["2"])

    expected = [1, 2, [Work(n=1), Done(n=2)], 1]
    other = run.fork(Flow(body))
    other.send(Answer(n=2))
    assert (await other.ended()).event.result == expected
    assert [entry.type for entry in other.log] == ["Answer", "StopEvent"]
    assert [entry.sequence for entry in other.log] == [1, 2]

    run.send(Answer(n=2))
    assert (await run.ended()).event.result == expected


async def test_pause_starts_nothing_and_keeps_what_comes() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=1), waiter_id="1", timeout=10)
        await ctx.sleep(5)
        return answer.n

    flow = Flow(body)
    run = DurableRun(flow).start(timeout=60)
    await run.until(lambda run: run.kept("w"))
    run.hosted.hold(True)
    run.send(Answer(n=1))
    await run.until(lambda run: not run.kept("w"))
    assert [part["st"] for part in run.kept("d")] == ["ready"]
    assert is_idle(run.broker)
    assert run.broker.next_due() is None
    run.release()
    run.recover()
    run.hosted.hold(True)
    run.advance(1000)  # the run's own timeout stands still
    assert run.outcome is None
    assert flow.attempts == 1
    run.hosted.hold(False)
    await run.until(lambda run: run.kept("w"))
    run.advance(6)
    assert (await run.ended()).event.result == 1


async def test_retry_goes_on_from_what_failed_under_its_key_and_repeats_its_sends() -> None:
    keys = []

    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        keys.append(ctx.step_info().key)
        ctx.write_event_to_stream(Note(text="tried"))
        first = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=1), waiter_id="1", timeout=None)
        if flow.attempts < 3:
            raise ValueError("not yet")
        return first.n

    run = DurableRun(Flow(body)).start()
    await run.until(lambda run: run.kept("w"))
    run.send(Answer(n=7))
    assert (await run.ended()).status == FAILED

    again = run.fork(retry_of="first")
    assert (await again.ended()).status == FAILED
    assert again.stream == ["Note", "WorkflowFailedEvent"]  # its answer is known, so nothing is asked again

    last = again.fork(retry_of="second")
    assert (await last.ended()).event.result == 7
    assert keys[1:] == ["first/1"] * 2


async def test_retry_waits_again_if_the_wait_that_timed_out_failed_the_run() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        reminded = 0
        while True:
            try:
                answer = await ctx.wait_for_event(Answer, waiter_event=Prompt(n=1), waiter_id="1", timeout=10)
            except TimeoutError:
                reminded += 1
                if reminded == 2:
                    raise
            else:
                return [reminded, answer.n]

    run = DurableRun(Flow(body)).start()
    for reminded in range(2):
        await run.until(lambda run, n=reminded: [part["n"] for part in run.kept("w")] == [n])  # type: ignore[misc]
        run.advance(11)
    assert (await run.ended()).status == FAILED
    again = run.fork(retry_of="first")
    await again.until(lambda run: run.kept("w"))
    again.send(Answer(n=1))
    assert (await again.ended()).event.result == [1, 1]


async def test_retry_of_a_run_that_a_limit_ended_is_refused() -> None:
    flow = Flow(lambda flow, ctx: flow.pause())
    run = DurableRun(flow).start()
    await flow.at_work.wait()
    run.broker.exceed("too much")
    await run.ended()
    assert run.kept("d") == [] or "left" not in run.head
    with pytest.raises(SnapshotError, match="left nothing in progress"):
        run.fork(retry_of="first")


class Everything(Workflow):
    """Fan out, write, send, collect, ask, retry: its outcome must not depend on crashes."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> list[Work]:
        ctx.write_event_to_stream(Note(text="begun"))
        return [Work(n=n) for n in range(3)]

    @step(num_workers=2)
    async def work(self, ctx: Context, ev: Work) -> Done:
        ctx.write_event_to_stream(Note(text=f"work {ev.n}"))
        await asyncio.sleep(0)
        answer = await ctx.wait_for_event(
            Answer, waiter_event=Prompt(n=ev.n), waiter_id=str(ev.n), requirements={"to": ev.n}, timeout=None
        )
        await asyncio.sleep(0)
        ctx.write_event_to_stream(Note(text=f"answered {ev.n}"))
        return Done(n=answer.n)

    @step(num_workers=1)
    async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
        found = ctx.collect_events(ev, [Done] * 3)
        if found is None:
            return None
        await asyncio.sleep(0)
        ctx.write_event_to_stream(Note(text="summed"))
        return StopEvent(result=sorted(each.n for each in found))


async def through(crash_at: int, turns: int) -> tuple[DurableRun, int]:
    """Run Everything, answering prompts as a client does, and crash once, some turns after a commit."""
    run = DurableRun(Everything()).start()
    answered: set[int] = set()
    crashed = False
    while "outcome" not in run.head:
        count = run.commits
        await run.until(lambda run, count=count: run.commits > count or "outcome" in run.head)  # type: ignore[misc]
        if not crashed and run.commits >= crash_at:
            crashed = True
            await settle(turns)
            run.crash_and_recover()
        for prompt in run.logged(Prompt):
            if prompt["n"] not in answered:
                answered.add(prompt["n"])
                run.send(Answer(to=prompt["n"], n=prompt["n"] * 10))
                # The client knows only after the commit that its answer is there.
                sequence = run.broker.sequence
                await run.until(lambda run, sequence=sequence: run.head["seq"] >= sequence)  # type: ignore[misc]
    return run, run.commits


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_every_crash_point_gives_the_same_run(turns: int) -> None:
    whole, commits = await through(10**6, turns)
    notes = sorted(each["text"] for each in whole.logged(Note))
    assert commits > 8
    for crash_at in range(1, commits + 1):
        run, _ = await through(crash_at, turns)
        assert run.outcome is not None
        assert run.outcome.event.result == [0, 10, 20]
        assert sorted(each["text"] for each in run.logged(Note)) == notes
        assert sorted(each["n"] for each in run.logged(Prompt)) == [0, 1, 2]
        assert sorted(each["n"] for each in run.logged(Done)) == [0, 10, 20]
        assert [entry.sequence for entry in run.log] == list(range(1, len(run.log) + 1))
        assert run.parts.keys() == {"h"}
