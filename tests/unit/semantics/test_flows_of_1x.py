"""Workflows written for 1.x print the same here: only the imports of `flows_of_1x` were changed.

What they print under 1.0.1 is kept beside them; the slow test installs that and prints it again.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FLOWS = sorted((Path(__file__).parent / "flows_of_1x").glob("*.py"))
PACKAGE = "llama-index-workflows==1.0.1"


def printed(python: str, script: Path) -> str:
    done = subprocess.run([python, str(script)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("flow", FLOWS, ids=lambda path: path.stem)
def test_a_workflow_of_1x_prints_the_same_here(flow: Path) -> None:
    assert printed(sys.executable, flow) == flow.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_that_is_what_1x_prints(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE], check=True)
    for flow in FLOWS:
        script = tmp_path / flow.name
        source = flow.read_text(encoding="utf-8")
        script.write_text(re.sub(r"(?m)^(from|import) stepwire\.workflow\b", r"\1 workflows", source), encoding="utf-8")
        assert "stepwire" not in script.read_text(encoding="utf-8")
        assert printed(python, script) == flow.with_suffix(".txt").read_text(encoding="utf-8"), flow.name
