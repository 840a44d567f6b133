"""The stores that the contract is held against."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.postgres import MISSING, PostgresServer, programs
from tests.unit.contract.support import Adapter

from stepwire.server.store import (
    MemoryStore,
    RunStore,
    SqliteStore,
)
from stepwire.server.store.postgres import PostgresStore

ADAPTERS: dict[str, Adapter] = {
    "memory": lambda _, clock: MemoryStore(clock),
    "sqlite": lambda directory, clock: SqliteStore(directory, clock=clock),
}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server of the tests' own."""
    if programs() is None:
        pytest.skip(MISSING)
    # What is not written to the disk for sure is enough here, and twice as fast.
    with PostgresServer(["fsync=off"]) as server:
        yield server


@pytest.fixture(params=[*ADAPTERS, "postgres"])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Make a store with a clock; some tests set it."""
    if request.param in ADAPTERS:
        return ADAPTERS[request.param]
    server: PostgresServer = request.getfixturevalue("postgres")
    server.empty()
    return lambda _, clock: PostgresStore(server.dsn, clock=clock)


@pytest.fixture
async def store(adapter: Adapter, tmp_path: Path) -> AsyncIterator[RunStore]:
    store = adapter(tmp_path, time.time)
    await store.open()
    yield store
    await store.close()
