"""What a server logs says what it is about, and nobody can forge it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.operations.traced_flows import FORGED
from tests.serving import ServerProcess

from stepwire.client import RunFailedError, StepwireError, SyncClient

FLOWS = ["tests/operations/traced_flows.py:Ask=ask", "tests/operations/traced_flows.py:Fail=fail"]


def fail(server: ServerProcess) -> str:
    """Have a step fail with a text that would forge a line, and texts of that kind come in every place."""
    with SyncClient(server.address) as client:
        run = client.start_run("fail", secret=FORGED)
        with pytest.raises(RunFailedError):
            run.result(20)
        for call in (
            lambda: client.start_run(FORGED),
            lambda: client.start_run("ask", run_id=FORGED),
            lambda: client.run(FORGED).context.send_event((FORGED, {})),
            lambda: client.start_run("ask").context.send_event(("HumanResponseEvent", {FORGED: FORGED}), step=FORGED),
        ):
            with pytest.raises(StepwireError):
                call()
        return run.run_id


def test_json_lines_say_what_they_are_about(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, FLOWS, args=["--log-format", "json", "--log-level", "debug"]) as server:
        run_id = fail(server)
    assert server.log.isascii()
    lines = [json.loads(line) for line in server.log.splitlines()]
    (failed,) = (line for line in lines if line.get("exception") == "ValueError")
    assert (failed["run"], failed["workflow"], failed["step"], failed["attempt"]) == (run_id, "fail", "fail", 1)
    assert failed["level"] == "error"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", failed["time"])
    assert "reference" in failed["message"]
    assert "Traceback" in failed["traceback"]


def test_no_text_forges_a_line(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, FLOWS, args=["--log-level", "debug"]) as server:
        run_id = fail(server)
    assert FORGED[:3] in server.log
    assert all(char.isprintable() for char in server.log.replace("\n", ""))
    for line in server.log.split("\n"):
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ |    |stepwire: |$", line), line
        assert not line.endswith("forged")
    (failed,) = (line for line in server.log.splitlines() if " step fail failed" in line)
    assert f"  run={run_id} workflow=fail step=fail attempt=1" in failed
