"""Files that commands write: nothing that exists is replaced by accident, and a file in use never is."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from tests.serving import ServerProcess
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.client import SyncClient
from stepwire.server.rpc.gate.audit import open_audit
from stepwire.server.store import DATABASE

FLOWS = str(Path(__file__).with_name("cli_flows.py"))

WRITTEN = {"backup FILE", "snapshot --out"}
"""Parameters that name a new file to write; each command has --force."""

CHANGED = {"keys new --file", "keys revoke --file"}
"""Parameters that name a file which must be valid before it is changed."""

GENERATED = {"generate OUT", "protos OUT"}
"""Parameters that name what is generated; each command has --force."""

APPENDED = {"serve --audit-log", "doctor --audit-log"}
"""Parameters that name a file to append to, if it is one of that kind."""

MARKED = {"move DIR"}
"""Parameters that name a data directory, which must be one: a mark goes into its database."""

READ = {
    *("check --config", "keys list --file", "serve --reload-dir"),
    *("backup --data", "run --from-snapshot", "health --ca", "health --cert", "health --key"),
    *(f"{name} --{option}" for name in ("serve", "doctor") for option in ("config", "data", "tls-cert", "tls-key")),
    *(f"{name} --{option}" for name in ("serve", "doctor") for option in ("client-ca", "api-keys", "jwks")),
    *(f"{name} --{option}" for name in ("serve", "doctor") for option in ("cluster-key", "accept-cluster-key")),
    *(f"{name} --{option}" for name in ("serve", "doctor") for option in ("snapshot-key", "peer-ca")),
}
"""Parameters that name a file to read, or a data directory."""


def path_parameters() -> set[str]:
    """Return the parameters of all commands that take the name of a file or directory."""
    found: set[str] = set()

    def look(command: Any, name: str) -> None:
        if hasattr(command, "list_commands"):  # a group, which imports its commands when it is asked for them
            context = click.Context(command)
            for sub in command.list_commands(context):
                look(command.get_command(context, sub), f"{name} {sub}".strip())
        for parameter in command.params:
            if parameter.metavar in {"FILE", "DIR", "OUT"} or "a file of" in (getattr(parameter, "help", "") or ""):
                option = next((text for text in parameter.opts if text.startswith("--")), None)
                found.add(f"{name} {option or parameter.metavar}")

    look(typer.main.get_command(app), "")
    return found


def test_every_parameter_that_names_a_file_is_known_to_be_read_or_protected() -> None:
    assert path_parameters() == READ | WRITTEN | GENERATED | APPENDED | MARKED | CHANGED


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("served") / "data", [FLOWS]) as process:
        yield process


@pytest.fixture(scope="module")
def data(server: ServerProcess) -> Path:
    return Path(server._data_dir)


@pytest.fixture(scope="module")
def run_id(server: ServerProcess) -> str:
    with SyncClient(server.address) as client:
        return client.start_run("Greet", name="Ada").run_id


def command(writer: str, target: Path, data: Path, run_id: str, *more: str) -> list[str]:
    if writer == "backup FILE":
        return ["backup", str(target), "--data", str(data), *more]
    return ["snapshot", run_id, "--out", str(target), *more]


@pytest.fixture(params=sorted(WRITTEN))
def write(
    request: pytest.FixtureRequest, server: ServerProcess, data: Path, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Run a command that writes to a file; return its exit code and output."""
    monkeypatch.setenv("STEPWIRE_SERVER", server.address)

    def run(target: Path, *more: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, command(request.param, target, data, run_id, *more))
        assert "Traceback" not in result.output
        return result.exit_code, result.output

    return run


def test_a_new_file_is_written_and_nothing_is_left_beside_it(write: Any, tmp_path: Path) -> None:
    assert write(tmp_path / "new")[0] == 0
    assert (tmp_path / "new").stat().st_size > 0
    assert os.listdir(tmp_path) == ["new"]


