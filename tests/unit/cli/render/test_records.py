"""JSON objects for scripts."""

from __future__ import annotations

from tests.unit.cli.render.things import event

from stepwire.cli.render.records import event_record


def test_event_record() -> None:
    assert event_record(event("Tick", 12, n=3, sequence_=1)) == {
        "sequence": 12,
        "time": "2026-01-31T12:00:00Z",
        "kind": "stream",
        "type": "Tick",
        "role": "unspecified",
        "step": "work",
        "delivered": 0,
        "delivery_id": 0,
        "data": {"n": 3, "sequence_": 1},
    }
