"""The server, composed of its rooms: start them in order, stop them in order."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Final

import grpc

from stepwire.server.config import ConfigError, Settings, is_loopback
from stepwire.server.gauges import Gauges
from stepwire.server.health import HealthKeeper
from stepwire.server.listener import Listener
from stepwire.server.registry import Registry
from stepwire.server.rpc import Calls
from stepwire.server.runs import Runs
from stepwire.server.runs.hosting.crash_notes import CrashNotes
from stepwire.server.telemetry.metrics import Metrics
from stepwire.server.telemetry.observing import Observing
from stepwire.server.telemetry.readiness import DRAINING
from stepwire.server.wiring import (
    authenticator_of,
    directory_of,
    limits_of,
    open_access,
    runs_of,
    signer_of,
    store_of,
    web_of,
)

if TYPE_CHECKING:
    from stepwire.server.web import WebServer

__all__ = ["ConfigError", "Server", "Settings", "is_loopback"]

logger = logging.getLogger("stepwire.server")

_SWITCH_SECONDS: Final = 0.0005
"""How long a thread keeps the interpreter while another wants it. With Python's 5 ms the store's writer commits a third
as often beside a busy event loop."""
_STOP_SECONDS: Final = 3.5
"""Seconds beyond the grace after which a stop no longer waits for the store."""


class Server:
    """A server: `start` it, `stop` it."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Make a server that is not started.

        Args:
            registry: The workflows to serve.
            settings: How to serve them.
        """
        self.registry = registry
        self.settings = settings
        self.metrics = Metrics()
        self.calls = Calls(limits_of(settings), authenticator_of(settings), self.metrics)
        self.notes = CrashNotes(directory_of(settings))
        """What outlives a crash of the process."""
        self.runs: Runs | None = None
        """The runs, once the server has started."""
        self._store = store_of(settings, self.metrics)
        self._listener = Listener(settings)
        self._health = HealthKeeper(self._store, self._listener.set_serving)
        unready = self._health.readiness.why_not
        self._gauges = Gauges(self.calls, directory_of(settings), unready)
        self.observing = Observing(self.metrics, self._gauges.read, unready)
        self._hastened = asyncio.Event()
        self._web: WebServer | None = None

    @property
    def address(self) -> str:
        """Return where the server listens, with the port that it got."""
        return self._listener.address

    @property
    def port(self) -> int:
        """Return the port that the server got; 0 before its start."""
        return self._listener.port

    @property
    def web_address(self) -> str | None:
        """Return where the web is served, with the port that it got; None when it is not."""
        return None if self._web is None else self._web.address

    # -- start ----------------------------------------------------------------------------------------------------

    async def start(self, *, take_up: bool = True) -> None:
        """Open the store, listen, and begin to take up unfinished runs.

        Args:
            take_up: False leaves the runs to a call of `take_up`.

        Raises:
            ConfigError: An access, key or TLS file is wrong.
            StoreError: The store cannot be opened.
            OSError: An address cannot be used.
        """
        sys.setswitchinterval(_SWITCH_SECONDS)
        credentials = open_access(self.settings, self.calls.authenticator)
        self._warn_of_exposure(credentials)
        await self._store.open()
        try:
            self._open_admin()
            await self._open_runs(credentials)
            await self._listener.start()
            self.calls.start()
            if self._web is not None:
                await self._web.start()
            await self._health.start()
            if take_up:
                self.take_up()
        except BaseException:
            self.observing.close()
            await self._store.close()
            raise

    def take_up(self) -> None:
        """Begin to take up unfinished runs, in the background: one whose loading crashes must not stop all the rest."""
        if self.runs is not None:
            self.runs.keeper.start()

    def _warn_of_exposure(self, credentials: grpc.ServerCredentials | None) -> None:
        if not self.settings.exposed:
            return
        if credentials is None:
            logger.warning("INSECURE: %s listens beyond loopback without TLS", self.settings.address)
        if self.calls.authenticator is None:
            logger.warning("INSECURE: %s listens beyond loopback without authentication", self.settings.address)

    def _open_admin(self) -> None:
        address = self.settings.admin_address
        if address is None:
            return
        self.observing.open_admin(address)
        logger.info("admin port on %s", self.observing.admin_address)
        if not is_loopback(address):
            logger.warning("INSECURE: other machines can reach the admin port %s, without authentication", address)

    def _bind_web(self) -> None:
        web = web_of(self.settings)
        if web is not None and web.bind():
            self._listener.also_at(web.target)
            self._web = web

    async def _open_runs(self, credentials: grpc.ServerCredentials | None) -> None:
        """Bind the address, get the runs ready, and watch the loop that they work on."""
        self.runs = runs = runs_of(self.settings, self.registry, self._store, self.metrics, self.notes)
        self._listener.bind(runs, self.calls, await signer_of(self.settings, self._store), credentials)
        self._bind_web()
        await runs.open()
        self._gauges.pool = runs.pool
        if self.settings.watchdog:
            self.observing.watch_loop(self.settings.watchdog, runs.pool.locate)

    def reload(self) -> None:
        """Read the access and JWKS files again if they changed; TLS files are looked at by each new connection."""
        if self.calls.authenticator is not None:
            self.calls.authenticator.refresh()
        logger.info("reloaded: credentials and certificates are as in their files")

    # -- stop -----------------------------------------------------------------------------------------------------

    async def stop(self) -> bool:
        """Stop gracefully: refuse new runs, give steps their grace, freeze and commit, end the calls, close.

        Return within 4 seconds beyond the grace. Return False when the store did not commit or close in time: its
        threads still hang then.
        """
        end = asyncio.get_running_loop().time() + self.settings.grace + _STOP_SECONDS
        await self._health.drain()
        committed = await self._drain_runs()
        self.calls.stop()
        if self._web is not None:
            await self._web.stop()
        await self._listener.stop()
        closed = await self._close_store(end)
        self.observing.close()
        return committed and closed

    def refuse_work(self) -> None:
        """Answer from now on that the server takes no work: a stop is near. From any thread."""
        self._health.readiness.phase = DRAINING
        self.notes.stopping()

    def hasten(self) -> None:
        """Cut the grace of a stop: running steps get no more time."""
        self._hastened.set()

    async def _drain_runs(self) -> bool:
        if self.runs is None:
            return True
        committed = await self.runs.keeper.drain(self.settings.grace, self._hastened)
        self.runs.pool.feeds.end_all()
        return committed

    async def _close_store(self, end: float) -> bool:
        try:
            async with asyncio.timeout_at(end):
                await self._store.close()
        except TimeoutError:
            logger.error("the store does not close; nothing that was acknowledged is lost")
            return False
        return True
