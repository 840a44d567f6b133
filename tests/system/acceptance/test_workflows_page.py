"""docs/workflows.md shows what runs: its blocks are one module, each of its workflows is run."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving import ROOT

from stepwire.server.testing import serve
from stepwire.workflow.errors import StepError


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    text = (ROOT / "docs" / "workflows.md").read_text(encoding="utf-8")
    module = types.ModuleType("shown")
    sys.modules["shown"] = module
    exec(compile("\n".join(re.findall(r"(?ms)^```python\n(.*?)^```$", text)), "workflows.md", "exec"), module.__dict__)
    yield module
    del sys.modules["shown"]


async def test_steps_and_events(page: Any) -> None:
    assert await page.Longest().run(text="a longer one") == "longer"
    assert await page.Longest().run(text="") == ""
    assert page.Longest().draw().startswith("flowchart")


async def test_fan_out_and_collect(page: Any) -> None:
    handler = page.Crawl().run(urls=["a", "bb", "ccc"])
    seen = [event.done async for event in handler.stream_events() if isinstance(event, page.Progress)]
    assert sorted(seen) == ["a", "bb", "ccc"]
    assert await handler == 6


async def test_state(page: Any) -> None:
    workflow = page.Deposits()
    handler = workflow.run(amount=2, by="Ada")
    assert await handler == 2
    assert await workflow.run(ctx=handler.ctx, amount=3, by="Bob") == 5
    assert await handler.ctx.store.get("seen") == ["Ada", "Bob"]


async def test_a_question(page: Any) -> None:
    handler = page.Order().run(order="o1")
    async for event in handler.stream_events():
        if isinstance(event, page.InputRequiredEvent):
            assert event.text == "Ship o1?"
            handler.ctx.send_event(page.Approval(order="another", approved=False))
            handler.ctx.send_event(page.Approval(order="o1", approved=True))
    assert await handler == "shipped"


async def test_children_in_process(page: Any) -> None:
    sweep = page.Sweep()
    sweep.add_workflows(longest=page.Longest())
    assert await sweep.run(texts=["a longer one", "or another"]) == ["longer", "another"]


def test_children_on_a_server(page: Any) -> None:
    with serve(page.Sweep, longest=page.Longest) as server, server.client() as client:
        run = client.start_run("Sweep", texts=["a longer one", "or another"])
        assert run.result() == ["longer", "another"]
        assert len(list(client.list_runs(parent=run.run_id))) == 2


async def test_failures(page: Any) -> None:
    assert await page.Payment().run(amount=1) == "paid at attempt 1"
    assert await page.Payment().run(amount=101) == "refunded after 3 attempts: WorkflowError"

    class Unrescued(page.Payment):  # type: ignore[misc]
        refund = None

    with pytest.raises(StepError, match=r"^Error in step 'pay': the bank's limit$"):
        await Unrescued().run(amount=101)


async def test_resources_and_services(page: Any) -> None:
    report = page.Report()
    report.add_workflows(longest=page.Longest())
    assert await report.run() == (3, "these")


def test_the_tests_of_the_page_pass(page: Any, tmp_path: Path) -> None:
    page.test_the_longest_word()
    page.test_an_order_that_a_person_approves()
    page.test_an_order_that_nobody_approves(tmp_path)
