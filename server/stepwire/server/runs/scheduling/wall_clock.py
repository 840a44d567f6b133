"""What time it is for schedules.

The clock of the runs never goes back and does not count a machine's sleep: timeouts need that. A schedule follows the
clock on the wall, as people see it, and must be told when that is set.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from stepwire.workflow.hosting import Clock, SkippingClock

__all__ = ["Wall"]

logger = logging.getLogger("stepwire.schedules")

_LOOK_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.5
"""A clock that moved so much more or less than time passed was set; time servers correct less little by little."""


class Wall:
    """Tell the time, and when the clock was set.

    Replicas go by the clock of their database, and tests by one that they set: `clock` is the wall's then. One that
    tests set tells its alarms itself, and is not watched.
    """

    def __init__(self, clock: Clock, *, shared: bool, now: Callable[[], float] | None = None) -> None:
        """Make a wall.

        Args:
            clock: The clock of the runs.
            shared: Whether replicas share the store, so that the clock is the database's.
            now: Tells the time instead, for tests.
        """
        follows = shared or type(clock) is not Clock
        self.now: Callable[[], float] = now or (clock.now if follows else time.time)
        self._watched = now is not None or not isinstance(clock, SkippingClock)

    async def watch(self, changed: Callable[[], Awaitable[None]], every: float = _LOOK_SECONDS) -> None:
        """Call `changed` whenever the clock was set, for as long as this is awaited; again if it fails.

        Args:
            changed: What to call.
            every: Seconds between two looks at the clock.
        """
        ahead = self._ahead()
        while self._watched:
            await asyncio.sleep(every)
            if abs((moved := self._ahead()) - ahead) > _STEP_SECONDS:
                try:
                    await changed()
                except Exception as error:  # noqa: BLE001 - the watch must not end; the next look tries again
                    logger.warning("the clock was set, but the schedules cannot look again yet: %s", error)
                else:
                    ahead = moved

    def _ahead(self) -> float:
        return self.now() - time.monotonic()
