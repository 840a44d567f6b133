"""What LlamaIndex 2.x promises, checked on its own engine and on this one: each flow must tell the same on both."""

from importlib import import_module

import pytest
from tests.llamaindex.beside.harness import BACK, ENGINES, FLOWS, MOVED, Engine

for name in ("contexts", "events", "failures", "names", "nested", "resources", "saved", "spans", "state", "waits"):
    import_module(f"tests.llamaindex.beside.{name}")


@pytest.mark.parametrize("name", FLOWS)
async def test_both_engines_tell_the_same(name: str) -> None:
    theirs = await FLOWS[name](ENGINES["theirs"])
    assert await FLOWS[name](ENGINES["ours"]) == theirs


SAVED = [name for name, function in FLOWS.items() if function.__module__.endswith(".saved")]


@pytest.mark.parametrize("engine", [MOVED, BACK])
@pytest.mark.parametrize("name", SAVED)
async def test_a_run_moves_between_the_engines(name: str, engine: Engine) -> None:
    theirs = await FLOWS[name](ENGINES["theirs"])
    assert await FLOWS[name](engine) == theirs
