"""The documents name modules and functions that are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted({ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")})
SOURCES = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("[a-z]*/**/*.py")]
WALK = re.compile(r"^\d+\. `((?:rpc|runs|store|workflow)\.[\w.]+)`", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_that_a_document_names_is_there(document: Path) -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", document.read_text()))
    assert [name for name in sorted(named) if not any(f"/{path}".endswith(f"/{name}") for path in SOURCES)] == []


def test_every_hop_of_the_walk_is_there() -> None:
    hops = WALK.findall((ROOT / "docs/architecture.md").read_text())
    assert 10 < len(hops) <= 20
    for hop in hops:
        found = _found(f"stepwire.{'' if hop.startswith('workflow.') else 'server.'}{hop}")
        assert callable(found), hop


def _found(dotted: str) -> object:
    """Return what a dotted name means: a module, then attributes."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"no module of {dotted}")
