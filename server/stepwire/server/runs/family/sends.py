"""Send events of the runs in memory to their children, each once and in order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from stepwire.server.runs.errors import DrainingError, RunBlockedError, RunFinishedError, RunNotFoundError, RunsError
from stepwire.server.runs.family.backoff import Backoff, may_pass
from stepwire.server.runs.family.calls import FamilyCalls
from stepwire.server.runs.family.child_ends import caller_of
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import RunKey, StoreError
from stepwire.workflow.hosting import Child, ChildSend

__all__ = ["Sends"]

logger = logging.getLogger("stepwire.runs")

_REQUEST: Final = "stepwire-parent/"
"""Before the number of an event, in the request_id under which a child takes it."""

_OVER: Final = (RunFinishedError.reason, RunNotFoundError.reason)


class Sends:
    """Send events to children, however long that takes.

    A child takes each under a request_id that is made of its number, so a repeat after a crash has no effect.

    Attributes:
        calls: Does what concerns other runs, here or at the replica that has them.
    """

    def __init__(self, pool: RunPool, calls: FamilyCalls) -> None:
        self.calls = calls
        self._pool = pool
        self._waiting: dict[tuple[RunKey, str], deque[ChildSend]] = {}
        """By parent and id of the child: the events of those that are being sent."""

    def add(self, key: RunKey, sends: Iterable[tuple[Child, ChildSend]]) -> list[str]:
        """Note events for children of a run; return the children to which nothing is being sent yet: call `send`."""
        idle: list[str] = []
        for child, send in sends:
            waiting = self._waiting.get((key, child.run_id))
            if waiting is None:
                waiting = self._waiting[key, child.run_id] = deque()
                idle.append(child.run_id)
            waiting.append(send)
        return idle

    async def send(self, key: RunKey, child: str) -> None:
        """Send what a child is to get, until there is nothing left."""
        waiting = self._waiting[key, child]
        try:
            while waiting and (run := self._parent(key)) is not None:
                if not await self._send_once(key, run, child, waiting[0]):
                    return
                send = waiting.popleft()
                if (run := self._parent(key)) is not None:
                    run.child_sent(child, send.number)
        finally:
            del self._waiting[key, child]  # what is left is in the snapshot of the parent

    def _parent(self, key: RunKey) -> LiveRun | None:
        run = self._pool.in_memory(key)
        return None if run is None or run.gone or run.broker.outcome is not None or run.broker.frozen else run

    async def _send_once(self, key: RunKey, run: LiveRun, child: str, send: ChildSend) -> bool:
        """Send an event; return False if this server is about to stop."""
        backoff = Backoff(f"an event cannot be sent to its child {child} yet", key.run_id)
        request_id = f"{_REQUEST}{send.number}"
        while self._parent(key) is not None:
            try:
                await self.calls.send(caller_of(run.record), child, send.type, send.data, send.step, request_id)
                return True
            except DrainingError:
                return False
            except (StoreError, RunsError) as error:
                if getattr(error, "code_reason", "") in _OVER:
                    return True  # what comes late is dropped
                if may_pass(error) or isinstance(error, RunBlockedError):
                    await backoff.after(error)
                    continue
                logger.warning("run %s: its child %s does not take %s: %s", key.run_id, child, send.type, error)
                return True
        return True
