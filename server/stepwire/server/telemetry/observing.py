"""Let an operator see a server: the admin port and the watchdog, opened and closed together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from stepwire.server.telemetry.blocking_step import Locate
from stepwire.server.telemetry.metrics import Metrics, Reading
from stepwire.server.telemetry.watchdog import Watchdog

if TYPE_CHECKING:
    from stepwire.server.telemetry.admin import AdminServer

__all__ = ["Observing"]


class Observing:
    """Own the admin port and the watchdog of one server. Both have threads of their own."""

    def __init__(
        self,
        metrics: Metrics,
        readings: Callable[[], Iterable[Reading]],
        unready: Callable[[], str],
        details: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Make an observing.

        Args:
            metrics: What the server counts.
            readings: Read at each scrape, on the scraper's thread.
            unready: Says why the server takes no work; empty when it does.
            details: Gives lines about what does not keep it from working, but should be looked at.
        """
        self._metrics = metrics
        self._readings = readings
        self._unready = unready
        self._details = details
        self._admin: AdminServer | None = None
        self._watchdog: Watchdog | None = None

    @property
    def version(self) -> str:
        """Return the version of Stepwire."""
        return _version()

    @property
    def admin_address(self) -> str:
        """Return where the admin port listens, with the port that it got; empty without one."""
        return self._admin.address if self._admin is not None else ""

    def open_admin(self, address: str) -> None:
        """Open the admin port. Raises OSError when the address cannot be used."""
        # Imported here: prometheus-client takes a tenth of the server's start, and not every server has the port.
        from stepwire.server.telemetry.admin import AdminServer
        from stepwire.server.telemetry.prometheus import registry_of

        self._admin = AdminServer(registry_of(self._metrics, _version(), self._readings), self._unready, self._details)
        self._admin.start(address)

    def watch_loop(self, span: float, locate: Locate) -> None:
        """Watch the running event loop.

        Args:
            span: Seconds that it may be blocked before the log names the code.
            locate: Finds the run of a step.
        """
        self._watchdog = Watchdog(span, self._metrics.loop, locate)
        self._watchdog.start()

    def pausing(self) -> contextlib.AbstractContextManager[None]:
        """Have the watchdog overlook a block that is intended."""
        return self._watchdog.paused() if self._watchdog is not None else contextlib.nullcontext()

    def close(self) -> None:
        """Close both."""
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._admin is not None:
            self._admin.stop()


def _version() -> str:
    try:
        return version("stepwire")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
