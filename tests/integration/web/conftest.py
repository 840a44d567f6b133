"""Fixtures of the web's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.web.support import Web, web


@pytest.fixture(scope="module")
def site() -> Iterator[Web]:
    """A server with the web, for all tests of a module."""
    with web() as found:
        yield found
