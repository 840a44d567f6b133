"""What a run is doing, as rows."""

from __future__ import annotations

from datetime import timedelta

from tests.unit.cli.render.things import NOW, WAITER, info

from stepwire.cli.render.activity import activity_rows
from stepwire.cli.render.pages import run_page
from stepwire.client import ActiveDelivery, DeliveryStatus, Failure, RunStatus

BOOM = Failure("charge", "Down", "refused\nby the bank", 2, "ref1", "")


def delivery(number: int, step: str, status: DeliveryStatus, **fields: object) -> ActiveDelivery:
    values = {
        "delivery_id": number,
        "step": step,
        "status": status,
        "attempt": 1,
        "since": NOW - timedelta(seconds=90),
        "last_error": None,
        "next_attempt_at": None,
        "event_type": "Order",
        "caused_by": 1,
    }
    return ActiveDelivery(**{**values, **fields})  # type: ignore[arg-type]


def rows(*deliveries: ActiveDelivery, **more: object) -> list[str]:
    return [f"{row.name}|{row.value}" for row in activity_rows(info(active_deliveries=deliveries, **more), NOW)]


def test_each_status_has_its_words() -> None:
    found = rows(
        delivery(1, "pay", DeliveryStatus.RUNNING),
        delivery(
            2, "charge", DeliveryStatus.BACKING_OFF, attempt=2, last_error=BOOM,
            next_attempt_at=NOW + timedelta(seconds=4),
        ),
        delivery(3, "work", DeliveryStatus.PARKED),
        delivery(4, "ship", DeliveryStatus.QUEUED, attempt=0),
        delivery(5, "ship", DeliveryStatus.QUEUED, attempt=0),
        pending_waiters=(WAITER,),
    )  # fmt: skip
    assert found == [
        "step|pay     runs for 1m30s  (Order 1)",
        "step|charge  attempt 2 failed 1m30s ago, attempt 3 in 4.0s  (Order 1)",
        "|        Down: refused\n        by the bank (reference ref1)",
        "step|work    waits for 1m30s for Approval  (Order 1)",
        "queued|ship (2)",
    ]


def test_many_are_counted() -> None:
    found = rows(*(delivery(number, "work", DeliveryStatus.RUNNING) for number in range(30)), partial=True)
    assert len(found) == 22
    assert found[-2:] == ["step|and work (10)", "|and more"]


def test_a_run_in_which_nothing_goes_on_says_so() -> None:
    (told,) = rows()
    assert "stalled" in told
    assert rows(status=RunStatus.RUNNING) == []


def test_the_lines_of_an_error_stand_below_each_other() -> None:
    page = run_page(info(active_deliveries=(delivery(1, "charge", DeliveryStatus.BACKING_OFF, last_error=BOOM),)), NOW)
    first, second = (line for line in page.plain.splitlines() if "refused" in line or "bank" in line)
    assert first.index("Down") == second.index("by the bank")
