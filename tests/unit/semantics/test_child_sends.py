"""Events for children: what the engine asks of a host that sends them, and what the parts of children keep."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.semantics.durable_flow import Flow, settle
from tests.unit.semantics.harness import DurableRun
from tests.unit.semantics.test_children import Children, asked, end, idle, started

from stepwire.workflow import Context, Event
from stepwire.workflow.broker.children.sends import SentEvents
from stepwire.workflow.broker.deliveries.delivery import Delivery, Execution
from stepwire.workflow.errors import DeadAttemptError
from stepwire.workflow.hosting import ChildSend


async def sends(flow: Flow, ctx: Context[Any]) -> Any:
    """Send the same twice, and another one if that is the first execution."""
    handler: Any = ctx.start_run("low", n=1)
    for data in (b"1", b"1", b"2"):
        handler.send("Given", data)
    await flow.pause()
    handler.send("Given", b"3", "step")
    return await handler


def sent(host: Children) -> list[tuple[int, bytes]]:
    return [(send.number, send.data) for _, send in host.sent]


async def test_nothing_is_sent_before_it_is_durable_and_the_child_is_there() -> None:
    host = Children()
    run = DurableRun(Flow(sends), children=host).start()
    await asked(run, host, 1)
    await settle()
    assert host.sent == []
    assert [len(part["n"]) for part in run.kept("c")] == [3]
    run.hold()
    run.hosted.child_started(host.starts()[0])
    run.hosted.act()
    await settle()
    assert host.sent == [], "not before it is durable that the child is there"
    run.let_go()
    await run.until(lambda _: host.sent)
    assert sent(host) == [(1, b"1"), (2, b"1"), (3, b"2")]
    assert {run_id for run_id, _ in host.sent} == set(host.starts())
    run.cancel()
    await settle()


async def test_what_is_not_known_to_be_sent_keeps_the_run_in_memory_and_is_sent_after_a_crash() -> None:
    host = Children()
    flow = Flow(sends)
    run = DurableRun(flow, children=host).start()
    (run_id,) = await started(run, host, 1)
    await run.until(lambda _: len(host.sent) == 3)
    run.hosted.child_sent(run_id, 1)
    run.hosted.act()
    await settle(50)
    assert [len(part["n"]) for part in run.kept("c")] == [2]
    host.sent.clear()
    run.crash_and_recover()
    await settle(50)
    assert flow.attempts == 2
    assert sent(host) == [(2, b"1"), (3, b"2"), (4, b"3")], "the body has sent nothing a second time"
    assert host.sent[-1] == (run_id, ChildSend(4, "Given", b"3", "step"))
    assert not idle(run), "until the host has said that they are sent"
    for number in (2, 3, 4):
        run.hosted.child_sent(run_id, number)
    run.hosted.act()
    await settle(50)
    assert idle(run)
    assert not any("n" in part for part in run.kept("c"))
    end(run, run_id)
    assert (await run.ended()).event.result == "done"
    assert run.kept("c") == []


def test_only_the_same_delivery_repeats_itself() -> None:
    events = SentEvents()
    broker: Any = None

    def add(delivery: int, own: bool, data: bytes = b"1", step: str = "") -> bool:
        execution = executions.setdefault(delivery, Execution(broker, Delivery(delivery, "go", Event(), 1)))
        return events.add(execution, "child", own, "Given", data, step) is not None

    executions: dict[int, Execution] = {}
    for _ in range(2):
        assert add(1, True) is True
    assert add(2, False) is True
    executions.clear()  # all begin again
    events = SentEvents.read(events.saved(), [1, 1, 1])
    assert [add(1, True), add(1, True), add(1, True), add(2, False), add(2, False)] == [False, False, True, False, True]
    assert [add(1, True, b"2"), add(1, True, step="go")] == [True, True]
    assert events.add(None, "child", False, "Given", b"1", "") is not None
    assert [send.number for send in events.pending] == list(range(1, 9))


async def test_what_has_ended_is_sent_nothing() -> None:
    async def body(flow: Flow, ctx: Context[Any]) -> Any:
        handler: Any = ctx.start_run("low", n=1)
        shared.append(handler)
        result = await handler
        handler.send("Given", b"1")
        await flow.pause()
        return result

    shared: list[Any] = []
    host = Children()
    flow = Flow(body)
    run = DurableRun(flow, children=host).start()
    (run_id,) = await started(run, host, 1)
    end(run, run_id)
    await flow.at_work.wait()
    await settle()
    assert host.sent == []
    run.crash_and_recover()
    await settle(50)
    assert flow.attempts == 2
    with pytest.raises(DeadAttemptError):
        shared[0].send("Given", b"2")
