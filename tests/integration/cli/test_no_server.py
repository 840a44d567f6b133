"""What a command says where no server answers, and how soon."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
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
    assert f"\n  is a server at {address}, and does it run? stepwire serve starts one" in result.stderr


@pytest.fixture(scope="module")
def mute() -> Iterator[str]:
    """A server that takes calls and does not answer."""

    class Mute(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            return grpc.stream_stream_rpc_method_handler(self.wait)

        def wait(self, requests: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            left = threading.Event()
            context.add_callback(left.set)
            left.wait(60)
            yield b""

    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Mute(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


WRITES = ("run Greet", *(f"schedule {verb}" for verb in ("create", "pause", "resume", "trigger", "delete", "backfill")))
"""Commands whose first call writes; so does `pause --workflow`."""
FOLLOWING = ["retry", "--all"]
"""What begins with a stream has more patience than a call."""


@pytest.mark.parametrize("command", [each for each in CALLING if each[:2] != FOLLOWING], ids=" ".join)
def test_a_server_that_takes_calls_and_does_not_answer(
    command: list[str], mute: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each command says what it waited for, for how long, whether something may have happened, and what to do."""
    monkeypatch.setenv("STEPWIRE_TIMEOUT", "200ms")
    monkeypatch.setenv("PATH", str(programs(tmp_path)))
    result = cli(*command, "--server", mute, code=1)
    first, *advice = result.stderr.splitlines()
    assert re.match(rf"error: DEADLINE_EXCEEDED: [A-Z]\w+ got no answer from {mute} within 0\.\d s", first)
    writes = " ".join(command).startswith(WRITES) or "--workflow" in command
    assert ("whether it took effect is unknown" in first) is writes
    assert ("stepwire runs whether it took effect" in advice[0]) is writes
    assert "stepwire health" in advice[1]
    assert "stepwire doctor" in advice[1]
    assert "STEPWIRE_TIMEOUT=60" in advice[2]


def programs(folder: Path) -> Path:
    """Return a folder with the generator that `generate` looks for before it calls the server."""
    found = folder / "datamodel-codegen"
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    return folder


@pytest.mark.parametrize("text", ["soon", "0"])
def test_a_timeout_that_cannot_be(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWIRE_TIMEOUT", text)
    assert cli("runs", code=2).stderr.startswith("error: STEPWIRE_TIMEOUT")


def test_health_says_what_to_do(mute: str) -> None:
    for address, wait in (("127.0.0.1:1", "0.1"), (mute, "0.1")):
        result = cli("health", "--timeout", wait, "--server", address, code=1)
        assert result.stdout == "UNREACHABLE\n"
        assert f"nothing answers at {address}: stepwire serve starts a server" in result.stderr


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
    for name in ("SERVER", "TOKEN", "TLS", "CA", "CERT", "SERVER_NAME", "TIMEOUT"):
        assert f"STEPWIRE_{name}" in shown
