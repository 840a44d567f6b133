"""Foreign clients: curl over the web, and buf over gRPC."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.scheduling.support import NOON, Job, Quick
from tests.serving import COMMAND

from stepwire.server.testing import RunningServer, serve

BUF = Path(sys.executable).with_name("buf")
SPEC = {
    "workflow": "Quick",
    "timing": {"cron": "0 7 * * 1-5", "timeZone": "Europe/Oslo", "jitter": "30s"},
    "input": {"value": {"text": "tea"}},
    "overlap": "OVERLAP_POLICY_QUEUE_ONE",
    "labels": {"team": "blue"},
}


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with serve(Quick, Job, settings={"web_address": "127.0.0.1:0"}, standing_at=NOON) as server:
        yield server


def story(call: Any, server: RunningServer) -> None:
    """Go through the life of a schedule."""
    created = call("CreateSchedule", {"scheduleId": "s", "spec": SPEC, "requestId": "r"})["schedule"]
    assert len(created["nextTimes"]) == 10
    assert created["spec"]["timing"] == SPEC["timing"]
    assert created["spec"]["overlap"] == SPEC["overlap"]
    assert call("TriggerSchedule", {"scheduleId": "s"})["runId"].startswith("s-now-")
    server.skip(days=7)
    found = call("GetSchedule", {"scheduleId": "s"})["schedule"]
    assert found["counts"] == {"started": "6"}
    assert found["last"][0]["outcome"] == "DUE_OUTCOME_STARTED"
    paused = call("PauseSchedule", {"scheduleId": "s", "reason": "why not"})["schedule"]
    assert paused["pause"]["reason"] == "why not"
    assert "nextTimes" not in paused
    call("ResumeSchedule", {"scheduleId": "s"})
    updated = call("UpdateSchedule", {"scheduleId": "s", "spec": {**SPEC, "timing": {"interval": {"every": "60s"}}}})
    assert updated["schedule"]["etag"] != created["etag"]
    assert [each["scheduleId"] for each in call("ListSchedules", {"labels": {"team": "blue"}})["schedules"]] == ["s"]
    assert call("DeleteSchedule", {"scheduleId": "s"}) == {}
    assert call("ListSchedules", {}) == {}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: RunningServer) -> None:
    def call(method: str, body: Any) -> Any:
        address = f"http://{server.web_address}/stepwire.v1.ScheduleService/{method}"
        command = ["curl", "-sS", address, "-H", "content-type: application/json", "-d", json.dumps(body)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)

    story(call, server)
    wrong = call("CreateSchedule", {"scheduleId": "t", "spec": {**SPEC, "timing": {"cron": "99 * * * *"}}})
    assert wrong["code"] == "invalid_argument"
    assert any(each["type"] == "google.rpc.BadRequest" for each in wrong["details"])


@pytest.mark.skipif(not BUF.exists(), reason="buf is not installed")
def test_buf(server: RunningServer, tmp_path: Path) -> None:
    subprocess.run([COMMAND, "protos", str(tmp_path)], check=True, capture_output=True, timeout=60)

    def call(method: str, body: Any) -> Any:
        address = f"http://{server.address}/stepwire.v1.ScheduleService/{method}"
        schema = ["--schema", str(tmp_path)]
        command = [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *schema, address]
        done = subprocess.run(
            [*command, "-d", json.dumps(body)], capture_output=True, text=True, check=True, timeout=60
        )
        return json.loads(done.stdout)

    story(call, server)
