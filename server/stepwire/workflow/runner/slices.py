"""Take what a step returned in slices, if it is very much, so that it does not starve the event loop."""

from __future__ import annotations

import asyncio

from stepwire.workflow.broker.broker import SLICE, Broker
from stepwire.workflow.broker.host import Host
from stepwire.workflow.broker.receipts import EncodedOutput
from stepwire.workflow.events import Event

__all__ = ["encode_in_slices", "take_the_rest"]


async def encode_in_slices(broker: Broker, outputs: list[Event]) -> list[EncodedOutput]:
    """Encode many outputs; return them once no other step is taken in slices."""
    encoded: list[EncodedOutput] = []
    for start in range(0, len(outputs), SLICE):
        encoded += map(broker.encode_output, outputs[start : start + SLICE])
        await asyncio.sleep(0)
    while broker.partial is not None:  # noqa: ASYNC110 - another step makes a slice in each turn
        await asyncio.sleep(0)
    return encoded


async def take_the_rest(broker: Broker, host: Host | None) -> None:
    """Take the rest of what a step returned; the transition is whole afterwards, also after a cancellation."""
    try:
        while (rest := broker.partial) is not None:
            next(rest, None)
            await asyncio.sleep(0)
    finally:
        broker.complete()
        if host is not None:
            host.changed()
