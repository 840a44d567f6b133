"""The module for hosts: its example works, and names what it lets through."""

from __future__ import annotations

import sys
import textwrap
from types import ModuleType
from typing import Any

import pytest

from stepwire.workflow import hosting


def _example(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the code in the module's docstring and return its names."""
    assert hosting.__doc__ is not None
    _, _, code = hosting.__doc__.partition("complete::\n")
    module = ModuleType("example_of_a_host")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where the types of its workflow are looked for
    exec(textwrap.dedent(code), vars(module))
    found: dict[str, Any] = vars(module)
    return found


async def test_the_example_of_a_host_survives_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    result, log = await _example(monkeypatch)["main"]()
    assert result == "Oslo"
    assert log == ["StartEvent", "Question", "Answer", "StopEvent"]


def test_every_name_is_exported_on_purpose() -> None:
    public = {name for name in vars(hosting) if not name.startswith("_")} - {"annotations"}
    assert public == set(hosting.__all__)
