"""The server, composed of its rooms: start them in order, stop them in order."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import grpc

from stepwire.server.addresses import is_loopback
from stepwire.server.config import Settings
from stepwire.server.config_errors import ConfigError
from stepwire.server.gauges import Gauges
from stepwire.server.health import HealthKeeper
from stepwire.server.listener import Listener
from stepwire.server.registry import Registry
from stepwire.server.rpc import Calls, Lull, Peers, ServerFacts, open_audit
from stepwire.server.runs import Runs
from stepwire.server.runs.hosting.loading.crash_notes import CrashNotes
from stepwire.server.runs.hosting.overview import locate
from stepwire.server.runs.scheduling.declared import apply_declared, declared_specs
from stepwire.server.runs.scheduling.spec import ScheduleSpec
from stepwire.server.telemetry.metrics import Metrics
from stepwire.server.telemetry.observing import Observing
from stepwire.server.telemetry.probes import Probes
from stepwire.server.telemetry.readiness import DRAINING
from stepwire.server.wiring import (
    advertised,
    authenticator_of,
    directory_of,
    in_postgres,
    limits_of,
    open_access,
    peers_of,
    runs_of,
    signer_of,
    store_of,
    web_of,
)
from stepwire.workflow.hosting import CLOCK, Clock, WorkflowConfigurationError

if TYPE_CHECKING:
    from stepwire.server.web import WebServer

__all__ = ["ConfigError", "Server", "Settings", "is_loopback"]

logger = logging.getLogger("stepwire.server")

_SWITCH_SECONDS: Final = 0.0005
"""How long a thread keeps the interpreter while another wants it. With Python's 5 ms the store's writer commits a third
as often beside a busy event loop."""
_STOP_SECONDS: Final = 3.5
"""Seconds beyond the grace after which a stop no longer waits for the store."""


def _nothing() -> None:
    """Close nothing."""


class Server:
    """A server: `start` it, `stop` it."""

    def __init__(self, registry: Registry, settings: Settings, clock: Clock = CLOCK) -> None:
        """Make a server that is not started.

        Args:
            registry: The workflows to serve.
            settings: How to serve them.
            clock: What time it is for the runs, and for what is kept of them.
        """
        self._clock = clock
        self._started_at = 0.0
        self.registry = registry
        self.settings = settings
        self.metrics = Metrics()
        self.calls = Calls(limits_of(settings), authenticator_of(settings), self.metrics)
        self.notes = CrashNotes(directory_of(settings))
        """What outlives a crash of the process."""
        self.runs: Runs | None = None
        """The runs, once the server has started."""
        self._store = store_of(settings, self.metrics, clock)
        self._listener = Listener(settings, self._probed)
        self._health = HealthKeeper(self._store, self._listener.set_serving)
        unready = self._health.readiness.why_not
        self._probes = Probes(unready)
        self._gauges = Gauges(self.calls, directory_of(settings), unready)
        self.observing = Observing(self.metrics, self._gauges.read, self._probes.answer, self._gauges.details)
        self._hastened = asyncio.Event()
        self._web: WebServer | None = None
        self._peers: Peers | None = None
        self._declared: dict[str, ScheduleSpec] = {}
        self._close_audit: Callable[[], None] = _nothing

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
        self._started_at = time.time()
        credentials = open_access(self.settings, self.calls.authenticator)
        self._open_audit()
        self._warn_of_exposure(credentials)
        await self._store.open()
        try:
            self._open_admin()
            await self._open_runs(credentials)
            await self._listener.start()
            if self._peers is not None:
                self._peers.open_at(advertised(self.settings, self.address))
                self._gauges.unreached = self._peers.reach.unreached
            self.calls.start()
            if self._web is not None:
                await self._web.start(self._listener.local)
            await self._health.start()
            if take_up:
                self.take_up()
        except BaseException:  # also a cancelled start: files and the lock are given back
            self.observing.close()
            self._close_audit()
            await self._store.close()
            raise

    def take_up(self) -> None:
        """Begin to take up unfinished runs, in the background: one whose loading crashes must not stop all the rest."""
        if self.runs is not None:
            self.runs.keeper.start()
            schedules, namespace = self.runs.schedules, self.settings.schedule_namespace
            schedules.start(apply_declared(schedules, self._declared, namespace))

    def _warn_of_exposure(self, credentials: grpc.ServerCredentials | None) -> None:
        if not self.settings.exposed:
            return
        if credentials is None:
            logger.warning("INSECURE: %s listens beyond loopback without TLS", self.settings.address)
        if self.calls.authenticator is None:
            logger.warning("INSECURE: %s listens beyond loopback without authentication", self.settings.address)

    def _open_audit(self) -> None:
        if self.settings.audit_log is not None:
            try:
                self._close_audit = open_audit(self.settings.audit_log)
            except OSError as error:
                raise ConfigError(f"audit_log: cannot write {error.filename}: {error.strerror}") from None

    def _open_admin(self) -> None:
        address = self.settings.admin_address
        if address is None:
            return
        self.observing.open_admin(address)
        logger.info("admin port on %s", self.observing.admin_address)
        if not is_loopback(address):
            logger.warning("INSECURE: other machines can reach the admin port %s, without authentication", address)

    def _bind_web(self) -> None:
        web = web_of(self.settings, self.port)
        if web is not None and web.bind():
            self._web = web

    async def _open_runs(self, credentials: grpc.ServerCredentials | None) -> None:
        """Bind the address, get the runs ready, and watch the loop that they work on."""
        self.runs = runs = runs_of(self.settings, self.registry, self._store, self.metrics, self.notes, self._clock)
        self._peers = peers = await peers_of(self.settings, self._store, runs)
        signer = await signer_of(self.settings, self._store)
        self._listener.bind(runs, self.calls, signer, self._facts, credentials, peers)
        self._bind_web()
        await self._store.cluster.join(advertised(self.settings, self.address), runs.pool.versions)
        await runs.open()
        self._declared = await self._declared_schedules()
        if peers is not None:
            peers.open()
        self._gauges.pool = runs.pool
        if self.settings.watchdog:
            self.observing.watch_loop(self.settings.watchdog, partial(locate, runs.pool))

    async def _declared_schedules(self) -> dict[str, ScheduleSpec]:
        try:
            return await declared_specs(self.registry)
        except WorkflowConfigurationError as error:
            raise ConfigError(str(error)) from error

    def _facts(self) -> ServerFacts:
        """Return what callers may be told about the server."""
        from stepwire.server.config_table import told  # only those who ask need it

        store = (
            "postgresql"
            if in_postgres(self.settings)
            else "memory"
            if directory_of(self.settings) is None
            else "sqlite"
        )
        return ServerFacts(
            version=self.observing.version,
            started_at=self._started_at,
            store=store,
            replicas=max(1, self._store.cluster.size),
            unready=self._health.readiness.why_not(),
            authenticates=self.calls.authenticator is not None,
            settings=told(self.settings),
        )

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
        await self._end_calls()
        closed = await self._close_store(end)
        self._close_audit()
        self.observing.close()
        return committed and closed

    async def kill(self) -> None:
        """Stop as a killed process does: what is not handed to the store by now is lost, and no step goes on."""
        await self._health.leave()
        if self.runs is not None:
            self.runs.schedules.stop()
            self.runs.keeper.stop()
            self.runs.pool.vanish()
        await self._end_calls()
        await self._store.close()
        self.notes.leave()
        self._close_audit()
        self.observing.close()

    async def _end_calls(self) -> None:
        """End the calls of clients and replicas; take no more."""
        self.calls.stop()
        if self._web is not None:
            await self._web.stop()
        if self._peers is not None:
            await self._peers.leave()
        await self._listener.stop()
        if self._peers is not None:
            await self._peers.close()

    def _probed(self, refused: bool) -> None:
        self._probes.note(refused=refused)

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
        self.runs.schedules.stop()
        self._probes.begin()
        lull = Lull(self.calls)

        def unused() -> bool:
            return lull.lasted() and self._probes.heard

        committed = await self.runs.keeper.drain(self.settings.grace, self._hastened, unused)
        self.runs.pool.end_readers()
        return committed

    async def _close_store(self, end: float) -> bool:
        try:
            async with asyncio.timeout_at(end):
                await self._store.close()
        except TimeoutError:
            logger.error("the store does not close; nothing that was acknowledged is lost")
            return False
        return True
