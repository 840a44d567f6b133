"""What the tests of families share."""

from __future__ import annotations

import pytest
from tests.integration.children.family import BEGUN, GATE


@pytest.fixture(autouse=True)
def _afresh() -> None:
    BEGUN.clear()
    GATE.clear()
