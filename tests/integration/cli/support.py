"""Run the command in this process, or as one of its own, against the server of a test file."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.serving import COMMAND
from typer.testing import CliRunner, Result

from stepwire.cli import app

FLOWS = str(Path(__file__).parents[1] / "cli_flows.py")
ANSWERS = [f"--answer=Approval:{field}" for field in ("approved=true", "parcels=2", "speed=fast")]


def cli(*arguments: str | Path, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(item) for item in arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def document(*arguments: str | Path) -> Any:
    [line] = cli(*arguments, "--json").stdout.splitlines()
    return json.loads(line)


def records(*arguments: str | Path, code: int = 0) -> list[Any]:
    return [json.loads(line) for line in cli(*arguments, "--json", code=code).stdout.splitlines()]


def start(*arguments: str) -> str:
    return cli("run", *arguments, "--detach").stdout.strip()


def asking(*arguments: str) -> str:
    """Start a run of Order and wait for its question."""
    run = start("Order", *arguments)
    while not document("runs", run)["pending_waiters"]:
        pass
    return run


def following(*arguments: str) -> subprocess.Popen[str]:
    """Start a command that follows a run, without a terminal."""
    return subprocess.Popen(
        [str(COMMAND), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
