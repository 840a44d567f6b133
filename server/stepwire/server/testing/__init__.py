"""A real server for authors' tests, on a free port of this machine and in its own thread.

Use `serve` as a context manager, or the pytest fixture `stepwire_serve`, after
``pytest_plugins = ["stepwire.server.testing"]`` in a conftest::

    def test_it_greets(stepwire_serve):
        server = stepwire_serve(Greet)
        with server.client() as client:
            assert client.start_run("Greet", name="Ada").result() == "Hello, Ada!"

    def test_it_reminds_after_a_week(stepwire_serve, tmp_path):
        server = stepwire_serve(Reminder, data=tmp_path)
        with server.client() as client:
            run = client.start_run("Reminder")
            server.skip(days=3)
            server.restart(kill=True)
            server.skip(days=4)
            assert run.result() == "reminded"
            assert [entry.type for entry in server.history(run.run_id)] == [...]

A test that fails says what became of the runs: their status, errors with tracebacks, and last log entries.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from stepwire.server.testing.restoring import restore_snapshot
from stepwire.server.testing.running import RunningServer, Served, serve, tell
from stepwire.server.testing.telling import HistoryEntry

__all__ = ["HistoryEntry", "RunningServer", "restore_snapshot", "serve", "stepwire_restore", "stepwire_serve"]

_SERVERS = pytest.StashKey[list[RunningServer]]()


@pytest.fixture
def stepwire_serve(request: pytest.FixtureRequest) -> Iterator[Callable[..., RunningServer]]:
    """Return a function that serves workflows until the test ends. Its parameters are those of `serve`."""
    servers = request.node.stash.setdefault(_SERVERS, [])
    with ExitStack() as running:

        def start(*workflows: Served, **options: Any) -> RunningServer:
            server = running.enter_context(serve(*workflows, **options))
            servers.append(server)
            return server

        yield start
    servers.clear()


@pytest.fixture
def stepwire_restore() -> Callable[..., Any]:
    """Return `restore_snapshot`: it restores a saved run under the code under test."""
    return restore_snapshot


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the error of a failed test what became of the runs of its servers."""
    if call.when == "call" and call.excinfo is not None and (servers := item.stash.get(_SERVERS, None)):
        tell(call.excinfo.value, servers)
    return (yield)
