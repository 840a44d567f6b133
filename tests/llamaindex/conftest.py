"""Tests of adopted workflows; they need packages that only environments of their own have."""

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.serving import ServerProcess

from stepwire.client import Client

HERE = Path(__file__).parent
collect_ignore_glob = [] if importlib.util.find_spec("workflows") else ["test_*.py", "flows.py", "agents.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.llamaindex)
            # Their packages warn of their own deprecated parts.
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    """Return a client of the file's server."""
    async with Client(server.address) as client:
        yield client
