"""Say on standard error how far long work is."""

from __future__ import annotations

import time
from typing import Final

from stepwire.cli.render.terminal import Output

__all__ = ["Ticker"]

_TELL_SECONDS: Final = 5.0
"""Seconds between two lines of progress where no line can be redrawn."""


class Ticker:
    """Show one line that is redrawn, or a line every few seconds where none can be; a context manager."""

    def __init__(self, output: Output, first: str) -> None:
        """Show `first` until there is something to tell."""
        self._output = output
        self._status = output.err.status(first) if output.live else None
        self._told = time.monotonic()

    def __enter__(self) -> None:
        if self._status is not None:
            self._status.start()

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def tell(self, text: str) -> None:
        """Show how far the work is."""
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._told >= _TELL_SECONDS:
            self._told = time.monotonic()
            self._output.note(text)
