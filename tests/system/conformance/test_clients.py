"""The runner's dealings with clients: what is built, skipped, red."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.system.conformance import docs
from tests.system.conformance.__main__ import Column, _compare, matrix
from tests.system.conformance.clients import Client, ClientError, ToolchainMissingError, clients


def client(folder: Path, **manifest: Any) -> Client:
    path = folder / "conformance.json"
    path.write_text(json.dumps({"name": "Test", "driver": ["driver"], **manifest}))
    return Client.of(path)


def line(name: str, *, ok: bool = True, code: str = "", reason: str = "") -> dict[str, Any]:
    return {"scenario": name, "ok": ok, "detail": "", "code": code, "reason": reason}


def test_the_manifests_of_all_clients_can_be_read() -> None:
    names = [found.name for found in clients()]
    assert names[0] == "Python"
    assert {"Go", "TypeScript"} <= set(names)
    assert len(names) == len(set(names))


def test_a_missing_tool_is_said(tmp_path: Path) -> None:
    with pytest.raises(ToolchainMissingError, match=r"not on the PATH: no-such-tool$"):
        client(tmp_path, tools=["sh", "no-such-tool"]).build()


def test_a_build_may_say_what_is_missing(tmp_path: Path) -> None:
    script = "import sys; print('no headers', file=sys.stderr); sys.exit(77)"
    with pytest.raises(ToolchainMissingError, match=r"^no headers$"):
        client(tmp_path, build=[[sys.executable, "-c", script]]).build()


def test_a_build_that_fails_is_told_with_its_output(tmp_path: Path) -> None:
    script = "import sys; print('line 3: wrong'); sys.exit(1)"
    with pytest.raises(ClientError, match=r"exit code 1\nline 3: wrong"):
        client(tmp_path, build=[[sys.executable, "-c", script]]).build()


def test_another_code_or_reason_than_pythons_is_red(tmp_path: Path) -> None:
    python, other = Column(client(tmp_path)), Column(client(tmp_path))
    python.lines = {"a": line("a", code="NOT_FOUND", reason="X"), "b": line("b")}
    other.lines = {"a": line("a", code="NOT_FOUND", reason="Y"), "b": line("b")}
    _compare([python, other])
    assert [other.lines[name]["ok"] for name in "ab"] == [False, True]
    assert python.lines["a"]["ok"]


def test_the_matrix_has_a_row_for_each_scenario(tmp_path: Path) -> None:
    column = Column(client(tmp_path), lines={"a": line("a"), "b": line("b", ok=False)})
    skipped = Column(client(tmp_path), skipped="no compiler")
    grid = matrix([column, skipped], [{"name": "a"}, {"name": "b"}])
    cells = [list(found.cells) for found in grid.columns]
    assert cells[:3] == [["a", "b"], ["[green]ok", "[red]FAILED"], ["[yellow]skipped"] * 2]


def test_the_matrix_goes_between_the_markers_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "clients.md"
    before = docs.CLIENTS.read_text("utf-8")
    page.write_text(before, "utf-8")
    monkeypatch.setattr(docs, "CLIENTS", page)
    column = Column(client(tmp_path), version="Test 1.0", lines={"a": line("a"), "b": line("b", ok=False)})
    for _ in range(2):
        docs.write_matrix(date(2030, 1, 2), [column], ["a", "b"], [])
    after = page.read_text("utf-8")
    assert after.startswith(before[: before.index("<!-- conformance: begin")])
    assert after.count("conformance: begin") == after.count("conformance: end") == 1
    assert "2030-01-02, 2 scenarios" in after
    assert "- Test: 1 of 2 (Test 1.0)" in after
    assert "| `b`      | **failed** |" in after
