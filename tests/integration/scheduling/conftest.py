"""A server of `Quick` and `Job`, with its data in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.scheduling.support import NOON, Job, Quick, Schedules

from stepwire.server.testing import serve


@pytest.fixture
def schedules(tmp_path: Path) -> Iterator[Schedules]:
    with serve(Quick, Job, data=tmp_path, standing_at=NOON) as server:
        yield Schedules(server)
