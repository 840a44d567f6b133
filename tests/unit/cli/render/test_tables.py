"""Lists."""

from __future__ import annotations

from tests.unit.cli.render.things import NOW, WAITER, info, shown

from stepwire.cli.render.tables import runs_table
from stepwire.client import RunStatus


def test_runs_table() -> None:
    table = runs_table([info(pending_waiters=(WAITER,)), info(run_id="r2", status=RunStatus.COMPLETED)], NOW)
    lines = shown(table).splitlines()
    assert lines[0].split() == ["RUN", "WORKFLOW", "STATUS", "AGE", "QUESTIONS"]
    assert lines[2].split() == ["r1", "orders", "waiting", "3m00s", "Ship", "it?", "(total=3)"]
    assert lines[3].split() == ["r2", "orders", "completed", "3m00s"]
