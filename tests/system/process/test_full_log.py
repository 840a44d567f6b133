"""A log that nobody reads stops nothing: what does not fit is dropped and counted."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.serving import COMMAND, ROOT

from stepwire.client import SyncClient
from stepwire.server.telemetry.logs.writer import MOST_LINES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")


@pytest.mark.slow
def test_a_full_pipe_stops_neither_runs_nor_the_end(tmp_path: Path) -> None:
    command = [
        str(COMMAND), "serve", "tests/system/process/flows.py", "--address", "127.0.0.1:0", "--web-address", "off",
        "--data", str(tmp_path), "--admin-address", "127.0.0.1:0", "--grace", "0.1",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        begin = ""
        while not (listening := re.search(r"listening on (\S+)", begin)):
            begin += server.stderr.readline()
        admin = re.search(r"admin port on (\S+)", begin)
        assert admin is not None
        # From here on nobody reads.
        with SyncClient(listening[1]) as client:
            for _ in range(3):
                client.start_run("Chatter", lines=MOST_LINES).result(60)
            assert client.start_run("Fine").result(60) == "fine"
        with urllib.request.urlopen(f"http://{admin[1]}/metrics", timeout=60) as answer:
            dropped = re.search(r"^stepwire_log_records_dropped_total (\S+)$", answer.read().decode(), re.MULTILINE)
        assert dropped is not None
        assert float(dropped[1]) > MOST_LINES
        server.terminate()
        assert server.wait(60) == 0
        rest = server.stderr.read()
    assert "line 0" in rest
    assert rest.count("\n") < 2 * MOST_LINES
