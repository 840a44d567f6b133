"""One server for each file of tests, and its address in the environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from tests.integration.cli.support import FLOWS
from tests.serving import ServerProcess

collect_ignore_glob = ["test_*"] if sys.platform == "win32" else []  # no pseudo terminals, no shell


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(":memory:", [FLOWS]) as process:
        yield process


@pytest.fixture(autouse=True)
def environment(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_SERVER", server.address)
