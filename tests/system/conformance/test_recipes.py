"""The recipes of docs/clients.md give what the page shows, with every tool that is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from tests.serving import ROOT, ServerProcess
from tests.system.conformance.docs import Recipe, recipes
from tests.system.conformance.matching import check

TOOLS = {"buf", "grpcurl"}
RECIPES = recipes()
PATH = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))


def test_the_page_has_its_recipes() -> None:
    names = [recipe.name for recipe in RECIPES]
    assert len(names) == len(set(names)) == 12
    assert set(names) > TOOLS
    assert all(recipe.output for recipe in RECIPES if recipe.name not in TOOLS)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_the_recipes_give_what_the_page_shows(tool: str, tmp_path: Path) -> None:
    if shutil.which(tool, path=PATH) is None:
        pytest.skip(f"{tool} is not installed")
    (preparation,) = (recipe.script for recipe in RECIPES if recipe.name == tool)
    with ServerProcess(tmp_path, ["examples/approval.py:Approval=approval"]) as server:
        for recipe in RECIPES:
            if recipe.name not in TOOLS:
                _holds(recipe, preparation, server.address, proto_names=tool == "grpcurl")


def _holds(recipe: Recipe, preparation: str, address: str, *, proto_names: bool) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", preparation + recipe.script],
        cwd=ROOT,
        env={**os.environ, "PATH": PATH, "ADDRESS": address},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{recipe.name}: {done.stderr}"
    shown, given = _documents(recipe.output.replace("…", "*")), _documents(done.stdout)
    assert len(shown) == len(given), f"{recipe.name}: {done.stdout}"
    for pattern, document in zip(shown, given, strict=True):
        check(_proto_names(pattern) if proto_names else pattern, document, recipe.name)
    assert done.stdout.count("\n") > len(given), "people read it: one field a line"


def _proto_names(value: Any) -> Any:
    """Return a document with runId as run_id: grpcurl prints names as reflection has them, that is as in the protos."""
    if isinstance(value, list):
        return [_proto_names(item) for item in value]
    if isinstance(value, dict):
        return {re.sub("[A-Z]", lambda at: f"_{at[0].lower()}", key): _proto_names(value[key]) for key in value}
    return value


def _documents(text: str) -> list[Any]:
    found: list[Any] = []
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found
