"""The programs of the README, as a new user makes them: in a folder of their own, with the package installed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.approval import Approval
from tests.system.acceptance.test_client_packages import approval
from tests.system.clients.programs import TYPESCRIPT, go_module, npm_project, run

from stepwire.server.testing import RunningServer, serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ADDRESS = "127.0.0.1:50051"


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with serve(settings={"web_address": "127.0.0.1:0"}, approval=Approval) as server:
        yield server


def program(language: str, address: str) -> str:
    """Return the README's program for a server at another address."""
    shown = approval("README.md", language)
    assert shown.count(f'"{ADDRESS}"') == 1
    return shown.replace(ADDRESS, address)


def expected(language: str) -> str:
    """Return what the program says that it prints last."""
    (found,) = re.findall(
        r"(?:console\.log|Println)\(.*// (approved .*)$", approval("README.md", language), re.MULTILINE
    )
    return str(found)


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_go(server: RunningServer, tmp_path: Path) -> None:
    go_module(tmp_path)
    (tmp_path / "main.go").write_text(program("go", server.address))
    assert run(["gofmt", "-l", "."], tmp_path) == ""
    assert run(["go", "run", "."], tmp_path).splitlines() == [expected("go")]


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_typescript(server: RunningServer, tmp_path: Path) -> None:
    """In Node.js over gRPC, and bundled for browsers over Connect."""
    manifest = json.loads((TYPESCRIPT / "package.json").read_text())["devDependencies"]
    npm_project(tmp_path, f"typescript@{manifest['typescript']}", f"esbuild@{manifest['esbuild']}")
    source = tmp_path / "approve.ts"
    source.write_text(program("ts", server.address))
    run(["npx", "tsc", "--strict", "--target", "es2022", "--module", "nodenext", "approve.ts"], tmp_path)
    assert run(["node", "approve.js"], tmp_path).splitlines()[-1] == expected("ts")
    source.write_text(program("ts", f"http://{server.web_address}"))
    bundle = ["npx", "esbuild", "approve.ts", "--bundle", "--format=esm", "--platform=browser", "--outfile=bundle.mjs"]
    run([*bundle, "--log-level=warning"], tmp_path)
    assert "node:http2" not in (tmp_path / "bundle.mjs").read_text()
    shutil.rmtree(tmp_path / "node_modules")
    assert run(["node", "bundle.mjs"], tmp_path).splitlines()[-1] == expected("ts")
