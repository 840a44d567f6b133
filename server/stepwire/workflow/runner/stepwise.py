"""Stepwise runs: the caller runs the pending steps, one batch after the other, and sends their events on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.deliveries.delivery import PARKED, Delivery, Execution
from stepwire.workflow.broker.receipts import Receipt
from stepwire.workflow.events import Event


class Stepwise:
    """What a stepwise run holds for its caller; `launch` starts the bodies of executions."""

    def __init__(self, broker: Broker, launch: Callable[[list[Execution]], None]) -> None:
        self._broker = broker
        self._launch = launch
        self._held: list[Event] = []
        """What steps sent and returned; the caller sends it on."""
        self._sent: list[tuple[Event, Receipt]] = []
        """What of it was sent, so that it is there already when the caller sends it on."""
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Have `run_pending` look again."""
        self._stirred.set()

    async def run_pending(self) -> list[Event] | None:
        """Run the steps that are pending and give what they sent and returned; None once the run is over."""
        broker = self._broker
        if self._over():
            return None
        held = {id(event) for event in self._held}
        self._sent = [(event, receipt) for event, receipt in self._sent if id(event) in held]
        batch = self._start()
        # Retries belong to the step that is run; a step that waits for an event does not hold the caller up.
        while not self._over() and any(each.id in broker.deliveries and each.status != PARKED for each in batch):
            self._stirred.clear()
            await self._stirred.wait()
            self._start(again_only=True)
        events, self._held = self._held, []
        return None if self._over() and not events else events

    def hold(self, events: list[Event]) -> None:
        """Keep what a step returned; the caller sends it on."""
        self._held += events

    def hold_sent(self, event: Event, receipt: Receipt) -> None:
        """Note what a step sent."""
        self._held.append(event)
        self._sent.append((event, receipt))

    def sent_already(self, event: Event) -> Receipt | None:
        """Return the receipt of an event that a step sent and that the caller now sends on, once."""
        for index, (sent, receipt) in enumerate(self._sent):
            if sent is event:
                del self._sent[index]
                return receipt
        return None

    def _over(self) -> bool:
        return self._broker.outcome is not None

    def _start(self, again_only: bool = False) -> list[Delivery]:
        started: list[Execution] = []
        self._broker.queues.look_again()
        while (execution := self._broker.work.start_next(self._broker, again_only)) is not None:
            started.append(execution)
        self._launch(started)
        return [execution.delivery for execution in started]


__all__ = ["Stepwise"]
