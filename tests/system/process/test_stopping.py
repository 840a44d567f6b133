"""SIGTERM ends a server within its grace and a bound, whatever its steps do."""

from __future__ import annotations

import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.serving import ServerProcess

from stepwire.client import SyncClient

FLOWS = "tests/system/process/flows.py"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def serving(data: Path, *args: str) -> ServerProcess:
    return ServerProcess(data, [FLOWS], args=[*args])


def readiness(server: ServerProcess) -> tuple[int, str]:
    address = server.hear(r"admin port on (\S+)")
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("how", ["sleep", "spin", "native", "regex"])
def test_a_blocked_event_loop_does_not_hold_up_the_end(tmp_path: Path, how: str) -> None:
    with serving(tmp_path, "--grace", "0.1") as server:
        with SyncClient(server.address) as client:
            client.start_run("Block", how=how)
            server.hear("blocking")
        # The step blocks for an hour: an end within the patience of `stop` is the deadline's.
        assert server.stop() == 1
    if how != "regex":  # it leaves the interpreter to nobody
        assert "the server did not stop in time and is ended; its event loop is at" in server.log
        assert "flows.py" in server.log.rpartition("its event loop is at")[2]


@pytest.mark.parametrize(
    "how",
    [
        "stop",
        "cancel all tasks",
        "SIGTERM",
        *(
            pytest.param(how, marks=pytest.mark.slow)
            for how in ("stop from outside", "cancel what the loop has", "shut down", "SIGINT")
        ),
    ],
)
def test_a_step_can_neither_stop_the_event_loop_nor_cancel_what_is_not_its_own(tmp_path: Path, how: str) -> None:
    with serving(tmp_path) as server, SyncClient(server.address) as client:
        beside = client.start_run("Sleep")
        server.hear("sleeping")
        assert client.start_run("Wreck", how=how).result(timeout=60) == "went on"
        assert client.start_run("Wreck", how="").result(timeout=60) == "went on"
        assert beside.info().status.name == "RUNNING"
        assert server.running
        assert server.stop() == 0
    if how != "cancel all tasks":  # of which it sees its own only
        assert "refused" in server.log or "the server goes on" in server.log


def test_it_is_not_ready_while_the_loop_is_blocked_and_draining_as_soon_as_the_signal_comes(tmp_path: Path) -> None:
    with serving(tmp_path, "--grace", "3600", "--admin-address", "127.0.0.1:0") as server:
        assert readiness(server) == (200, "ok\n")
        with SyncClient(server.address) as client:
            client.start_run("Block", how="sleep")
            server.hear("blocking")
        assert readiness(server) == (503, "the event loop is blocked\n")
        server.signal(signal.SIGTERM)
        server.hear("stopping: running steps get 3600 seconds")
        assert readiness(server) == (503, "draining\n")
        server.signal(signal.SIGTERM)
        server.hear("a second signal: running steps get no more time")
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert "a third signal: leaving at once" in server.log


def test_a_second_signal_cuts_the_grace(tmp_path: Path) -> None:
    with serving(tmp_path, "--grace", "3600") as server:
        with SyncClient(server.address) as client:
            client.start_run("Sleep", run_id="slow")
            server.hear("sleeping")
        server.signal(signal.SIGTERM)
        server.hear("stopping")
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    with serving(tmp_path, "--grace", "0") as server, SyncClient(server.address) as client:
        assert client.run("slow").info().status.name == "RUNNING"


def test_sighup_reads_the_credentials_again_and_ends_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as server, SyncClient(server.address) as client:
        server.signal(signal.SIGHUP)
        server.hear("reloaded")
        assert client.start_run("Fine").result(60) == "fine"
        server.signal(signal.SIGHUP)
    assert server.log.count("stopping:") == 1


def test_threads_that_do_not_end_do_not_hold_up_the_end(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with SyncClient(server.address) as client:
            client.start_run("Threads").result(60)
        assert server.stop() == 0


@pytest.mark.slow
def test_runs_that_block_the_loop_when_they_are_taken_up_do_not_hold_up_the_end(tmp_path: Path) -> None:
    with serving(tmp_path, "--grace", "0.1") as server:
        with SyncClient(server.address) as client:
            client.start_run("Block", how="sleep")
            server.hear("attempt=1] blocking")
        server.kill()
        server.start()  # it listens before it takes up the run
        server.hear("attempt=2] blocking")
        assert server.stop() == 1


@pytest.mark.parametrize("keep", [False, True], ids=["and it got it back", "and kept it"])
def test_a_step_may_give_the_loop_a_signal_handler(tmp_path: Path, keep: bool) -> None:
    with serving(tmp_path) as server:
        with SyncClient(server.address) as client:
            assert client.start_run("Handler", keep=keep).result(60) == "handled"
        assert server.stop() == 0
    assert "stopping: running steps get" in server.log


@pytest.mark.parametrize("what", ["KeyboardInterrupt", "SystemExit"])
def test_what_a_task_of_a_step_raises_does_not_end_the_server(tmp_path: Path, what: str) -> None:
    with serving(tmp_path) as server, SyncClient(server.address) as client:
        assert client.start_run("Interrupt", what=what).result(60) == what
        assert client.start_run("Fine").result(60) == "fine"
        assert server.hear(f"a task of a step raised ({what}); the server goes on") == what
