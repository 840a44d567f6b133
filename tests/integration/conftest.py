"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.integration.rpc_flows import Gate
from tests.integration.rpc_serving import Rpc, everything, serving
from tests.postgres import MISSING, PostgresServer, programs


@pytest.fixture
def gate() -> Gate:
    """What holds the steps of `hold`."""
    return Gate()


@pytest.fixture
async def rpc(gate: Gate) -> AsyncIterator[Rpc]:
    """A server that keeps nothing, with all workflows of the tests."""
    async with serving(everything(gate)) as found:
        yield found
        gate.opened.set()


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    """A server that makes no statistics by itself."""
    if programs() is None:
        pytest.skip(MISSING)
    with PostgresServer(["fsync=off", "autovacuum=off"]) as server:
        yield server
