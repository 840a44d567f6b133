"""A server in a thread of the test, that can be stopped, killed and started again, and whose time can be skipped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from stepwire.client import Client, SyncClient
from stepwire.server.app import Server
from stepwire.server.config import Settings
from stepwire.server.principal import DEFAULT_NAMESPACE
from stepwire.server.process.loops import cancel_tasks, new_loop, run_to_end
from stepwire.server.registry import Registry
from stepwire.server.runs import Runs
from stepwire.server.store import RunKey
from stepwire.server.testing.skipping import skip
from stepwire.server.testing.telling import HistoryEntry, history_of, report_of
from stepwire.workflow import Workflow
from stepwire.workflow.hosting import SkippingClock, StandingClock, adopt, is_adoptable

__all__ = ["RunningServer", "serve"]

_STALL_SECONDS: Final = 60.0
"""Real seconds after which a call that gets nowhere is given up. A busy machine makes everything slow: to be slow is no
failure."""

Served = Workflow | type[Workflow]
T = TypeVar("T")


class RunningServer:
    """A server of a test, made by `serve`.

    Attributes:
        address: HOST:PORT of gRPC; the same after a restart.
        web_address: HOST:PORT of the web; None unless the settings have a `web_address`.
    """

    def __init__(
        self, registry: Registry, settings: dict[str, Any], call: Callable[..., Any], clock: SkippingClock
    ) -> None:
        self.address = ""
        self.web_address: str | None = None
        self._registry = registry
        self._settings = settings
        self._call = call
        self._clock = clock
        self._server: Server | None = None

    def client(self, **options: Any) -> SyncClient:
        """Return a blocking client of this server; close it, or use it in `with`."""
        return SyncClient(self.address, **options)

    def async_client(self, **options: Any) -> Client:
        """Return an asyncio client of this server; close it, or use it in `async with`."""
        return Client(self.address, **options)

    # -- stop, kill, start ----------------------------------------------------------------------------------------

    def start(self, *workflows: Served, **named: Served) -> None:
        """Start the server where it was, with other code if workflows are given, as `serve` takes them.

        Raises:
            RuntimeError: It runs.
            WorkflowConfigurationError, StoreError, OSError: As `Server.start` says.
        """
        if self._server is not None:
            raise RuntimeError("the server runs: stop or kill it first")
        if workflows or named:
            self._registry = registry_of(*workflows, **named)
        self._call(self._start())

    async def _start(self) -> None:
        server = Server(self._registry, Settings(**self._settings), self._clock)
        await server.start()
        self._server = server
        self.address = self._settings["address"] = server.address
        if server.web_address is not None:
            self.web_address = self._settings["web_address"] = server.web_address

    def stop(self) -> None:
        """Stop the server as SIGTERM does: it drains and commits. Harmless when it does not run."""
        server, self._server = self._server, None
        if server is not None:
            self._call(server.stop())

    def kill(self) -> None:
        """Stop the server as SIGKILL does: what is not committed is lost, and nobody is told. Harmless when it is off.

        Steps that are at work get a cancellation, since the process of the test goes on; what they do then changes
        nothing. After the next start they run again, with the next `attempt`.
        """
        server, self._server = self._server, None
        if server is not None:
            self._call(server.kill())

    def restart(self, *workflows: Served, kill: bool = False, **named: Served) -> None:
        """Stop the server, or kill it, and start it again; with other code if workflows are given.

        Raises:
            RuntimeError: The server keeps nothing: give `serve` a data directory.
        """
        if self._settings["data"] == ":memory:":
            raise RuntimeError("this server keeps its runs in memory: serve(…, data=tmp_path) keeps them in files")
        if kill:
            self.kill()
        else:
            self.stop()
        self.start(*workflows, **named)

    # -- time -----------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """Return what time it is for the server, in UTC."""
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def skip(self, time: timedelta | None = None, **units: float) -> None:
        """Let time pass at once: all waits, sleeps, retries, timeouts and retention of this server go by its clock.

        At each due time on the way the runs do what is due, in order, before the clock goes on. A step that is at work
        is given a quarter of a second of real time to finish; one that then still waits for something of its own is
        taken to wait for longer. What a step waits for by itself (`asyncio.sleep`, a library) goes by real time.

        Args:
            time: How much; or
            **units: as in `timedelta`: `skip(days=7)`, `skip(hours=1, minutes=30)`.

        Raises:
            RuntimeError: The server does not run.
            ValueError: Time does not go back.
            TimeoutError: The runs stay busy, and the clock stands still, for a minute of real time.
        """
        seconds = (time if time is not None else timedelta(**units)).total_seconds()
        if seconds < 0:
            raise ValueError("time does not go back")
        self._call(skip(self._runs, self._clock, seconds))

    # -- what happened --------------------------------------------------------------------------------------------

    def history(self, run_id: str, namespace: str = DEFAULT_NAMESPACE) -> list[HistoryEntry]:
        """Return the log of a run, internal entries included. Printing an entry gives a line.

        Args:
            run_id: The run; there may be none of this id, and then there are no entries.
            namespace: Its namespace.
        """
        found: list[HistoryEntry] = self._call(history_of(self._runs, RunKey(namespace, run_id)))
        return found

    def report(self) -> str:
        """Return what a failed test should know: the runs that have not completed, why, and their last entries."""
        if self._server is None or self._server.runs is None:
            return ""
        text: str = self._call(report_of(self._server.runs))
        return text

    @property
    def _runs(self) -> Runs:
        if self._server is None or self._server.runs is None:
            raise RuntimeError("the server does not run: start it first")
        return self._server.runs


def registry_of(*workflows: Served, **named: Served) -> Registry:
    """Return a registry of workflows: by their class names, or by the names given. Those of LlamaIndex are adopted."""
    registry = Registry()
    unnamed = [((each if isinstance(each, type) else type(each)).__name__, each) for each in workflows]
    for name, workflow in (*unnamed, *named.items()):
        registry.add(name, adopt(workflow) if is_adoptable(workflow) else workflow)
    return registry


@contextmanager
def serve(
    *workflows: Served,
    data: str | Path = ":memory:",
    settings: dict[str, Any] | None = None,
    standing_at: datetime | None = None,
    **named: Served,
) -> Iterator[RunningServer]:
    """Serve workflows until the block ends. What leaves the block with an exception is told what became of the runs.

    Args:
        *workflows: Served under their class names.
        data: A data directory, to test what survives a restart; by default nothing is kept.
        settings: Further fields of `Settings`. Failures are told with tracebacks unless `failure_detail` says less.
        standing_at: What time it is for the server, which then stands still but for `skip`: a test of schedules sees
            the same at any hour. By default it is the present time, and time goes on.
        **named: Workflows served under these names.

    Raises:
        WorkflowConfigurationError, StoreError, OSError: As `Server.start` says.
    """
    registry = registry_of(*workflows, **named)
    chosen = {"address": "127.0.0.1:0", "data": str(data), "grace": 0.0, "failure_detail": "traceback"}
    clock = SkippingClock() if standing_at is None else StandingClock(standing_at.timestamp())
    loop, over = new_loop(), asyncio.Event()

    def run() -> None:
        run_to_end(loop, over.wait(), lambda: None)
        cancel_tasks(loop)  # of servers that were killed

    thread = threading.Thread(target=run, name="stepwire-test-server", daemon=True)
    thread.start()

    def call(work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, loop)
        while True:
            before = clock.skips
            done, _ = wait((future,), _STALL_SECONDS)
            if done:
                return future.result()
            if clock.skips == before:
                future.cancel()
                raise TimeoutError(f"the server got nowhere for {_STALL_SECONDS:g} seconds: its runs stay busy")

    server = RunningServer(registry, {**chosen, **(settings or {})}, call, clock)
    try:
        server.start()
        try:
            yield server
        except Exception as error:  # a failed assertion, or whatever the test raises
            tell(error, [server])
            raise
        finally:
            server.stop()
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


_HEAD: Final = "What became of the runs:"


def tell(error: BaseException, servers: list[RunningServer]) -> None:
    """Add to an exception what became of the runs of servers, unless it says so already."""
    if any(note.startswith(_HEAD) for note in getattr(error, "__notes__", ())):
        return
    reports = [report for server in servers if (report := server.report())]
    if reports:
        error.add_note("\n".join([_HEAD, *reports]))
