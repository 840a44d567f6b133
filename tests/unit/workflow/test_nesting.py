"""Runs that steps start in process, in each other: a cycle of `add_workflows` ends with an error."""

from __future__ import annotations

import asyncio
import gc

import pytest

from stepwire.server.testing import serve
from stepwire.workflow import StartEvent, StopEvent, Workflow, step
from stepwire.workflow.context.run import MOST_NESTED, Run
from stepwire.workflow.errors import StepError, WorkflowCancelledByUser


class Ping(Workflow):
    """Starts the other one, as often as its input says, or without end."""

    @step
    async def go(self, ev: StartEvent, other: Workflow) -> StopEvent:
        left = ev.get("left", None)
        if left == 0:
            return StopEvent(result=0)
        given = {} if left is None else {"left": left - 1}
        return StopEvent(result=await other.run(**given))


class Pong(Ping):
    """The other one."""


def pair() -> Workflow:
    ping, pong = Ping(timeout=None), Pong(timeout=None)
    ping.add_workflows(other=pong)
    pong.add_workflows(other=ping)
    return ping


TOLD = f"nested too deep in process, at most {MOST_NESTED}: … -> .*Ping -> Pong -> Ping"


async def test_a_cycle_of_added_workflows_is_refused_with_the_chain() -> None:
    with pytest.raises(StepError, match=TOLD):
        await pair().run()
    alone = Ping()
    alone.add_workflows(other=alone)
    with pytest.raises(StepError, match="Ping -> Ping -> Ping"):
        await alone.run()


async def test_a_cycle_that_ends_in_time_is_as_good_as_any() -> None:
    assert await pair().run(left=MOST_NESTED - 1) == 0


async def test_the_deepest_nesting_can_be_cancelled() -> None:
    inside = asyncio.Event()

    class Deep(Workflow):
        @step
        async def go(self, ev: StartEvent, deep: Workflow) -> StopEvent:
            if ev.left == 0:
                inside.set()
                await asyncio.Event().wait()
            return StopEvent(result=await deep.run(left=ev.left - 1))

    deep = Deep(timeout=None)
    deep.add_workflows(deep=deep)
    handler = deep.run(left=MOST_NESTED - 1)
    await inside.wait()
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler


async def test_runs_that_outlive_the_step_that_started_them_are_not_nested_in_it() -> None:
    ended = asyncio.Event()

    class Relay(Workflow):
        @step
        async def go(self, ev: StartEvent, relay: Workflow) -> StopEvent:
            if ev.left == 0:
                ended.set()
            else:
                relay.run(left=ev.left - 1)
            return StopEvent()

    def runs() -> int:
        gc.collect()
        return len([each for each in gc.get_objects() if isinstance(each, Run)])

    before = runs()
    relay = Relay()
    relay.add_workflows(relay=relay)
    await relay.run(left=3 * MOST_NESTED)
    await ended.wait()
    assert runs() < before + MOST_NESTED


def test_a_cycle_that_is_not_served_fails_its_run_and_leaves_the_server_alone() -> None:
    with serve(ping=pair()) as server, server.client() as client:
        outcome = client.start_run("ping").wait(timeout=50).outcome
        assert outcome is not None
        assert outcome.failure is not None
        assert "nested too deep in process" in outcome.failure.message