def test_an_existing_file_is_replaced_only_by_force(write: Any, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    code, output = write(target)
    assert code == 1
    assert "exists" in output
    assert "--force" in output
    assert target.read_text() == "precious"
    assert write(target, "--force")[0] == 0
    assert target.read_bytes() != b"precious"
    assert os.listdir(tmp_path) == ["precious"]


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("name", [DATABASE, f"{DATABASE}-wal", "lock", "snapshot.key", "new", "inside/new"])
def test_nothing_is_written_into_a_data_directory(
    write: Any, data: Path, tmp_path: Path, name: str, force: tuple[str, ...]
) -> None:
    (data / "inside").mkdir(exist_ok=True)
    before = {path: path.stat().st_ino for path in data.rglob("*")}
    link = tmp_path / "link"
    link.symlink_to(data / name)
    for target in (data / name, link):
        code, output = write(target, *force)
        assert code == 1
        assert "data directory" in output
    assert {path: path.stat().st_ino for path in data.rglob("*")} == before


OTHER = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1])
other.execute("PRAGMA journal_mode = WAL")
other.execute("CREATE TABLE theirs (x)")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be replaced there")
def test_a_database_in_use_is_never_replaced(write: Any, tmp_path: Path) -> None:
    target = tmp_path / "of another program.db"
    program = [sys.executable, "-c", OTHER, str(target)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        inode = target.stat().st_ino
        code, output = write(target, "--force")
        assert code == 1
        assert "in use" in output
        assert target.stat().st_ino == inode
        other.communicate(b"")
    assert write(target, "--force")[0] == 0


def test_a_directory_is_no_file_to_write(write: Any, tmp_path: Path) -> None:
    code, output = write(tmp_path, "--force")
    assert code == 1
    assert "directory" in output


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_no_regular_file_is_never_replaced(
    data: Path, run_id: str, tmp_path: Path, force: tuple[str, ...]
) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for target in (pipe, link):
        result = CliRunner().invoke(app, command("backup FILE", target, data, run_id, *force))
        assert result.exit_code == 1
        assert "name a file" in result.output
    assert pipe.is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_socket_is_never_replaced(write: Any, tmp_path: Path, force: tuple[str, ...]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        with contextlib.chdir(tmp_path):  # the address of a socket may have about 100 characters
            listener.bind("socket")
        code, output = write(tmp_path / "socket", *force)
    assert code == 1
    assert "name a file" in output
    assert (tmp_path / "socket").is_socket()


def test_a_backup_takes_no_file_for_the_log_of_its_copy(data: Path, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "copy-wal").write_text("precious")
    result = CliRunner().invoke(app, command("backup FILE", tmp_path / "copy", data, run_id))
    assert result.exit_code == 1
    assert os.listdir(tmp_path) == ["copy-wal"]
    assert (tmp_path / "copy-wal").read_text() == "precious"


def test_a_backup_of_a_database_is_for_its_own_tools(tmp_path: Path) -> None:
    arguments = ["backup", str(tmp_path / "copy"), "--data", "postgres://postgres@127.0.0.1:1/web"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "backup copies data directories; of a PostgreSQL database pg_dump makes a copy" in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
def test_a_snapshot_can_go_into_a_pipe(
    server: ServerProcess, data: Path, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWIRE_SERVER", server.address)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert CliRunner().invoke(app, command("snapshot --out", pipe, data, run_id)).exit_code == 0
    reader.join(30)
    assert len(got[0]) > 0


def test_nothing_is_generated_into_a_data_directory(data: Path) -> None:
    before = {path for path in data.iterdir() if path.is_dir()}
    result = CliRunner().invoke(app, ["protos", str(data), "--force"])
    assert (result.exit_code, "data directory" in result.output) == (2, True)
    assert {path for path in data.iterdir() if path.is_dir()} == before


def test_an_audit_log_is_appended_to_nothing_else(data: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    for _ in range(2):  # new, and then its own
        open_audit(str(log))()
        log.write_text('{"time": "2026-11-30T00:00:00Z"}\n')
    for other in (data / DATABASE, data / "lock", Path(FLOWS)):
        with pytest.raises(FileExistsError, match="is no audit log"):
            open_audit(str(other))


@pytest.mark.parametrize("content", [b"precious", b"SQLite format 3\x00\xff", b'[server]\nport = "1"\n'])
def test_keys_new_refuses_what_is_no_access_file(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "other"
    target.write_bytes(content)
    result = CliRunner().invoke(app, ["keys", "new", "orders", "--file", str(target)])
    assert result.exit_code == 1
    assert target.read_bytes() == content
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_keys_new_never_replaces_what_is_no_regular_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (pipe, tmp_path):
        result = CliRunner().invoke(app, ["keys", "new", "orders", "--file", str(target)])
        assert result.exit_code == 1
        assert "no regular file" in result.output
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_keys_new_adds_to_the_file_that_a_link_names(tmp_path: Path) -> None:
    access, link = tmp_path / "access.toml", tmp_path / "link"
    link.symlink_to(access)
    for name in ("orders", "bills"):
        assert CliRunner().invoke(app, ["keys", "new", name, "--file", str(link)]).exit_code == 0
    assert link.is_symlink()
    assert access.read_text().count("[[keys]]") == 2
