"""A step that returns very much finishes in slices; what is saved meanwhile is sound."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import Context, Event, HumanResponseEvent, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.broker import SLICE
from stepwire.workflow.broker.deliveries.work import Work

MANY = 15 * SLICE + 3


class Item(Event):
    n: int


class Other(HumanResponseEvent):
    pass


class FanOut(Workflow):
    """Return many events from one step; another one collects them."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)
        self.begun = 0
        self.worked: Counter[int] = Counter()

    @step
    async def begin(self, ev: StartEvent) -> list[Item]:
        self.begun += 1
        return [Item(n=n) for n in range(MANY)]

    @step(num_workers=100)
    async def work(self, ctx: Context, ev: Item) -> StopEvent | None:
        self.worked[ev.n] += 1
        return StopEvent(result="worked") if len(self.worked) == MANY else None

    @step
    async def other(self, ev: Other) -> None:
        pass


class Turns:
    """Count calls by the turn of the event loop that they are made in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.by_turn: Counter[int] = Counter()
        self.turn = 0
        self._loop = asyncio.get_running_loop()
        original = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            self.by_turn[self.turn] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)
        self._next()

    def _next(self) -> None:
        self.turn += 1
        self._loop.call_soon(self._next)


async def partly_finished(run: DurableRun) -> None:
    """Wait until the first step has returned and some of what it returned was taken."""
    while not 0 < len(run.broker.deliveries) - 1 < MANY or run.broker.partial is None:  # noqa: ASYNC110 - each turn counts
        await asyncio.sleep(0)


async def test_other_work_has_its_turn_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch, Work, "enqueue")
    flow = FanOut()
    run = DurableRun(flow).start()
    assert (await run.ended()).event.result == "worked"
    assert sum(turns.by_turn.values()) == MANY + 1
    assert max(turns.by_turn.values()) <= SLICE
    assert [entry.sequence for entry in run.log] == list(range(1, len(run.log) + 1))


async def test_nothing_of_it_is_durable_before_all_of_it_is() -> None:
    flow = FanOut()
    run = DurableRun(flow).start()
    await partly_finished(run)
    assert [part["st"] for part in run.kept("d")] == ["running"]
    run.crash_and_recover()
    assert (await run.ended()).event.result == "worked"
    assert flow.begun == 2
    assert set(flow.worked.values()) == {1}


@pytest.mark.parametrize("how", ["commit", "release"])
async def test_a_snapshot_between_slices_completes_the_transition(how: str) -> None:
    flow = FanOut()
    run = DurableRun(flow).start()
    await partly_finished(run)
    if how == "commit":
        run.commit()
        run.crash()
    else:
        run.release()
    assert len(run.kept("d")) == MANY
    run.recover()
    assert (await run.ended()).event.result == "worked"
    assert flow.begun == 1
    assert flow.worked.keys() == set(range(MANY))


async def test_events_that_come_between_slices_are_taken() -> None:
    flow = FanOut()
    run = DurableRun(flow).start()
    await partly_finished(run)
    receipt = run.send(Other())
    assert receipt.delivered == 1
    assert (await run.ended()).event.result == "worked"
    assert [entry.type for entry in run.log].count("Item") == MANY
    assert [entry.sequence for entry in run.log if entry.type == "Other"] == [receipt.sequence]


async def test_a_run_that_is_cancelled_between_slices_keeps_everything_for_a_retry() -> None:
    run = DurableRun(FanOut()).start()
    await partly_finished(run)
    run.cancel()
    assert (await run.ended()).status == "cancelled"
    assert run.broker.partial is None
    assert len(run.kept("d")) == MANY
