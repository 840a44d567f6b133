"""Servers for the acceptance tests: real ones, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.serving import ServerProcess

EXAMPLES = (
    "examples/hello.py:Hello=hello",
    "examples/approval.py:Approval=approval",
    "examples/code_review.py:CodeReview=code_review",
    "tests/system/acceptance/flows.py:Chatter=chatter",
)


@pytest.fixture(scope="package")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the examples once for all tests of this folder; give the address."""
    with ServerProcess(tmp_path_factory.mktemp("data"), EXAMPLES) as server:
        yield server.address
