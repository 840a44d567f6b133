"""The engine is a library alone, and cheap."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, sys
from stepwire.workflow import StartEvent, StopEvent, Workflow, step

class Hello(Workflow):
    @step
    async def hello(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="hello")

async def main():
    assert await Hello().run() == "hello"

asyncio.run(main())
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"grpc", "google", "sqlite3", "typer", "rich"}))
print(sorted(name for name in sys.modules if name.startswith(("stepwire.server", "stepwire.client", "stepwire.v1"))))
"""


def test_the_engine_runs_without_the_server_and_grpc() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=False)
    assert done.stderr == ""
    assert done.stdout == "[]\n[]\n"
