"""What a family does to runs that another replica may have: start, tell, cancel."""

from __future__ import annotations

from typing import Protocol

from stepwire.server.principal import Principal
from stepwire.server.runs.events import RunEvents
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.lifecycle import RunLifecycle
from stepwire.server.runs.requests import StartRequest
from stepwire.server.store import RunKey

__all__ = ["FamilyCalls", "LocalCalls", "TakeEnd"]


class TakeEnd(Protocol):
    """Has a parent take the end of a child."""

    async def __call__(self, parent: RunKey, child: str) -> None:
        """Return once it is durable that the parent knows, or if there is nobody to know."""


class FamilyCalls(Protocol):
    """Starts, tells and cancels runs, wherever they are. Raises `RunsError`s."""

    async def start(self, caller: Principal, request: StartRequest) -> None:
        """Start a child; return once it is durable. A child that there is already is started."""

    async def tell(self, parent: RunKey, child: str) -> None:
        """Tell a parent that a child has ended; return once it is durable that it knows."""

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> None:
        """Cancel a run; return once that is durable."""

    async def answer(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, request_id: str
    ) -> tuple[int, int]:
        """Send an event to a run; return its sequence there, and how many took it."""

    async def send(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, step: str, request_id: str
    ) -> None:
        """Send an event of its parent to a run, and to no child of it; return once it is durable that it has it."""


class LocalCalls:
    """Do it in this process. RunElsewhereError says that another replica has the run."""

    def __init__(self, pool: RunPool, lifecycle: RunLifecycle) -> None:
        self._pool = pool
        self._lifecycle = lifecycle
        self.take_end: TakeEnd | None = None
        self.events: RunEvents | None = None

    async def start(self, caller: Principal, request: StartRequest) -> None:
        """Start a child; return once it is durable."""
        await self._lifecycle.start(caller, request)

    async def tell(self, parent: RunKey, child: str) -> None:
        """Have a parent take the end of a child."""
        assert self.take_end is not None
        await self.take_end(parent, child)

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> None:
        """Cancel a run; return once that is durable."""
        await self._lifecycle.cancel(caller, run_id, reason)

    async def answer(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, request_id: str
    ) -> tuple[int, int]:
        """Send an event to a run; return its sequence there, and how many took it."""
        assert self.events is not None
        receipt = await self.events.send(caller, run_id, type_name, data, "", request_id)
        return receipt.sequence, receipt.delivered

    async def send(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, step: str, request_id: str
    ) -> None:
        """Send an event of its parent to a run, and to no child of it; return once it is durable that it has it."""
        assert self.events is not None
        await self.events.send(caller, run_id, type_name, data, step, request_id, relayed=False)
