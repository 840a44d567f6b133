"""`stepwire serve --reload`: new code takes over the runs; broken code does not take the old one down."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.serving import COMMAND, ServerProcess

from stepwire.client import RunStatus, SyncClient, UnavailableError

pytestmark = pytest.mark.timeout(180)  # it starts up to six processes one after the other

CODE = """
from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step


class Go(HumanResponseEvent):
    pass


class Flow(Workflow):
    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Go, InputRequiredEvent(), timeout=None)
        return StopEvent(result="RESULT")
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    file = folder / "reloaded_flow.py"
    file.write_text(CODE.replace("RESULT", "one"))
    return file


@pytest.fixture
def server(tmp_path: Path, code: Path) -> Iterator[ServerProcess]:
    args = ["--reload", "--reload-dir", str(code.parent), "--grace", "30"]
    with ServerProcess(tmp_path / "data", [f"{code}:Flow=flow"], args=args, timeout=60.0) as found:
        yield found


def versions(client: SyncClient) -> set[str]:
    """Return the version that is served, while the server may be away."""
    try:
        return {summary.version for summary in client.workflows()}
    except UnavailableError:
        return set()


def test_runs_go_on_under_new_code_and_broken_code_is_told_and_not_served(server: ServerProcess, code: Path) -> None:
    with SyncClient(server.address) as client:
        run = client.start_run("flow")
        assert next(iter(run.events())).type == "InputRequiredEvent"
        first = versions(client)

        code.write_text("def broken(:\n")
        server.hear("the server goes on with the code of before")
        assert "SyntaxError" in server.log
        assert versions(client) == first
        code.write_text(CODE.replace("-> StopEvent", "-> int"))  # it loads, and is no workflow
        server.hear("(?s)(the server goes on with the code of before.*){2}")
        assert run.info().status is RunStatus.WAITING

        code.write_text(CODE.replace("RESULT", "two"))
        server.hear("reloaded after")
        server.hear("(?s)(listening on.*){2}")
        run.context.send_event(("Go", {}))
        assert run.result(timeout=60) == "two"


def test_the_server_ends_with_the_process_that_reloads_it(server: ServerProcess) -> None:
    (child,) = psutil.Process(server.pid).children()
    os.kill(server.pid, signal.SIGKILL)
    child.wait(60)


def test_sigterm_drains_and_ends_both(server: ServerProcess) -> None:
    (child,) = psutil.Process(server.pid).children()
    assert server.stop() == 0
    child.wait(60)


@pytest.fixture
def beside(tmp_path: Path, code: Path) -> Iterator[ServerProcess]:
    """Serve the file from its own folder, as in the quickstart, and watch what is watched by default."""
    command = ["sh", "-c", 'cd "$0" && exec "$@"', str(code.parent), str(COMMAND)]
    specs = [f"{code.name}:Flow=flow"]
    with ServerProcess(tmp_path / "data", specs, args=["--reload"], command=command, timeout=60.0) as found:
        yield found


@pytest.mark.slow
def test_code_that_was_loaded_is_served_although_its_file_is_broken_since(beside: ServerProcess, code: Path) -> None:
    with SyncClient(beside.address) as client:
        run = client.start_run("flow")
        assert next(iter(run.events())).type == "InputRequiredEvent"
        broken = f"\nfrom pathlib import Path\nPath({str(code)!r}).write_text('bad (')\n"  # saved while it is imported
        code.write_text(CODE.replace("RESULT", "two") + broken)
        beside.hear("(?s)reloaded after.*the server goes on with the code of before")
        assert beside.log.count("SyntaxError") == 1
        assert "no server runs" not in beside.log
        run.context.send_event(("Go", {}))
        assert run.result(timeout=60) == "two"


@pytest.mark.slow
def test_only_files_that_the_served_code_imports_restart_it(beside: ServerProcess, code: Path) -> None:
    (code.parent / "a_client.py").write_text("print('not served')\n")
    code.write_text("import a_helper\n" + CODE)  # which is not there yet: nobody has imported it
    beside.hear("the server goes on with the code of before")
    helper = code.parent / "a_helper.py"
    helper.write_text("RESULT = 1\n")
    beside.hear("changed: a_helper.py")
    beside.hear("reloaded after")
    (code.parent / "a_client.py").write_text("print('still not served')\n")
    helper.write_text("RESULT = 2\n")
    beside.hear("(?s)(reloaded after.*){2}")
    assert "a_client.py" not in beside.log
    assert beside.log.count("changed: a_helper.py") == 2
