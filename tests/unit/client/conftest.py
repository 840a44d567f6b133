from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.unit.client.fake import FakeServer

from stepwire.client import Client


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with Client(server.address, timeout=60, reconnect_timeout=60) as client:
        yield client
