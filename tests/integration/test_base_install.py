"""The base install is the client: a clean environment imports and uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stepwire.server.testing import serve
from stepwire.workflow import StartEvent, StopEvent, Workflow, step

ROOT = Path(__file__).parents[2]
SCRIPT = """
import importlib.util, sys
from stepwire.client import SyncClient
for name in ("typer", "rich", "uvloop", "pytest", "grpc_reflection"):
    assert importlib.util.find_spec(name) is None, name
with SyncClient(sys.argv[1]) as client:
    print(client.start_run("Hello", name="Ada").result())
assert not any(name.startswith(("stepwire.server", "stepwire.workflow")) for name in sys.modules)
"""


class Hello(Workflow):
    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=f"Hello, {ev.name}!")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_clean_environment_with_the_base_install_uses_the_client(tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), str(ROOT)], check=True)
    with serve(Hello) as server:
        done = subprocess.run([python, "-c", SCRIPT, server.address], check=True, capture_output=True, text=True)
    assert done.stdout == "Hello, Ada!\n"
