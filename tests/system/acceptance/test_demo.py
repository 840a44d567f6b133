"""The demo as people run it: `python examples/demo.py`, without and at a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from select import select

import pytest
from tests.postgres import MISSING, programs
from tests.serving import ROOT

COMMAND = [sys.executable, "examples/demo.py"]
CHECKS = 26
"""How many claims the demo checks."""

pytestmark = pytest.mark.timeout(120)


@pytest.mark.slow
def test_alone_it_answers_itself_and_every_claim_holds() -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "✗" not in done.stdout
    assert done.stdout.count("✓") == CHECKS
    assert re.findall(r"^(\d)\. ", done.stdout, re.MULTILINE) == list("12345678")
    assert "| # Review of `email`" in done.stdout
    assert "'decision': 'ticket'" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason=MISSING)
def test_with_replicas_every_claim_holds() -> None:
    command = [sys.executable, "-m", "examples.demo_cluster", "--package", "json"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert done.stdout.count("✓") > 5


@contextmanager
def at_terminal() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the demo at a terminal; give the process and the terminal's end."""
    terminal, inner = pty.openpty()
    # A session of its own, so that the server that it starts can be ended with it.
    process = subprocess.Popen(
        [*COMMAND, "--package", "json"], cwd=ROOT, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    try:
        yield process, terminal
    finally:
        os.close(terminal)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_at_a_terminal_the_person_answers() -> None:
    with at_terminal() as (process, terminal):
        output = read_until(terminal, "Your decision")
        os.write(terminal, b"nonsense\n")
        output += read_until(terminal, "Your decision")
        os.write(terminal, b"block\n")
        output += read_until(terminal, None)
        assert process.wait(60) == 0, output
    assert "✗" not in output
    assert output.count("✓") == CHECKS
    assert "answered: block" in output
    assert "'decision': 'block'" in output


@pytest.mark.slow
def test_the_answer_may_be_given_in_the_console() -> None:
    with at_terminal() as (process, terminal):
        output = read_until(terminal, "Your decision")
        console, run_id = re.findall(r"(http://[\d.:]+)/runs/(\w+)", output)[-1]
        event = {"type": "ReviewDecision", "payload": {"value": {"decision": "ignore"}}}
        asked = urllib.request.Request(
            f"{console}/stepwire.v1.RunService/SendEvent",
            json.dumps({"runId": run_id, "event": event}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as sent:
            assert json.load(sent)["delivered"] == 1
        output += read_until(terminal, None)
        assert process.wait(60) == 0, output
    assert "✗" not in output
    assert "answered in the console: ignore" in output


def test_a_claim_that_does_not_hold_ends_it_with_an_error() -> None:
    """A module without Python source cannot be reviewed: the run fails, and with it the claim that it asks."""
    command = [*COMMAND, "--package", "sys"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "   ✗ the run asks: nothing"


def test_what_the_server_refuses_ends_it_with_an_error() -> None:
    command = [*COMMAND, "--package", "no_such_package"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "InvalidArgumentError" in done.stderr


def read_until(terminal: int, text: str | None) -> str:
    """Read what a program writes to a terminal until `text` came; None reads to its end."""
    output = b""
    deadline = time.monotonic() + 60
    while text is None or text.encode() not in output:
        ready, _, _ = select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more came after: {output.decode(errors='replace')}"
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux says so when the program has closed its end
            chunk = b""
        if not chunk:
            assert text is None, f"it ended after: {output.decode(errors='replace')}"
            break
        output += chunk
    return output.decode(errors="replace")
