"""The console's panels of a run, painted without a browser: attempts, active deliveries, the timeline."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NODE = shutil.which("node")
CONSOLE = Path(__file__).parents[3] / "server" / "stepwire" / "server" / "web" / "console"

pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")

DOWN = {"errorType": "Down", "message": "refused\nby the bank", "referenceId": "ref1"}


def entry(sequence: int, step: str, status: str, attempt: int = 1, delivery: str = "2", **more: Any) -> dict[str, Any]:
    execution = {"deliveryId": delivery, "status": f"EXECUTION_STATUS_{status}", "attempt": attempt, "causedBy": "1"}
    time = f"2026-01-31T12:00:{sequence:02}.000Z"
    return {
        "sequence": str(sequence),
        "time": time,
        "kind": "ENTRY_KIND_EXECUTION",
        "step": step,
        "execution": {**execution, **more},
    }


def active(step: str, status: str, **more: Any) -> dict[str, Any]:
    since = "2026-01-31T12:00:01Z"
    values = {"step": step, "status": f"DELIVERY_STATUS_{status}", "attempt": 1, "since": since, "eventType": "Order"}
    return {**values, **more}


def painted(entries: list[dict[str, Any]], deliveries: list[dict[str, Any]], **run: Any) -> dict[str, Any]:
    model = {
        "run": {
            "status": "RUN_STATUS_RUNNING",
            "createdAt": "2026-01-31T12:00:00Z",
            "updatedAt": "2026-01-31T12:00:09Z",
            "activeDeliveries": deliveries,
            **run,
        },
        "workflow": {"name": "shop", "steps": [{"name": "charge"}, {"name": "ship"}]},
        "entries": entries,
    }
    assert NODE is not None
    command = [NODE, str(Path(__file__).with_name("console.mjs")), str(CONSOLE)]
    done = subprocess.run(command, input=json.dumps(model), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_attempts_are_bars_with_what_became_of_them() -> None:
    start = {"sequence": "1", "time": "2026-01-31T12:00:00Z", "kind": "ENTRY_KIND_RECEIVED", "type": "StartEvent"}
    found = painted(
        [
            start,
            entry(2, "charge", "STARTED"),
            entry(4, "charge", "FAILED", duration="2s", error=DOWN, nextAttemptAt="2026-01-31T12:00:06Z"),
            entry(6, "charge", "STARTED", 2),
            entry(7, "ship", "STARTED", delivery="3"),
            entry(8, "ship", "FINISHED", delivery="3", duration="1s"),
        ],
        [],
        status="RUN_STATUS_COMPLETED",
        endedAt="2026-01-31T12:00:10Z",
    )
    assert [(each["step"], each["attempt"], each["tone"]) for each in found["attempts"]] == [
        ("charge", 1, "bad"),
        ("charge", 2, "active"),
        ("ship", 1, "good"),
    ]
    assert found["texts"][1].startswith("charge failed, attempt 1, after 2.0 s, the next at ")
    assert found["texts"][1].endswith(": Down: refused\nby the bank")
    classes = [bar[0] for bar in found["bars"]]
    assert classes == ["attempt bad", "attempt active", "attempt good"]
    # Two seconds, four up to the end, and one: the widths are the times.
    widths = [bar[2] for bar in found["bars"]]
    assert widths[1] / widths[0] == pytest.approx(2)
    assert widths[0] / widths[2] == pytest.approx(2)
    assert "1 event and 3 attempts at steps" in found["timeline"]
    assert "Attempts that failed" in found["timeline"]
    assert "Down: refused" in found["timeline"]


def test_a_body_that_left_memory_ends_where_the_next_attempt_begins() -> None:
    found = painted([entry(2, "ship", "STARTED"), entry(5, "ship", "STARTED", 2)], [])
    first, second = found["attempts"]
    assert (first["tone"], first["end"], second["end"]) == ("waiting", second["begin"], None)


def test_a_log_whose_start_was_trimmed_still_has_its_bars() -> None:
    found = painted([entry(9, "ship", "FINISHED", duration="3s")], [])
    (attempt,) = found["attempts"]
    assert attempt["end"] - attempt["begin"] == 3000


def test_active_deliveries_are_a_table_and_marks_of_the_graph() -> None:
    found = painted(
        [],
        [
            active("charge", "QUEUED"),
            active("charge", "BACKING_OFF", attempt=3, lastError=DOWN, nextAttemptAt="2999-01-01T00:00:00Z"),
            active("ship", "PARKED"),
            active("pack", "RUNNING"),
            active("pack", "RUNNING"),
        ],
    )
    assert found["marks"] == {
        "charge": ["bad", "✕ failed, attempt 3"],
        "ship": ["waiting", "◔ waiting"],
        "pack": ["active", "▶ running \N{MULTIPLICATION SIGN}2"],
    }
    assert "Steps now" in found["activity"]
    assert "Down: refused\nby the bank" in found["activity"]
    assert "ref1" in found["activity"]
    assert found["activity"].index("pack") < found["activity"].index("charge") < found["activity"].index("ship")


def test_a_run_at_rest_shows_no_table() -> None:
    assert painted([], [])["activity"] == ""


def test_a_long_wait_is_drawn_short_beside_the_work() -> None:
    def at(minute: int, kind: str, sequence: int) -> dict[str, Any]:
        time = f"2026-01-31T12:{minute:02}:00Z"
        return {"sequence": str(sequence), "time": time, "kind": f"ENTRY_KIND_{kind}", "type": "Answer"}

    found = painted(
        [
            {**at(0, "RECEIVED", 1), "type": "StartEvent"},
            entry(1, "ship", "STARTED"),
            entry(3, "ship", "FINISHED", duration="2s"),
            at(50, "RECEIVED", 4),
        ],
        [],
        status="RUN_STATUS_COMPLETED",
        endedAt="2026-01-31T12:50:01Z",
    )
    ((text, wait),) = found["cuts"]
    assert text.strip() == "49 min 57 s later"
    (_, _, work) = found["bars"][0]
    # Four seconds of work, two of them in the step; the wait is drawn as one second.
    assert work / wait == pytest.approx(2)


def test_work_that_takes_long_is_drawn_as_long_as_it_takes() -> None:
    found = painted(
        [entry(1, "ship", "STARTED"), entry(59, "ship", "FINISHED", duration="58s")],
        [],
        status="RUN_STATUS_COMPLETED",
        endedAt="2026-01-31T12:00:59Z",
    )
    assert found["cuts"] == []
