"""Children of steps: what they do not inherit, and what does not wait for them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.serving import COMMAND, ServerProcess

from stepwire.client import SyncClient

FLOWS = "tests/system/process/flows.py"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes of POSIX")


def serving(data: Path, *, command: Any = (str(COMMAND),)) -> ServerProcess:
    return ServerProcess(data, [FLOWS], args=["--grace", "0.1"], command=command)


@contextmanager
def ending(pid: int) -> Iterator[psutil.Process]:
    """Kill a process in the end."""
    process = psutil.Process(pid)
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_signal_for_a_forked_child_is_the_childs_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as server, SyncClient(server.address) as client:
        for _ in range(10):
            ended = client.start_run("Fork", terminate=True).result(60)
            assert ended["code"] == -signal.SIGTERM
        assert client.start_run("Fine").result(60) == "fine"
        assert "stopping" not in server.log


@pytest.mark.slow
def test_a_forked_child_that_outlives_its_killed_server_holds_nothing_of_it(tmp_path: Path) -> None:
    with serving(tmp_path) as server, SyncClient(server.address) as client:
        pid = client.start_run("Fork").result(60)["pid"]
        with ending(pid) as child:
            server.kill()
            assert child.is_running()
            server.start()  # the same address, the same data directory
            assert client.start_run("Fine").result(60) == "fine"
            assert child.is_running()


def test_a_stop_waits_for_no_child(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with SyncClient(server.address) as client:
            pid = client.start_run("Fork").result(60)["pid"]
        with ending(pid) as child:
            assert server.stop() == 0
            assert not child.is_running()
    assert "ended 1 child process of steps" in server.log


def in_a_pid_namespace() -> bool:
    try:
        return subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not in_a_pid_namespace(), reason="unshare is not allowed here")
def test_the_first_process_of_a_container_reaps_orphans_and_hands_on_signals(tmp_path: Path) -> None:
    command = ("unshare", "--pid", "--fork", "--mount-proc", str(COMMAND))
    with serving(tmp_path, command=command) as server, SyncClient(server.address) as client:
        for _ in range(3):
            client.start_run("Orphan").result(60)
        (init,) = psutil.Process(server.pid).children()
        (serving_one,) = (child for child in init.children() if child.status() != psutil.STATUS_ZOMBIE)
        assert init.children() == [serving_one]
        init.send_signal(signal.SIGHUP)
        server.hear("reloaded")
        assert client.start_run("Fine").result(60) == "fine"
        init.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "stopped" in server.log
