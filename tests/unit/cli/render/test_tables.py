"""Lists."""

from __future__ import annotations

from datetime import timedelta

from tests.unit.cli.render.things import NOW, WAITER, info, shown

from stepwire.cli.render.tables import runs_table, workflows_table
from stepwire.client import Outcome, Pause, RunStatus, WorkflowSummary
from stepwire.client._core.payload import to_payload


def test_a_blocked_run_shows_why_and_not_what_it_asks() -> None:
    run = info(pending_waiters=(WAITER,), status=RunStatus.BLOCKED, blocked_reason="no step: ship")
    assert shown(runs_table([run], NOW)).splitlines()[2].split()[2:] == ["blocked", "3m00s", "no", "step:", "ship"]


def test_runs_table() -> None:
    table = runs_table([info(pending_waiters=(WAITER,)), info(run_id="r2", status=RunStatus.COMPLETED)], NOW)
    lines = shown(table).splitlines()
    assert lines[0].split() == ["RUN", "WORKFLOW", "STATUS", "AGE", "ABOUT"]
    assert lines[2].split() == ["r1", "orders", "waiting", "3m00s", "Ship", "it?", "(total=3)"]
    assert lines[3].split() == ["r2", "orders", "completed", "3m00s"]


def test_a_run_tells_its_result_its_pause_and_its_retry() -> None:
    done = Outcome(RunStatus.COMPLETED, "StopEvent", to_payload({"paid": 3}), None, "")
    cancelled = Outcome(RunStatus.CANCELLED, "WorkflowCancelledEvent", to_payload(None), None, "wrong order")
    pause = Pause(NOW - timedelta(seconds=6), "ada", "bank", True)
    table = runs_table(
        [
            info(status=RunStatus.COMPLETED, outcome=done),
            info(status=RunStatus.CANCELLED, outcome=cancelled, ended_at=NOW, retried_as=("r0", "r9")),
            info(pending_waiters=(WAITER,), pause=pause),
        ],
        NOW,
    )
    about = [line.split("3m00s")[1].strip() for line in shown(table).splitlines()[2:]]
    assert about == [
        '{"paid":3}',
        "wrong order, 0.0s ago; retried as r9",
        "Ship it? (total=3); workflow paused 6.0s ago: bank",
    ]


def test_a_paused_workflow_has_a_column_that_says_so() -> None:
    paused = WorkflowSummary("orders", "1", "Pay an order.", Pause(NOW, "", "ada", True))
    rows = shown(workflows_table([paused, WorkflowSummary("greet", "1", "Greet.")])).splitlines()
    assert [row.split()[:3] for row in (rows[0], *rows[2:])] == [
        ["WORKFLOW", "VERSION", "STATUS"],
        ["orders", "1", "paused"],
        ["greet", "1", "served"],
    ]
