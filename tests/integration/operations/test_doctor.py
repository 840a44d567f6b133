"""`stepwire doctor` says what is wrong with what a server needs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.serving import ServerProcess
from tests.system.security.support import Keys
from tests.system.security.test_tls import Authority
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.client import SyncClient
from stepwire.server.store import DATABASE

FLOW = "examples/hello.py:Hello=hello"


def doctor(*arguments: object) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the exit code, and the checks by name."""
    result = CliRunner().invoke(app, ["doctor", "--json", *(str(item) for item in arguments)])
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["problems"] == sum(check["status"] == "problem" for check in document["checks"])
    return result.exit_code, {check["name"]: check for check in document["checks"]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a data directory that a server has used."""
    directory = tmp_path / "data"
    with ServerProcess(directory, [FLOW]) as server, SyncClient(server.address) as client:
        assert client.start_run("hello", name="Ada").result(60)
    directory.chmod(0o700)
    return directory


def test_all_is_well(data: Path) -> None:
    code, checks = doctor(FLOW, "--data", data, "--address", "127.0.0.1:0")
    assert code == 0, checks
    assert {check["status"] for check in checks.values()} <= {"ok", "warning"}
    assert checks["workflows"]["message"] == "hello"
    assert "undamaged" in checks["database"]["message"]
    assert checks["lock"]["message"] == "no server has it"
    result = CliRunner().invoke(app, ["doctor", FLOW, "--data", str(data), "--address", "127.0.0.1:0"])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(checks)


def test_a_server_that_runs_is_seen_and_left_alone(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, [FLOW]) as server:
        code, checks = doctor(FLOW, "--data", tmp_path, "--address", server.address)
        assert code == 0, checks
        assert str(server.pid) in checks["lock"]["message"]
        assert checks["address"]["message"] == f"a server answers at {server.address}: serving"
        with SyncClient(server.address) as client:
            assert client.start_run("hello", name="Ada").result(60)


def test_what_listens_there_is_no_server_of_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, checks = doctor("--data", tmp_path, "--address", f"127.0.0.1:{other.getsockname()[1]}")
    assert code == 1
    assert checks["address"]["status"] == "problem"


def test_a_workflow_that_does_not_load(tmp_path: Path) -> None:
    code, checks = doctor("examples/hello.py:Nothing", "--data", tmp_path, "--address", "127.0.0.1:0")
    assert code == 1
    assert (checks["workflows"]["status"], "Nothing" in checks["workflows"]["message"]) == ("problem", True)


def test_a_setting_that_is_wrong(tmp_path: Path) -> None:
    code, checks = doctor("--data", tmp_path, "--max-depth", "1000")
    assert code == 1
    assert "max_depth" in checks["settings"]["message"]


def test_a_damaged_database(data: Path) -> None:
    path = data / DATABASE
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096 : 5 * 4096] = os.urandom(4 * 4096)
    path.write_bytes(content)
    code, checks = doctor("--data", data, "--address", "127.0.0.1:0")
    assert code == 1
    assert checks["database"]["status"] == "problem"
    assert "backup" in checks["database"]["advice"]


def test_a_newer_database(data: Path) -> None:
    with closing(sqlite3.connect(data / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    code, checks = doctor("--data", data, "--address", "127.0.0.1:0")
    assert code == 1
    assert "newer" in checks["database"]["message"]


def test_another_programs_database(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    code, checks = doctor("--data", tmp_path, "--address", "127.0.0.1:0")
    assert code == 1
    assert "not a store" in checks["database"]["message"]


def test_a_key_and_a_directory_that_others_can_read(data: Path) -> None:
    data.chmod(0o755)
    (data / "snapshot.key").chmod(0o644)
    code, checks = doctor("--data", data, "--address", "127.0.0.1:0")
    assert code == 1
    assert checks["data"]["status"] == "warning"
    assert checks["key"]["status"] == "problem"
    shutil.rmtree(data)
    assert doctor("--data", data, "--address", "127.0.0.1:0")[0] == 0  # the first start makes it


def test_a_key_that_is_none_is_told_before_the_first_start_too(tmp_path: Path) -> None:
    key = tmp_path / "snapshot.key"
    key.write_bytes(b"short")
    key.chmod(0o600)
    code, checks = doctor("--data", tmp_path, "--address", "127.0.0.1:0")
    assert (code, checks["key"]["status"]) == (1, "problem")


def test_an_admin_address_that_cannot_be(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
    for address, clients, told in (
        (taken, taken, "the clients' address, too"),
        ("no-such-host.invalid:1", taken, "no-such-host.invalid:1: "),
    ):
        code, checks = doctor("--data", tmp_path, "--address", clients, "--admin-address", address)
        assert (code, checks["admin address"]["status"]) == (1, "problem")
        assert told in checks["admin address"]["message"]


def test_a_collector_that_nobody_reaches_and_one_that_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        code, checks = doctor("--data", tmp_path, "--address", "127.0.0.1:0", "--otlp-endpoint", endpoint)
        assert (code, checks["traces"]["status"]) == (0, "ok")
    code, checks = doctor("--data", tmp_path, "--address", "127.0.0.1:0", "--otlp-endpoint", endpoint)
    assert (code, checks["traces"]["status"]) == (0, "warning")  # a server starts all the same


def test_scopes_for_workflows_that_are_not_served(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "access.toml")
    keys.add("one", ["read", "write:hello"])
    arguments = (FLOW, "--data", tmp_path, "--address", "127.0.0.1:0", "--api-keys", keys.path)
    assert doctor(*arguments)[1]["access"]["status"] == "ok"
    keys.add("two", ["write:helo"])
    code, checks = doctor(*arguments)
    assert (code, checks["access"]["status"]) == (0, "warning")
    assert "helo, not named here" in checks["access"]["message"]


def test_tls_and_access_files_that_are_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("nothing", "utf-8")
    files = ("--tls-cert", wrong, "--tls-key", wrong, "--api-keys", wrong)
    code, checks = doctor("--data", tmp_path, "--address", "127.0.0.1:0", *files)
    assert code == 1
    assert (checks["tls"]["status"], checks["access"]["status"]) == ("problem", "problem")
    code, checks = doctor("--data", tmp_path, "--api-keys", tmp_path / "none")
    assert code == 1
    assert "there is no file" in checks["settings"]["message"]


def test_a_certificate_that_expires_soon_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = Authority(tmp_path).issue("server", days=(-1.0, 3.0))
    _, checks = doctor("--data", tmp_path, "--address", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
    assert checks["tls"]["status"] == "warning"
    assert not caplog.records
