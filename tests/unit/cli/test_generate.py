"""The names and shapes that `stepwire generate` writes, and the files of `stepwire protos`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.system.clients.odd_flows import OrderFlow
from typer.testing import CliRunner

from stepwire.cli._app import make_app
from stepwire.cli.generating import LANGUAGES, GeneratorError, Shapes, tools
from stepwire.server.testing import serve

SPEC = "tests/system/clients/odd_flows.py:OrderFlow=orders"


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    with serve(order_flow=OrderFlow) as server, server.client() as client:
        return Shapes.of(client.workflow("order_flow"))


def test_names_are_those_that_a_person_would_choose(shapes: Shapes) -> None:
    assert shapes.title == "OrderFlow"
    own = set(shapes.definitions) - {"InputRequiredEvent"}
    own = {name for name in own if not name.startswith("Workflow")}
    assert own == {"BoxInt", "BoxLine", "Colour", "Line", "Order", "OrderState", "Packed", "Part", "Shipped"}
    assert (shapes.input, shapes.state, shapes.result) == ("Order", "OrderState", "Shipped")
    assert shapes.events["Packed"] == "Packed"
    assert "Order" not in shapes.events


def test_no_title_is_left_for_a_generator_to_make_a_type_of(shapes: Shapes) -> None:
    def keys(node: Any) -> set[str]:
        if isinstance(node, dict):
            return set(node).union(*map(keys, node.values()))
        return set().union(*map(keys, node)) if isinstance(node, list) else set()

    assert "title" not in keys(shapes.definitions)


def test_no_description_links_to_a_page_of_this_project(shapes: Shapes) -> None:
    described = {name: schema.get("description", "") for name, schema in shapes.definitions.items()}
    assert described["WorkflowCancelledEvent"].startswith("Close the stream of a run that was cancelled")
    assert not [name for name, text in described.items() if ".md" in text]


def test_references_lead_to_definitions(shapes: Shapes) -> None:
    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            found = {node["$ref"].removeprefix("#/$defs/")} if isinstance(node.get("$ref"), str) else set()
            return found.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(shapes.definitions) <= set(shapes.definitions)


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(make_app(), arguments)


def test_a_language_that_there_is_not(tmp_path: Path) -> None:
    found = invoke("generate", "orders", str(tmp_path / "x"), "--language", "cobol")
    assert found.exit_code == 2
    assert all(language in found.output for language in LANGUAGES)


def test_code_that_cannot_be_loaded(tmp_path: Path) -> None:
    found = invoke("generate", "no_such_module:Flow", str(tmp_path / "x.ts"), "--language", "typescript")
    assert found.exit_code == 2
    assert "no_such_module" in found.output


def test_a_generator_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for language, missing in (("typescript", "Node.js"), ("go", "install Go"), ("python", "pip install")):
        out = tmp_path / "out"
        found = invoke("generate", SPEC, str(out), "--language", language)
        assert found.exit_code == 1
        assert missing in found.output
        assert not out.exists()


def test_a_generator_that_fails_is_told_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match=r"exit code 3:\nno good"):
        tools.run([sys.executable, "-c", "import sys; print('no good', file=sys.stderr); sys.exit(3)"], tmp_path)


def test_the_protos_need_no_other_folder(tmp_path: Path) -> None:
    out = tmp_path / "contract"
    assert invoke("protos", str(out)).exit_code == 0
    program = (
        "import sys; from grpc_tools import _protoc_compiler as compiler\n"
        "sys.exit(compiler.run_main([argument.encode() for argument in sys.argv[1:]]))"
    )
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.proto"))
    assert "google/protobuf/any.proto" in files
    # The compiler itself, without the folder that grpc_tools.protoc adds.
    command = [sys.executable, "-c", program, "protoc", "-I.", "--descriptor_set_out=x.pb", *files]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_protos_replace_nothing_without_force(tmp_path: Path) -> None:
    assert invoke("protos", str(tmp_path)).exit_code == 0
    (tmp_path / "stepwire" / "v1" / "types.proto").write_text("mine")
    refused = invoke("protos", str(tmp_path))
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert (tmp_path / "stepwire" / "v1" / "types.proto").read_text() == "mine"
    assert invoke("protos", str(tmp_path), "--force").exit_code == 0
    assert "PayloadEncoding" in (tmp_path / "stepwire" / "v1" / "types.proto").read_text()
