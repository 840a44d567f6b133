"""Lists."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

from tests.unit.cli.render.things import NOW, WAITER, info, shown

from stepwire.cli.render.tables import runs_table, workflows_table
from stepwire.client import (
    ActiveDelivery,
    ChildSummary,
    DeliveryStatus,
    Failure,
    Outcome,
    Pause,
    RunStatus,
    WorkflowSummary,
)
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


def test_in_a_narrow_terminal_a_retry_has_a_short_id_too() -> None:
    cancelled = Outcome(RunStatus.CANCELLED, "WorkflowCancelledEvent", to_payload(None), None, "no")
    run = info(status=RunStatus.CANCELLED, outcome=cancelled, ended_at=NOW, retried_as=("ab" * 16,))
    assert "retried as abababababab\n" in shown(runs_table([run], NOW, width=70)) + "\n"


def test_a_paused_workflow_has_a_column_that_says_so() -> None:
    paused = WorkflowSummary("orders", "1", "Pay an order.", Pause(NOW, "", "ada", True))
    rows = shown(workflows_table([paused, WorkflowSummary("greet", "1", "Greet.")])).splitlines()
    assert [row.split()[:3] for row in (rows[0], *rows[2:])] == [
        ["WORKFLOW", "VERSION", "STATUS"],
        ["orders", "1", "paused"],
        ["greet", "1", "served"],
    ]


def test_a_narrow_terminal_shows_ids_in_one_piece_and_keeps_what_matters() -> None:
    failure = Failure("pay", "ConnectionError", "the bank does not answer " * 20, 4, "ref", "")
    failed = Outcome(RunStatus.FAILED, "WorkflowFailedEvent", to_payload(None), failure, "")
    run = info(
        run_id="6ba88285dffed8950ac65246c52d525b",
        status=RunStatus.FAILED,
        outcome=failed,
        ended_at=NOW - timedelta(seconds=6),
        retried_as=("ca318a63a2641f19b1d0dc6a3c3e3c06",),
    )
    named = info(run_id="order-2026-11-30", status=RunStatus.RUNNING)
    lines = shown(runs_table([run, named], NOW, 80), 80).splitlines()
    assert re.match("6ba88285dffe +orders +failed", lines[2])
    assert all(len(line) <= 80 for line in lines)
    told = "".join(line[lines[0].index("ABOUT") :].strip() for line in lines[2:])
    assert told.replace(" ", "").startswith("steppay:ConnectionError:thebank")
    assert re.search(r"…, ?6\.0s ?ago; ?retried ?as ?ca318a63a2", told)
    assert any(line.startswith("order-2026-11-30 ") for line in lines), "only ids that a server chose are cut"
    assert "6ba88285dffed8950ac65246c52d525b" in shown(runs_table([run], NOW))


def test_a_run_tells_what_it_repeats_or_waits_for_without_a_question() -> None:
    error = Failure("pay", "Down", "refused\nby the bank", 2, "ref1", "")
    pay = ActiveDelivery(
        1,
        "pay",
        DeliveryStatus.BACKING_OFF,
        2,
        NOW - timedelta(seconds=9),
        error,
        NOW + timedelta(seconds=4),
        "Order",
        1,
    )
    waits = replace(pay, status=DeliveryStatus.PARKED, attempt=1, last_error=None, next_attempt_at=None)
    children = ChildSummary(total=3, unfinished=2, queued=0, completed=1, failed=0, cancelled=0, timed_out=0)
    table = runs_table(
        [
            info(status=RunStatus.RUNNING, active_deliveries=(pay, pay)),
            info(active_deliveries=(waits,), children=children),
            info(active_deliveries=(waits,)),
            info(),
        ],
        NOW,
    )
    assert [line.split("3m00s")[1].strip() for line in shown(table).splitlines()[2:]] == [
        "step pay attempt 2 failed 9.0s ago, attempt 3 in 4.0s: Down: refused by the bank; so did 1 more",
        "waits for 2 children",
        "waits in pay",
        "waits for an event, or is stalled",
    ]
