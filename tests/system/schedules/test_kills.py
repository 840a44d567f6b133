"""A slice of the kill programme; `python -m tests.system.schedules --count 1000` runs it at length."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.system.schedules.programme import programme


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_each_due_time_starts_one_run_over_kills(tmp_path: Path) -> None:
    report = programme(tmp_path, kills=4, seed=20)
    assert not report.violations, "\n".join(report.lines())
    assert sum(report.runs.values()) > 10
