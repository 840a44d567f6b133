"""Workflows by MODULE:NAME, and the messages when there is no such workflow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from stepwire.server.registry import Registry
from stepwire.server.workflow_loading import LoadError, load, load_all
from stepwire.workflow import Workflow

HEAD = "from stepwire.workflow import *\n"
FLOW = """
class {name}(Workflow):
    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        return StopEvent()
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into the current directory, which is forgotten afterwards with all its modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(*specs: str) -> str:
    with pytest.raises(LoadError) as caught:
        load_all(Registry(), specs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_class_an_instance_and_a_served_name(write: Write) -> None:
    write("flows_a.py", HEAD + FLOW.format(name="Flow") + "\nready = Flow(timeout=3)\n")
    [(name, found)] = load("flows_a:Flow")
    assert name == "Flow"
    assert isinstance(found, type)
    assert issubclass(found, Workflow)
    [(name, found)] = load("flows_a:ready=other-name")
    assert name == "other-name"
    assert isinstance(found, Workflow)


def test_a_file_its_neighbours_and_its_package(write: Write) -> None:
    write("deep/neighbour.py", "NAME = 'x'\n")
    write("deep/flows_b.py", "import neighbour\n" + HEAD + FLOW.format(name="Flow"))
    assert load("deep/flows_b.py:Flow")[0][0] == "Flow"
    write("top/pack/__init__.py", "")
    write("top/pack/other.py", "NAME = 'x'\n")
    write("top/pack/flows_c.py", "from .other import NAME\n" + HEAD + FLOW.format(name="Flow"))
    [(_, found)] = load("top/pack/flows_c.py:Flow")
    assert isinstance(found, type)
    assert found.__module__ == "pack.flows_c"


def test_a_module_alone_is_all_that_it_defines(write: Write) -> None:
    write("lib_d.py", HEAD + FLOW.format(name="Imported"))
    flows = "".join(FLOW.format(name=name) for name in ("One", "Two", "_Hidden"))
    write("flows_d.py", HEAD + "from lib_d import Imported\nclass Base(Workflow): pass\n" + flows + "three = Two()\n")
    assert [name for name, _ in load("flows_d")] == ["One", "Two", "three"]
    assert [name for name, _ in load("flows_d.py")] == ["One", "Two", "three"]
    registry = Registry()
    load_all(registry, ["flows_d", "lib_d:Imported=two"])
    assert registry.names() == ["One", "Two", "three", "two"]


def test_no_such_module_with_a_near_one(write: Write) -> None:
    write("orders_e.py", HEAD)
    message = refusal("order_e:Flow")
    assert "no module order_e" in message
    assert "did you mean orders_e?" in message
    assert "no module pack_nowhere" in refusal("pack_nowhere.flows:Flow")


def test_no_such_file(write: Write) -> None:
    write("flows_f.py", HEAD)
    assert "did you mean flows_f.py?" in refusal("flow_f.py:Flow")
    assert "no directory nowhere" in refusal("nowhere/flow_f.py:Flow")


def test_a_file_that_cannot_be_imported_by_its_name(write: Write) -> None:
    write("my-flows.py", HEAD + FLOW.format(name="Flow"))
    assert "rename it" in refusal("my-flows.py:Flow")
    write("json.py", HEAD + FLOW.format(name="Flow"))
    assert "rename the file" in refusal("json.py:Flow")


def test_what_the_module_imports_is_missing(write: Write) -> None:
    write("flows_g.py", "\nimport nowhere_to_be_found\n")
    message = refusal("flows_g:Flow")
    assert "No module named 'nowhere_to_be_found'" in message
    assert "flows_g.py:2" in message
    assert "install it" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n\ndef f(:\n", ["SyntaxError: invalid syntax", ":3"]),
        ("\nraise RuntimeError('two\\nlines')\n", ["RuntimeError: two lines", ":2"]),
        ("import sys\nsys.exit(4)\n", ["exits when it is imported", ":2", "__main__"]),
        (
            HEAD + "class Flow(Workflow):\n    @step\n    async def go(self, ev) -> StopEvent: ...\n",
            ["'go'", "'ev'", ":3"],
        ),
    ],
)
def test_the_module_fails(write: Write, text: str, said: list[str], request: pytest.FixtureRequest) -> None:
    name = f"flows_h{abs(hash(request.node.name))}"
    write(f"{name}.py", text)
    message = refusal(f"{name}:Flow")
    assert f"{name}.py" in message
    for part in said:
        assert part in message


def test_no_such_name(write: Write) -> None:
    write("flows_i.py", HEAD + FLOW.format(name="OrderFlow"))
    message = refusal("flows_i:OrderFlo")
    assert "flows_i.py" in message
    assert "did you mean OrderFlow?" in message
    assert "it defines OrderFlow" in refusal("flows_i:Xyz")


