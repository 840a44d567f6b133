"""What a command says where no server answers, and how soon."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.support import FLOWS, cli
from tests.serving import COMMAND
from typer.core import TyperGroup
from typer.main import get_command

from stepwire.cli import _calling, app, health
from stepwire.client._core.reachability import PROBE_TIMEOUT

CALLING = [
    ["workflows"],
    ["describe", "Greet"],
    ["run", "Greet"],
    ["run", "Greet", "--detach"],
    ["result", "r"],
    ["runs"],
    ["runs", "r"],
    ["cancel", "r"],
    ["delete", "r"],
    ["events", "r"],
    ["events", "r", "--follow", "--after", "3"],
    ["send", "r", "Approval"],
    ["history", "r"],
    ["fork", "r"],
    ["state", "get", "r"],
    ["state", "set", "r", "a=1"],
    ["state", "unset", "r", "a"],
    ["snapshot", "r"],
    ["snapshot", "r", "--list"],
    ["check", f"{FLOWS}:Greet"],
    ["generate", "Greet", "absent", "--language", "python"],
    ["pause", "r"],
    ["pause", "--workflow", "Greet"],
    ["reload", "r"],
    ["resume", "r"],
    ["retry", "r"],
    ["retry", "--all", "--step", "a", "--yes"],
    ["server"],
    ["schedule", "create", "s", "Greet", "--cron", "@daily"],
    ["schedule", "list"],
    ["schedule", "show", "s"],
    ["schedule", "update", "s", "--cron", "@daily"],
    ["schedule", "pause", "s"],
    ["schedule", "resume", "s"],
    ["schedule", "trigger", "s"],
    ["schedule", "delete", "s"],
    ["schedule", "backfill", "s", "--from", "2d"],
]


@pytest.mark.parametrize("command", CALLING, ids=" ".join)
def test_no_server(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that calls a server gives up when it cannot connect, whatever its own patience is."""
    monkeypatch.setattr(_calling, "CONNECT_TIMEOUT", 0.05)
    monkeypatch.setattr(_calling, "CALL_TIMEOUT", 600.0)
    result = cli(*command, "--server", "127.0.0.1:1", code=1)
    assert result.stderr.startswith("error: UNAVAILABLE: cannot connect to ipv4:127.0.0.1:1: ")
    assert "\n  no server answers at 127.0.0.1:1: start one with stepwire serve" in result.stderr


def test_a_server_that_takes_connections_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calling, "CONNECT_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = cli("result", "r", "--server", address, code=1)
    assert f"UNAVAILABLE: {address} does not answer within 0.05 s" in result.stderr


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Give each command that takes `--server`."""
    if isinstance(command, TyperGroup):
        context = command.context_class(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), *path, name)
    elif any("--server" in parameter.opts for parameter in command.params):
        yield path


def test_each_command_that_calls_a_server_is_tried() -> None:
    tried = {tuple(line[:length]) for line in CALLING for length in (1, 2)}
    assert [path for path in commands(get_command(app)) if path not in tried] == [("health",)]


def test_a_person_learns_within_two_seconds_that_there_is_no_server() -> None:
    """What a command waits for leaves the rest of the two seconds for its own start, however busy the machine is."""
    waits = max(_calling.CONNECT_TIMEOUT + PROBE_TIMEOUT, health.CONNECT_TIMEOUT)
    for command in ("runs", "health"):
        done = subprocess.run([str(COMMAND), command, "--server", "127.0.0.1:1"], capture_output=True, check=False)
        assert done.returncode == 1
        assert b"127.0.0.1:1" in done.stderr or done.stdout == b"UNREACHABLE\n"
    assert waits <= 1.25


def test_files_of_credentials_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_CA", str(tmp_path / "absent.pem"))
    result = cli("runs", code=2)
    assert result.stderr == f"error: cannot read {tmp_path / 'absent.pem'}: No such file or directory\n"


def test_the_help_names_the_environment() -> None:
    shown = cli("--help").stdout
    for name in ("SERVER", "TOKEN", "TLS", "CA", "CERT", "SERVER_NAME"):
        assert f"STEPWIRE_{name}" in shown
