"""Standard streams that are closed, full or left; signals; text that is not UTF-8."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess

import pytest
from tests.integration.cli.support import asking, cli, following, start
from tests.serving import COMMAND

from stepwire.client import Run


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the shell's redirections; `$0` is the command."""
    done = subprocess.run(["sh", "-c", command, str(COMMAND)], capture_output=True, text=True, check=False, timeout=50)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(closed: str) -> None:
    assert shell(f"$0 runs --json {closed}").returncode == 0
    assert shell(f"$0 run Nothing {closed}").returncode == 1


@pytest.mark.parametrize("command", ["runs", "runs --json", "events RUN", "version", "--help"])
def test_output_that_cannot_be_written(command: str) -> None:
    done = shell(f"$0 {command.replace('RUN', start('Greet', 'name=Ada'))} > /dev/full")
    assert (done.returncode, done.stderr) == (1, "error: cannot write the output: No space left on device\n")


def test_a_reader_that_leaves() -> None:
    run = start("Greet", "name=Ada")
    cli("result", run)
    assert len(shell(f"$0 events {run} | head -1").stdout.splitlines()) == 1


def test_an_argument_that_is_no_text() -> None:
    done = shell("$0 runs \"$(printf 'a\\377')\"")
    assert (done.returncode, done.stderr) == (2, "error: 'a\\udcff' is not UTF-8 text\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_and_says_how_to_come_back(number: signal.Signals, code: int) -> None:
    run = asking()
    with following("events", run, "--follow") as process:
        assert process.stdout is not None
        while "Ask" not in process.stdout.readline():
            pass
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"left; come back: stepwire events {run} --follow --after" in said


def test_a_signal_to_a_wait_for_the_result_says_that_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError  # what a signal does to the command's task

    run = asking()
    monkeypatch.setattr(Run, "result", cancelled)
    assert f"left; run {run} goes on" in cli("result", run, code=143).stderr


def test_a_reader_that_goes_away() -> None:
    run = start("Greet", "name=Ada")
    cli("result", run)
    command = f"{shlex.quote(str(COMMAND))} events {run} --json | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["type"] == "Tick"
    assert done.stderr == ""


def test_output_is_utf_8_whatever_the_locale() -> None:
    command = [str(COMMAND), "run", "Greet", "--input", '{"name": "Zo\\u00eb"}']
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, env=plain, timeout=60, check=True)
    assert done.stdout.decode() == "Hello, Zoë!\n"
