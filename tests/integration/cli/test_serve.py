"""`stepwire serve` beside other servers, and commands that outlive a server."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.integration.cli.support import FLOWS, cli, following
from tests.serving import COMMAND, ServerProcess


def test_serve_where_another_serves(tmp_path: Path, server: ServerProcess) -> None:
    def serve(address: str, data: Path | str) -> subprocess.CompletedProcess[str]:
        command = [str(COMMAND), "serve", FLOWS, "--address", address, "--data", str(data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    taken = serve(server.address, ":memory:")
    assert taken.returncode == 1
    assert taken.stderr.startswith(f"error: cannot listen on {server.address}")
    assert len(taken.stderr.splitlines()) == 1
    with ServerProcess(tmp_path / "data", [FLOWS]) as other:
        locked = serve("127.0.0.1:0", tmp_path / "data")
        assert locked.returncode == 1
        assert re.fullmatch(rf"error: the data directory \S+ is in use by process {other.pid} on .*\n", locked.stderr)
        assert other.stop() == 0
    assert re.search(r"^\d{4}-\d\d-\d\d \S+ INFO     stopped$", other.log, re.M)
    assert "stepwire: serving Greet\n" in other.log


@pytest.mark.slow
def test_following_survives_a_crash_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerProcess(tmp_path / "data", [FLOWS]) as process:
        monkeypatch.setenv("STEPWIRE_SERVER", process.address)
        with following("run", "Order", "--run-id", "crossed", "--json") as run:
            assert run.stdout is not None
            while "question" not in json.loads(run.stdout.readline()):
                pass
            process.restart(kill=True)
            cli("send", "crossed", "Approval", 'order="7"', "approved=true", "parcels=1", "speed=slow")
            stdout, _ = run.communicate(timeout=60)
        assert run.returncode == 0
        kinds = [next(iter(json.loads(line))) for line in stdout.splitlines()]
        assert kinds[-2:] == ["event", "outcome"]
        assert "question" not in kinds