def test_not_a_workflow(write: Write) -> None:
    write("flows_j.py", HEAD + "\ndef make(): ...\nclass Plain: ...\nnumber = 3\n")
    assert "flows_j.py:3) is a function" in refusal("flows_j:make")
    assert "is a class that is not a Workflow" in refusal("flows_j:Plain")
    assert "is a int" in refusal("flows_j:number")
    assert "Workflow itself" in refusal("flows_j:Workflow")
    assert "defines no workflow" in refusal("flows_j")


def test_workflows_that_are_not_finished(write: Write) -> None:
    write("flows_p.py", HEAD + "\nclass Bare(Workflow):\n    async def go(self, ev: StartEvent) -> StopEvent: ...\n")
    assert refusal("flows_p") == "Bare (flows_p.py) has no steps: mark methods with @step"
    write(
        "flows_q.py",
        HEAD
        + "\nclass Half(Workflow):\n    def __init__(self): self.n = 1\n"
        + "    @step\n    async def go(self, ev: StartEvent) -> StopEvent: ...\n",
    )
    assert refusal("flows_q") == (
        "Half (flows_q.py:3) cannot be served: Workflow 'Half': its __init__ must call super().__init__()"
    )


def test_a_workflow_that_cannot_run_names_its_line(write: Write) -> None:
    write(
        "flows_k.py",
        HEAD
        + "class NoStop(Workflow):\n    @step\n    async def go(self, ev: StartEvent) -> None: ...\n"
        + FLOW.format(name="Needs")
        + "    def __init__(self, url): super().__init__()\n"
        + FLOW.format(name="Raises")
        + "    def __init__(self): raise OSError('no disk')\n",
    )
    message = refusal("flows_k:NoStop")
    assert "flows_k.py:2" in message
    assert "StopEvent" in message
    assert "instance" in refusal("flows_k:Needs")
    message = refusal("flows_k:Raises")
    assert "OSError: no disk" in message
    assert "flows_k.py:16" in message


def test_a_step_without_self(write: Write) -> None:
    write(
        "flows_m.py",
        HEAD
        + "class Flow(Workflow):\n    @step\n    async def go(ev: StartEvent) -> StopEvent: ...\n"
        + "class Static(Workflow):\n    @staticmethod\n    @step\n    async def go(ev: StartEvent) -> StopEvent: ...\n"
        + "class This(Workflow):\n    @step\n    async def go(this, ev: StartEvent) -> StopEvent: ...\n",
    )
    message = refusal("flows_m:Flow")
    assert "Step 'go' is a method without self: write it as go(self, ev…)" in message
    assert "flows_m.py:3" in message
    load_all(Registry(), ["flows_m:Static", "flows_m:This"])


def test_two_of_one_name(write: Write) -> None:
    write("flows_l.py", HEAD + FLOW.format(name="Flow"))
    message = refusal("flows_l:Flow", "flows_l:Flow")
    assert "'Flow'" in message
    assert message.endswith("serve it as flows_l:Flow=other-name")
    assert refusal("flows_l:Flow=a", "flows_l:Flow=a").endswith("serve it as flows_l:Flow=other-name")
    assert refusal("flows_l:Flow=a", "flows_l=a").endswith("serve it as flows_l:Flow=other-name")


def test_the_served_name_first(write: Write) -> None:
    write("flows_n.py", HEAD + FLOW.format(name="Flow"))
    assert refusal("orders=flows_n:Flow").endswith("did you mean flows_n:Flow=orders?")


def test_a_dot_where_a_colon_belongs(write: Write) -> None:
    write("flows_o.py", HEAD + FLOW.format(name="Flow"))
    write("pack_o/__init__.py", "")
    write("pack_o/flows.py", HEAD + FLOW.format(name="Flow"))
    assert refusal("flows_o.Flow").endswith("did you mean flows_o:Flow?")
    assert refusal("pack_o.flows.Flow").endswith("did you mean pack_o.flows:Flow?")


def test_a_file_that_cannot_be_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("flows_p.py", HEAD)

    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied", "flows_p.py")

    monkeypatch.setattr("stepwire.server.workflow_loading.importlib.import_module", refuse)
    message = refusal("flows_p.py")
    assert message.startswith("cannot import flows_p.py: PermissionError:")
    assert "()" not in message


@pytest.mark.parametrize("spec", ["", ":Flow", "flows:", "flows:a b", "flows:Flow=a/b", "flows:Flow=", "=x"])
def test_not_a_spec(spec: str) -> None:
    assert "MODULE:NAME" in refusal(spec)


def test_a_served_name_for_several(write: Write) -> None:
    write("flows_m.py", HEAD + FLOW.format(name="One") + FLOW.format(name="Two"))
    assert "One, Two" in refusal("flows_m=x")
