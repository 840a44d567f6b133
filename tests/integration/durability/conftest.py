"""Fixtures of the tests of durability."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stepwire.workflow.broker.timing.clock import CLOCK


@pytest.fixture(autouse=True)
def time_passes() -> Iterator[None]:
    """Set the clock right again after a test that advanced it."""
    offset = CLOCK._offset
    yield
    CLOCK._offset = offset
