"""docs/migrating.md and docs/semantics.md say what is so."""

from __future__ import annotations

import importlib
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[3] / "docs"
HERE = Path(__file__).parent


def blocks() -> tuple[str, str]:
    """Return the workflow before and after: the second has the imports only, the rest is the first's."""
    before, after = re.findall(r"```python\n(.*?)```", (DOCS / "migrating.md").read_text(), re.DOTALL)
    head, _, rest = after.partition("# The rest is the same.\n")
    assert rest == ""
    body = before[before.index("class Library:") :]
    return before, f"{head}\n{body}"


def test_only_the_imports_change() -> None:
    before, after = blocks()
    old, new = (
        [line for line in text.splitlines() if not re.match(r"(from|import) ", line)] for text in (before, after)
    )
    assert [line for line in old if line] == [line for line in new if line]
    assert re.sub(r"from workflows\b", "from stepwire.workflow", before).split() == after.split()


async def test_the_migrated_workflow_runs(capsys: pytest.CaptureFixture[str]) -> None:
    _, after = blocks()
    module: Any = types.ModuleType("migrated")
    sys.modules["migrated"] = module
    try:
        exec(compile(after, "migrating.md", "exec"), module.__dict__)
        result = await module.main()
    finally:
        del sys.modules["migrated"]
    assert result == "what is known about bees; what is known about wasps; what is known about ants"
    assert sorted(capsys.readouterr().out.splitlines()) == ["searched ants", "searched bees", "searched wasps"]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("", "JsonPickleSerializer JsonSerializer InputRequiredEvent HumanResponseEvent"),
        ("", "WorkflowRuntimeError WorkflowTimeoutError WorkflowValidationError"),
        ("", "Context Workflow step Event StartEvent StopEvent WorkflowHandler Checkpoint WorkflowCheckpointer"),
        ("events", "Event StartEvent StopEvent InputRequiredEvent HumanResponseEvent"),
        ("context", "Context JsonSerializer PickleSerializer BaseSerializer"),
        ("context.serializers", "BaseSerializer JsonSerializer PickleSerializer JsonPickleSerializer"),
        ("context.state_store", "DictState InMemoryStateStore UnserializableKeyWarning"),
        ("decorators", "step StepConfig"),
        (
            "errors",
            "WorkflowValidationError WorkflowTimeoutError WorkflowRuntimeError WorkflowDone WorkflowCancelledByUser "
            "WorkflowStepDoesNotExistError WorkflowConfigurationError ContextSerdeError",
        ),
        ("handler", "WorkflowHandler"),
        ("checkpointer", "Checkpoint CheckpointCallback WorkflowCheckpointer"),
        ("resource", "Resource ResourceManager ResourceDefinition"),
        ("retry_policy", "RetryPolicy ConstantDelayRetryPolicy"),
        ("service", "ServiceManager ServiceNotFoundError"),
    ],
)
def test_the_modules_of_1x_are_there(module: str, names: str) -> None:
    found = importlib.import_module(f"stepwire.workflow.{module}".rstrip("."))
    for name in names.split():
        assert hasattr(found, name)


def test_semantics_names_every_test_of_a_line() -> None:
    text = (DOCS / "semantics.md").read_text()
    of_durability = {
        "test_durability.py",
        "test_ledger.py",
        "test_durable_waiters.py",
        "test_damage_and_dead_attempts.py",
        "test_half_done_changes.py",
        "test_children.py",
    }
    told = set(re.findall(r"`(test_\w+)`", (DOCS / "semantics-tests.md").read_text()))
    tests = {
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
        if re.match(r"test_s\d\d_", name) or path.name in of_durability
    }
    assert told == tests
    assert [int(line) for line in re.findall(r"^### S(\d+)$", text, re.MULTILINE)] == list(range(1, 24))
