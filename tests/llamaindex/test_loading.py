"""What is done and said when a workflow of LlamaIndex is loaded, before any run."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_index.core
import pytest
from llama_index.core.memory import ChatMemoryBuffer, Memory
from tests.serving import ServerProcess
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from stepwire.client import Client
from stepwire.server.testing import serve
from stepwire.workflow import adopt
from stepwire.workflow.errors import WorkflowConfigurationError
from stepwire.workflow.llamaindex import versions


class Remembering(Workflow):
    def __init__(self, memory: Any) -> None:
        super().__init__()
        self.agents = [{"memory": memory}]

    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


def test_a_memory_that_a_restart_loses_is_warned_of(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING, "stepwire.workflow"):
        file = f"sqlite+aiosqlite:///{tmp_path / 'memory.db'}"
        adopt(Remembering(Memory.from_defaults(async_database_uri=file)))
        adopt(Remembering(ChatMemoryBuffer.from_defaults()))
        assert caplog.messages == []
        adopt(Remembering(Memory.from_defaults()))
    (said,) = caplog.messages
    assert "keeps messages in RAM, and a restart loses them" in said
    assert "async_database_uri=" in said


def test_a_server_of_a_test_adopts_what_it_is_given() -> None:
    with serve(Remembering(None), other=Remembering(None)) as server, server.client() as client:
        assert [client.start_run(name).result() for name in ("Remembering", "other")] == [None, None]


def test_what_is_slow_to_load_is_loaded_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_index.core, "global_tokenizer", None)
    adopt(Remembering(None))
    assert llama_index.core.global_tokenizer is not None


@pytest.mark.parametrize("found", ["1.3.0", "2.0.0", "2.24.9", "3.0.0", "unknown"])
def test_a_version_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(versions, "version", lambda _: found)
    with pytest.raises(WorkflowConfigurationError, match=f"workflows {found} is installed; .* from 2.25 on"):
        adopt(Remembering(None))


LACKING = """
import sys
import workflows.workflow
from stepwire.workflow import adopt

class Flow(workflows.Workflow):
    @workflows.step
    async def only(self, ev: workflows.events.StartEvent) -> workflows.events.StopEvent: ...

flow = Flow()
sys.modules["workflows._event_summary"] = None  # what a version without this private module does
try:
    adopt(flow)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_version_that_lacks_a_private_name_is_refused_in_words() -> None:
    done = subprocess.run([sys.executable, "-c", LACKING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("WorkflowConfigurationError llama-index-workflows 2.")
    assert "tested with 2.25 and 2.26 (import of workflows._event_summary halted" in done.stdout


OWN = """
from stepwire.workflow import StartEvent, StopEvent, Workflow, step


class Mine(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=__file__)
"""


async def test_a_module_of_the_users_that_is_called_workflows_is_the_users(tmp_path: Path) -> None:
    own = tmp_path / "workflows.py"
    own.write_text(OWN)
    with ServerProcess(tmp_path / "data", [f"{own}:Mine=mine"], timeout=60) as server:
        async with Client(server.address) as client:
            run = await client.start_run("mine")
            assert await run.result(timeout=50) == str(own)
