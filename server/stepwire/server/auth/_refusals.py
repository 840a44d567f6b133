"""Say in the log why credentials are refused. Clients are not told: it would help to guess one."""

from __future__ import annotations

import logging
import time
from typing import Final

logger = logging.getLogger("stepwire.auth")

_BURST: Final = 20.0
"""Lines at once. Beyond them one a second is written, so that calls without a credential cannot fill the log."""


class RefusalLog:
    """Write at most a line a second, after a burst, and count the lines left out."""

    def __init__(self) -> None:
        self._room = _BURST
        self._filled = time.monotonic()
        self._left_out = 0

    def tell(self, what: str, reason: str) -> None:
        """Write that a credential was refused.

        Args:
            what: What kind of credential, as the beginning of a sentence.
            reason: Why, without anything from a credential that was not verified.
        """
        now = time.monotonic()
        self._room = min(_BURST, self._room + now - self._filled)
        self._filled = now
        if self._room < 1.0:
            self._left_out += 1
            return
        self._room -= 1.0
        more = f" ({self._left_out} more were refused since the last such line)" if self._left_out else ""
        self._left_out = 0
        logger.warning("%s was refused: %s%s", what, reason, more)
