"""What the tests of the broker's parts share."""

from __future__ import annotations

from typing import Any

from stepwire.workflow.broker.changes.undo import Undos
from stepwire.workflow.broker.deliveries.delivery import Delivery, Execution
from stepwire.workflow.broker.deliveries.executions import AttemptJournal
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.timing.clock import CLOCK, Clock
from stepwire.workflow.definition.step_config import StepConfig
from stepwire.workflow.events import Event
from stepwire.workflow.state.hooks import StateValues
from stepwire.workflow.state.store import InMemoryStateStore


class Item(Event):
    n: int = 0


class Other(Event):
    n: int = 0


class HandClock(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.time = 100.0

    def now(self) -> float:
        return self.time


class Owner:
    """Stands for the broker that executions belong to."""

    frozen = False
    clock = CLOCK
    sequence = 0
    journal: AttemptJournal | None = None

    def stir(self, execution: Execution) -> None:
        """Do nothing."""

    def begin_again(self, delivery: Delivery) -> None:
        """Do nothing."""

    def may_wait(self, execution: Execution) -> bool:
        """Say no."""
        return False

    store: StateValues = InMemoryStateStore.empty()
    undos = Undos(InMemoryStateStore.empty())


def config(num_workers: int = 1, timeout: float | None = None) -> StepConfig:
    return StepConfig(
        accepted_events=[Item], event_name="ev", return_types=[type(None)], num_workers=num_workers, timeout=timeout
    )


def work(**steps: StepConfig) -> Work:
    """Return work for these steps (default: one step `a` with one worker) and a clock that stands at 100."""
    made = Work(steps or {"a": config()})
    made.clock = HandClock()
    return made


def enqueue(made: Work, step: str = "a", **fields: Any) -> Delivery:
    made.enqueue(step, Item(**fields), 1, None)
    return made.deliveries[made.delivery_ids]


def start(made: Work) -> Execution:
    execution = made.start_next(Owner())
    assert execution is not None
    return execution
