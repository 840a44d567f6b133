"""A real server for authors' tests, on a free port of this machine and in its own thread.

Use `serve` as a context manager, or the pytest fixture `stepwire_serve`, after
``pytest_plugins = ["stepwire.server.testing"]`` in a conftest::

    def test_it_greets(stepwire_serve):
        server = stepwire_serve(Greet)
        with server.client() as client:
            assert client.start_run("Greet", name="Ada").result() == "Hello, Ada!"
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from stepwire.client import Client, SyncClient
from stepwire.server.app import Server
from stepwire.server.config import Settings
from stepwire.server.registry import Registry
from stepwire.workflow import Workflow

__all__ = ["RunningServer", "serve", "stepwire_serve"]

_START_SECONDS = 30.0

Served = Workflow | type[Workflow]


class RunningServer:
    """A server that runs now.

    Attributes:
        address: HOST:PORT of gRPC.
        web_address: HOST:PORT of the web; None unless the settings have a `web_address`.
    """

    def __init__(self, address: str, web_address: str | None = None) -> None:
        self.address = address
        self.web_address = web_address

    def client(self, **options: Any) -> SyncClient:
        """Return a blocking client of this server; close it, or use it in `with`."""
        return SyncClient(self.address, **options)

    def async_client(self, **options: Any) -> Client:
        """Return an asyncio client of this server; close it, or use it in `async with`."""
        return Client(self.address, **options)


@contextmanager
def serve(
    *workflows: Served, data: str | Path = ":memory:", settings: dict[str, Any] | None = None, **named: Served
) -> Iterator[RunningServer]:
    """Serve workflows until the block ends.

    Args:
        *workflows: Served under their class names.
        data: A data directory, to test what survives a restart; by default nothing is kept.
        settings: Further fields of `Settings`.
        **named: Workflows served under these names.

    Raises:
        WorkflowConfigurationError, StoreError, OSError: As `Server.start` says.
    """
    registry = Registry()
    for workflow in workflows:
        kind = workflow if isinstance(workflow, type) else type(workflow)
        registry.add(kind.__name__, workflow)
    for name, workflow in named.items():
        registry.add(name, workflow)
    server = Server(
        registry, Settings(**{"address": "127.0.0.1:0", "data": str(data), "grace": 0.0, **(settings or {})})
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stepwire-test-server", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(_START_SECONDS)
        try:
            yield RunningServer(server.address, server.web_address)
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(_START_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def stepwire_serve() -> Iterator[Callable[..., RunningServer]]:
    """Return a function that serves workflows until the test ends. Its parameters are those of `serve`."""
    with ExitStack() as running:

        def start(*workflows: Served, **options: Any) -> RunningServer:
            return running.enter_context(serve(*workflows, **options))

        yield start
