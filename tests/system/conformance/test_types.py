"""Generators of other languages take what `stepwire describe` writes, by the commands of docs/clients.md."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from examples.approval import Approval
from pydantic import ValidationError
from tests.system.conformance.docs import CLIENTS

from stepwire.server.testing import serve

GENERATOR = "datamodel-code-generator==0.89.0"
TYPESCRIPT = "typescript@5.9.3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the document of a served workflow."""
    folder = tmp_path_factory.mktemp("types")
    program = Path(sysconfig.get_path("scripts")) / "stepwire"
    with serve(approval=Approval) as server:
        document = subprocess.run(
            [program, "describe", "approval", "--server", server.address], capture_output=True, check=True, timeout=60
        ).stdout
    (folder / "approval.schema.json").write_bytes(document)
    return folder


def generate(language: str, folder: Path, path: str = "") -> None:
    found = re.search(rf"<!-- types: {language} -->\n\n```sh\n(.*?)```", CLIENTS.read_text("utf-8"), re.DOTALL)
    assert found is not None
    environment = {**os.environ, "PATH": os.pathsep.join(filter(None, (path, os.environ.get("PATH", ""))))}
    subprocess.run(["bash", "-euc", found[1]], cwd=folder, env=environment, check=True, timeout=300)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_python_classes_are_made_of_it(folder: Path) -> None:
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    install: list[str | Path] = [
        environment / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*install, GENERATOR], check=True)
    generate("python", folder, str(environment / "bin"))
    spec = importlib.util.spec_from_file_location("approval_events", folder / "approval_events.py")
    assert spec is not None
    assert spec.loader is not None
    made: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    answer = made.ApprovalAnswer(expense_id="e1", verdict="approve", by="Ada")
    assert answer.model_dump(mode="json") == {"expense_id": "e1", "verdict": "approve", "by": "Ada"}
    with pytest.raises(ValidationError, match="verdict"):
        made.ApprovalAnswer(expense_id="e1", verdict="perhaps", by="Ada")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
def test_typescript_types_are_made_of_it(folder: Path) -> None:
    generate("typescript", folder)
    assert "export interface ApprovalAnswer" in (folder / "approval_events.d.ts").read_text("utf-8")
    for verdict, fits in (("approve", True), ("perhaps", False)):
        (folder / "use.ts").write_text(
            'import type { ApprovalAnswer } from "./approval_events";\n'
            f'export const answer: ApprovalAnswer = {{ expense_id: "e1", verdict: "{verdict}", by: "Ada" }};\n',
            "utf-8",
        )
        compiler = ["npx", "--yes", "--package", TYPESCRIPT, "tsc", "--strict", "--noEmit", "use.ts"]
        done = subprocess.run(compiler, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert (done.returncode == 0) is fits, done.stdout + done.stderr
        assert fits or "perhaps" in done.stdout
