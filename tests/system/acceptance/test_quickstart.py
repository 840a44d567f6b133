"""docs/quickstart.md shows what happens: its code and commands are run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving import COMMAND, ROOT, ServerProcess

PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


def snippet(name: str) -> str:
    (code,) = re.findall(rf"(?ms)^```python\n(# {name}\n.*?)^```$", PAGE)
    return str(code)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    for name in ("expense.py", "try_it.py", "pay.py"):
        (folder / name).write_text(snippet(name))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    assert "stepwire serve expense.py:Expenses=expenses" in PAGE
    with ServerProcess(folder / "data", [f"{folder / 'expense.py'}:Expenses=expenses"]) as server:
        yield server


def output(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_workflow_runs_without_a_server(folder: Path) -> None:
    assert output(folder, sys.executable, "try_it.py").strip() == "paid"


@pytest.mark.slow
def test_a_run_survives_a_killed_server(folder: Path, server: ServerProcess) -> None:
    def stepwire(*words: str) -> str:
        return output(folder, str(COMMAND), *words, "--server", server.address)

    assert "stepwire run expenses who=Ada amount=40\n" in PAGE
    assert "paid" in stepwire("run", "expenses", "who=Ada", "amount=40")
    run_id = stepwire("run", "expenses", "who=Ada", "amount=400", "--detach").strip()
    assert run_id in stepwire("runs")
    server.restart(kill=True)
    stepwire("send", run_id, "Decision", "approved=true")
    assert "paid" in stepwire("result", run_id)


def test_the_client_program_prints_the_result(folder: Path, server: ServerProcess) -> None:
    script = folder / "pay.py"
    script.write_text(script.read_text().replace("127.0.0.1:50051", server.address))
    assert output(folder, sys.executable, "pay.py").strip() == "paid"


def test_none_of_our_own_words_is_needed() -> None:
    prose = re.sub(r"(?ms)^```.*?^```$|`[^`]*`", "", PAGE).lower()
    ours = r"\b(broker|deliver(y|ies)|ledger|membrane|waiter|parked|snapshot|sequence|claim|journal|delta)\b"
    assert re.search(ours, prose) is None
