"""Children: what the engine asks of a host that starts runs, and what the ledger keeps of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import pytest
from tests.unit.semantics.durable_flow import Flow, settle
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import Context, Event, StopEvent, WorkflowFailedEvent
from stepwire.workflow.broker.outcome import CANCELLED, COMPLETED, ENDED_TIMED_OUT, FAILED
from stepwire.workflow.broker.progress import is_idle
from stepwire.workflow.errors import (
    ChildRunError,
    StepError,
    WorkflowCancelledByUser,
    WorkflowError,
    WorkflowTimeoutError,
)
from stepwire.workflow.events import WorkflowTimedOutEvent
from stepwire.workflow.hosting import Child, ChildCall, ChildOutcome, ChildSend, HostedRun


class Children:
    """Starts no run, and notes what it was asked for; the test says what becomes of each."""

    def __init__(self, at_once: int = 1_000_000, in_all: int = 1_000_000) -> None:
        self.at_once = at_once
        self.in_all = in_all
        self.asked: list[tuple[str, str]] = []
        """What was asked for, by id: `start`, `cancel` or `look`."""
        self.inputs: dict[str, Any] = {}
        self.sent: list[tuple[str, ChildSend]] = []
        """What was to be sent, with the ids of the children."""

    input_bytes = 1_000_000

    def served_as(self, workflow: object) -> str:
        return ""

    def check(self, workflow: str, fields: Mapping[str, Any] | None) -> bytes | None:
        if workflow == "nope":
            raise ChildRunError("no workflow 'nope' is served")
        return json.dumps(fields).encode()

    def check_call(self, call: ChildCall) -> None:
        pass

    def carry_out(self, children: Iterable[Child]) -> None:
        for child in children:
            what = "start" if child.state == "starting" else "cancel" if child.cancelling else "look"
            self.asked.append((what, child.run_id))
            if child.call.data:
                self.inputs[child.run_id] = json.loads(child.call.data)

    def send(self, sends: Iterable[tuple[Child, ChildSend]]) -> None:
        self.sent += [(child.run_id, send) for child, send in sends]

    def event_of(self, child: Child) -> StopEvent | None:
        assert child.outcome is not None
        told = json.loads(child.outcome.event)
        if child.outcome.status == FAILED:
            return WorkflowFailedEvent(step="low", error_type="ValueError", message=told, attempts=1)
        return WorkflowTimedOutEvent(timeout=5.0) if child.outcome.status == ENDED_TIMED_OUT else StopEvent(result=told)

    def events(self, child: Child) -> AsyncIterator[Event]:
        raise NotImplementedError

    def starts(self) -> list[str]:
        """Return the ids of those that were to be started, each once, in order."""
        return list(dict.fromkeys(run_id for what, run_id in self.asked if what == "start"))


def end(run: DurableRun, run_id: str, told: Any = "done", status: str = COMPLETED) -> None:
    run.hosted.child_ended(run_id, ChildOutcome(status, json.dumps(told).encode()))
    run.hosted.act()


def idle(run: DurableRun) -> bool:
    """Tell whether the run may leave memory."""
    return is_idle(run.broker)


async def asked(run: DurableRun, host: Children, count: int) -> None:
    """Wait until the host has been asked for so many children."""
    await run.until(lambda _: len(host.starts()) >= count)


async def started(run: DurableRun, host: Children, count: int) -> list[str]:
    """Wait until the host has been asked for so many children, and say that they are started."""
    await asked(run, host, count)
    for run_id in host.starts():
        run.hosted.child_started(run_id)
    run.hosted.act()
    await run.until(lambda run: not [part for part in run.kept("c") if part["st"] == "starting"])
    return host.starts()


async def one(flow: Flow, ctx: Context[Any]) -> Any:
    return await ctx.start_run("low", n=1)


async def test_children_are_started_only_once_that_is_durable() -> None:
    host = Children()
    flow = Flow(one)
    run = DurableRun(flow, children=host).start()
    await run.until(lambda run: run.kept("d"))
    run.hold()
    await settle()
    assert host.asked == []
    run.crash_and_recover()
    await started(run, host, 1)
    end(run, host.starts()[0])
    assert (await run.ended()).event.result == "done"


async def test_children_are_the_same_when_their_step_begins_again() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        order = (1, 2, 2) if flow.attempts == 1 else (2, 1, 2)
        handlers = [ctx.start_run("low", n=n) for n in order]
        await flow.pause()
        other = ctx.start_run("low", n=3)
        return [handler.run_id for handler in handlers] + [await other]

    host = Children()
    flow = Flow(body)
    run = DurableRun(flow, children=host).start()
    first, second, third = await started(run, host, 3)
    assert len({first, second, third}) == 3
    run.crash_and_recover()
    await run.until(lambda _: len(host.starts()) == 4)
    assert host.starts()[:3] == [first, second, third]
    run.hosted.child_started(host.starts()[3])
    end(run, host.starts()[3], "other")
    assert (await run.ended()).event.result == [second, first, third, "other"]


async def test_children_that_a_crash_kept_from_starting_are_started_then() -> None:
    host = Children()
    run = DurableRun(Flow(one), children=host).start()
    await run.until(lambda _: host.asked)
    run.crash_and_recover()
    await run.until(lambda _: len(host.asked) == 2)
    assert host.asked[0] == host.asked[1]
    assert host.inputs == {host.asked[0][1]: {"n": 1}}
    assert not idle(run), "until the host has said that it is started"
    await started(run, host, 1)
    assert idle(run)
    run.crash_and_recover()
    await run.until(lambda _: len(host.asked) == 3)
    assert host.asked[2] == ("look", host.asked[0][1])


async def test_children_are_awaited_without_worker_memory_and_time() -> None:
    host = Children()
    flow = Flow(one)
    run = DurableRun(flow, children=host).start(timeout=10.0)
    (run_id,) = await started(run, host, 1)
    assert is_idle(run.broker)
    run.release()
    run.recover()
    run.advance(7 * 24 * 3600.0)
    await settle()
    assert (flow.attempts, run.outcome) == (1, None)
    end(run, run_id, "late")
    assert (await run.ended()).event.result == "late"
    assert flow.attempts == 2


async def test_children_that_end_start_nothing_of_a_run_that_is_held_back() -> None:
    host = Children()
    flow = Flow(one)
    run = DurableRun(flow, children=host).start()
    (run_id,) = await started(run, host, 1)
    run.crash()
    run.load()
    run.hold()  # a commit of this host lets the run go on
    run.hosted.child_ended(run_id, ChildOutcome(COMPLETED, b'"early"'))
    await settle()
    assert flow.attempts == 1, "the host has not let it go yet: it may be on trial for a crash"
    run.let_go()
    run.go_on()
    assert (await run.ended()).event.result == "early"


async def test_children_tell_their_end_once_and_only_once_it_is_durable() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        heard.append(await ctx.start_run("low", n=1))
        await flow.go_on.wait()
        return heard

    heard: list[Any] = []
    host = Children()
    flow = Flow(body)
    run = DurableRun(flow, children=host).start()
    (run_id,) = await started(run, host, 1)
    run.hold()
    end(run, run_id, "lost")
    await settle()
    assert list(heard) == []
    run.crash_and_recover()
    end(run, run_id, "told")
    end(run, run_id, "twice")
    await settle(100)
    assert list(heard) == ["told"]
    run.crash_and_recover()
    flow.go_on.set()
    assert (await run.ended()).event.result == ["told", "told"]


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (FAILED, StepError, "Error in step 'low': so"),
        (ENDED_TIMED_OUT, WorkflowTimeoutError, "timed out after 5.0 seconds"),
        (CANCELLED, WorkflowCancelledByUser, "cancelled"),
    ],
)
async def test_children_fail_as_a_run_in_process_does(status: str, kind: type[WorkflowError], text: str) -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        with pytest.raises(kind, match=text):
            await ctx.start_run("low", n=1)
        with pytest.raises(ChildRunError, match="nope"):
            ctx.start_run("nope")
        return "told"

    host = Children()
    run = DurableRun(Flow(body), children=host).start()
    (run_id,) = await started(run, host, 1)
    end(run, run_id, "so", status)
    assert (await run.ended()).event.result == "told"


async def test_children_of_a_fork_and_a_retry_are_those_that_completed() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        return [await ctx.start_run("low", n=1), await ctx.start_run("low", n=2)]

    host = Children()
    run = DurableRun(Flow(body), children=host).start()
    (good,) = await started(run, host, 1)
    end(run, good, "good")
    _, bad = await started(run, host, 2)
    fork = run.fork(Flow(body))
    await started(fork, host, 3)
    assert host.inputs[host.starts()[2]] == {"n": 2}
    end(fork, host.starts()[2], "forked")
    assert (await fork.ended()).event.result == ["good", "forked"]
    end(run, bad, "so", FAILED)
    await run.ended()
    retry = run.fork(Flow(body), retry_of="run")
    await started(retry, host, 4)
    end(retry, host.starts()[3], "retried")
    assert (await retry.ended()).event.result == ["good", "retried"]


async def test_children_wait_in_order_until_fewer_are_under_way() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        return await asyncio.gather(*(ctx.start_run("low", n=n) for n in range(5)))

    host = Children(at_once=2)
    run = DurableRun(Flow(body), children=host).start()
    for number in range(5):
        await asked(run, host, min(5, number + 2))
        assert len(host.starts()) == min(5, number + 2)
        run_id = host.starts()[number]
        run.hosted.child_started(run_id)
        if number == 2:
            run.crash_and_recover()
        end(run, run_id, number)
    assert (await run.ended()).event.result == [0, 1, 2, 3, 4]
    assert [host.inputs[run_id]["n"] for run_id in host.starts()] == [0, 1, 2, 3, 4]


async def test_children_with_a_chosen_id_are_the_only_ones_of_it() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        first = ctx.start_run("low", run_id="mine", n=1)
        for _ in range(2):
            for n in (1, 2):
                with pytest.raises(ChildRunError, match="run_id 'mine' is taken"):
                    ctx.start_run("low", run_id="mine", n=n)
            result = await first
        return [result, await ctx.start_run("low", run_id="other", n=1)]

    host = Children()
    flow = Flow(body)
    run = DurableRun(flow, children=host).start()
    await asked(run, host, 1)
    run.hosted.child_started("mine")
    end(run, "mine", "one")
    await asked(run, host, 2)
    run.hosted.child_started("other")
    end(run, "other", "two")
    assert (await run.ended()).event.result == ["one", "two"]
    children = run.broker.made_children
    assert children is not None
    assert children.total == 2, "a start that was refused holds no place"


async def test_children_that_live_when_their_run_ends_are_to_be_closed() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        ctx.start_run("low", n=1)
        ctx.start_run("low", n=2, parent_close="abandon")
        await flow.go_on.wait()
        ctx.start_run("low", n=3)
        return "done"

    host = Children()
    flow = Flow(body)
    run = DurableRun(flow, children=host).start()
    await started(run, host, 2)
    flow.go_on.set()
    await run.ended()
    await settle()
    children = run.broker.made_children
    assert children is not None
    assert children.to_close == 2
    assert len(host.starts()) == 2, "the run has ended: nothing is started any more"
    assert run.kept("c") == []
    assert children.to_start == 0


async def test_children_that_are_to_go_on_and_are_not_started_yet_stay_in_the_snapshot() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        first = ctx.start_run("low", n=1, parent_close="abandon")
        ctx.start_run("low", n=2, parent_close="abandon")
        ctx.start_run("low", n=3)
        await ctx.start_run("low", n=4, parent_close="abandon").cancel_run()
        return first.run_id

    host = Children(at_once=1)
    run = DurableRun(Flow(body), children=host).start()
    first = (await run.ended()).event.result
    await settle()
    children = run.broker.made_children
    assert children is not None
    assert [(part["st"], part["i"]) for part in run.kept("c")] == [("starting", {"n": 1}), ("queued", {"n": 2})]
    assert run.kept("c")[0]["r"] == first
    assert [part["s"] for part in run.kept("c")] == ["work", "work"]
    assert (children.to_start, children.to_close) == (2, 1)
    assert host.starts() == [], "the step has ended the run before its starts were durable"


async def test_children_that_have_ended_do_not_make_commits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        for number in range(count):
            await ctx.start_run("low", n=number)
        return "done"

    count = 1_000
    host = Children()
    run = DurableRun(Flow(body), children=host)
    sizes: list[int] = []
    take = HostedRun.take_changes

    def measured(hosted: HostedRun, **options: Any) -> Any:
        changes = take(hosted, **options)
        sizes.append(sum(map(len, changes.parts.values())))
        return changes

    monkeypatch.setattr(HostedRun, "take_changes", measured)
    run.start()
    for number in range(count):
        await asked(run, host, number + 1)
        run.hosted.child_started(host.starts()[number])
        end(run, host.starts()[number], number)
    await run.ended()
    middle = len(sizes) // 2
    assert len(sizes) > count
    assert max(sizes[middle:]) <= max(sizes[10:middle]) + 16, "but for the digits of counters"
