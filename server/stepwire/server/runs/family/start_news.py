"""Tell those that wait for it that a child is started, or will not be."""

from __future__ import annotations

import asyncio

from stepwire.server.store import RunKey
from stepwire.workflow.hosting import Child

__all__ = ["StartNews"]


class StartNews:
    """Keep those that read the stream of a child that is not there yet."""

    def __init__(self) -> None:
        self._begun: dict[RunKey, asyncio.Future[None]] = {}

    def tell(self, key: RunKey) -> None:
        """Note that a child is started, or will not be."""
        if (begun := self._begun.pop(key, None)) is not None and not begun.done():
            begun.set_result(None)

    async def wait(self, key: RunKey, child: Child) -> None:
        """Return once a child that is to be started is there, or has ended without having been."""
        if (begun := self._begun.get(key)) is None:
            begun = self._begun[key] = asyncio.get_running_loop().create_future()
            # A child that is cancelled before its turn ends in the ledger of its parent alone.
            if child.told is None:
                child.told = []
            child.told.append(lambda _: self.tell(key))
        await asyncio.shield(begun)
