"""Tell of runs whose records are found damaged, whoever reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from stepwire.server.store.errors import StoreCorruptError
from stepwire.server.store.records import RunKey

__all__ = ["Damage"]

T = TypeVar("T")


class Damage:
    """Pass on which records of a store are damaged.

    Attributes:
        listener: Called on the event loop each time that a record is found damaged; None if nobody listens.
    """

    def __init__(self) -> None:
        self.listener: Callable[[RunKey], None] | None = None

    def found(self, keys: Iterable[RunKey]) -> None:
        """Tell that the records of runs are damaged."""
        if self.listener is not None:
            for key in keys:
                self.listener(key)

    async def noted(self, key: RunKey, reading: Awaitable[T]) -> T:
        """Return what the reading of a record gives; tell of it if it is damaged. Raises what it raises."""
        try:
            return await reading
        except StoreCorruptError:
            self.found([key])
            raise
