"""Private names of an author's workflow are the author's: the engine keeps to its own."""

from __future__ import annotations

from typing import Any

import pytest

from stepwire.workflow import StartEvent, StopEvent, Workflow, step

# fmt: off
NAMES = [
    "_build", "_calls", "_conclude", "_free", "_graph", "_handlers", "_interactive", "_latest", "_launch",
    "_plan", "_queued", "_routing", "_running", "_runs", "_start", "_state", "_state_type", "_steps", "_stop",
    "_stream", "_timer", "_validate", "_withdraw",
]
# fmt: on


class Named(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[getattr(self, name) for name in NAMES])


@pytest.mark.parametrize("of_class", [True, False])
async def test_an_author_may_use_private_names(of_class: bool) -> None:
    attributes: dict[str, Any] = {name: f"the author's {name}" for name in NAMES}
    flow = type("Own", (Named,), attributes if of_class else {})(num_concurrent_runs=1)
    if not of_class:
        vars(flow).update(attributes)
    first, second = flow.run(), flow.run()
    assert await first == await second == list(attributes.values())


def test_the_engine_adds_no_further_private_names() -> None:
    """Those of 1.x, whose subclasses know them, and two that say whose they are."""
    of_instance = {name for name in vars(Named()) if name.startswith("_")}
    of_class = {name for name in vars(Workflow) if name.startswith("_") and not name.startswith("__")}
    of_1x = {"_timeout", "_disable_validation", "_service_manager", "_resource_manager", "_num_concurrent_runs"}
    assert of_instance | of_class <= of_1x | {"_step_functions", "_stepwire_plan", "_stepwire_runs"}
