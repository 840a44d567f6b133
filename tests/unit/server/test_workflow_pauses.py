"""Pauses of workflows: for how long each was paused, and what that does to the clocks of runs that were not there."""

from __future__ import annotations

import pytest
from tests.unit.semantics.harness import HandClock

from stepwire.server.runs.hosting.pauses import PAUSED_SECONDS, WorkflowPauses
from stepwire.server.store import MemoryStore, RunKey, RunRecord, Status
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.definition.routing import Routing
from stepwire.workflow.state.store import InMemoryStateStore


def record(**info: float) -> RunRecord:
    return RunRecord(
        key=RunKey("default", "r1"),
        workflow="orders",
        status=Status.WAITING,
        created_at=1.0,
        updated_at=1.0,
        last_sequence=0,
        info=dict(info),
    )


def loaded(clock: HandClock, due: float | None) -> Broker:
    """Return a run that was loaded, whose time limit falls due then."""
    broker = Broker(Routing({}), InMemoryStateStore.empty())
    broker.work.clock = clock
    broker.limit.due = due
    return broker


async def paused_twice(clock: HandClock) -> WorkflowPauses:
    """Return the pauses of a workflow that was paused for 10 seconds, and has been again for 5."""
    pauses = WorkflowPauses(MemoryStore(), clock)
    await pauses.open()
    await pauses.begin("default", "orders", "ann", "")
    clock.time += 10.0
    assert await pauses.end("default", "orders")
    clock.time += 100.0
    await pauses.begin("default", "orders", "ann", "")
    clock.time += 5.0
    return pauses


async def test_the_seconds_of_all_pauses_count_until_now() -> None:
    clock = HandClock()
    pauses = await paused_twice(clock)
    assert pauses.seconds_of(record(), clock) == 15.0
    assert WorkflowPauses(MemoryStore(), clock).seconds_of(record(), clock) == 0.0


@pytest.mark.parametrize(("before", "later"), [(0.0, 15.0), (10.0, 5.0), (15.0, 0.0), (20.0, 0.0)])
async def test_a_loaded_run_has_later_what_its_workflow_was_paused_since_its_last_commit(
    before: float, later: float
) -> None:
    clock = HandClock()
    pauses = await paused_twice(clock)
    broker = loaded(clock, 2_000_000.0)
    pauses.catch_up(broker, record(**{PAUSED_SECONDS: before}))
    assert broker.limit.due == 2_000_000.0 + later


async def test_a_run_whose_clock_stands_still_stays_as_it_is() -> None:
    clock = HandClock()
    pauses = await paused_twice(clock)
    broker = loaded(clock, None)
    pauses.catch_up(broker, record())
    assert broker.limit.due is None
