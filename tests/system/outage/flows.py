"""A workflow whose dependency, the bank, can be down: a file that is there or not. What it does is a line of a file."""

from __future__ import annotations

import os
from pathlib import Path

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    DictState,
    Event,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

FOLDER = Path(os.environ.get("OUTAGE_FOLDER", "."))
UP = FOLDER / "bank-is-up"
DONE = FOLDER / "done"


def do(what: str, key: str) -> None:
    """Do something under a key: append a line, in one write."""
    with DONE.open("ab", buffering=0) as file:
        file.write(f"{what} {key}\n".encode())


class Order(StartEvent):
    n: int
    patient: bool = False


class Reserved(Event):
    """Goods are reserved; to be paid now."""

    n: int


class Deferred(Event):
    """Goods are reserved; to be paid when it is possible."""

    n: int


class Paid(Event, internal=True):
    n: int


class Shop(Workflow):
    """Reserve, pay, ship. An order waits for as long as the outage takes."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step(num_workers=4)
    async def reserve(self, ctx: Context[DictState], ev: Order) -> Reserved | Deferred:
        do("reserve", ctx.step_info().key)
        return Deferred(n=ev.n) if ev.patient else Reserved(n=ev.n)

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=2, delay=0.05))
    async def pay(self, ctx: Context[DictState], ev: Reserved) -> Paid:
        return self._pay(ctx, ev.n)

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=100_000, delay=1.0))
    async def pay_later(self, ctx: Context[DictState], ev: Deferred) -> Paid:
        return self._pay(ctx, ev.n)

    @step
    async def ship(self, ctx: Context[DictState], ev: Paid) -> StopEvent:
        do("ship", ctx.step_info().key)
        return StopEvent(result=ev.n)

    def _pay(self, ctx: Context[DictState], n: int) -> Paid:
        if not UP.exists():
            raise ConnectionError("the bank does not answer")
        do("pay", ctx.step_info().key)
        return Paid(n=n)
