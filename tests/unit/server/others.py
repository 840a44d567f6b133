"""A cluster for tests of what replicas do with each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepwire.server.store.cluster import Peer, Solo


class Others(Solo):
    """A cluster whose other replicas the test names."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: Sequence[Any] = ()
        self.listeners: list[Callable[[], None]] = []

    @property
    def peers(self) -> Sequence[Peer]:  # type: ignore[override]
        return self.alive

    def on_change(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    def lose_all(self) -> None:
        self.alive = ()
        for listener in self.listeners:
            listener()
