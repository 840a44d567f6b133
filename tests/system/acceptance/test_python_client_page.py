"""docs/python-client.md shows what runs: its blocks are one module, each of its functions is called."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.approval import Approval
from tests.serving import ROOT

from stepwire.client import Client
from stepwire.server.testing import serve

TEXT = (ROOT / "docs" / "python-client.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    module = types.ModuleType("client_page")
    sys.modules["client_page"] = module
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", TEXT)
    exec(compile("\n".join(blocks), "python-client.md", "exec"), module.__dict__)
    yield module
    del sys.modules["client_page"]


@pytest.fixture(scope="module")
def approving() -> Iterator[str]:
    with serve(approval=Approval) as server:
        yield server.address


async def asked(address: str) -> str:
    """Start a run that waits for its answer; return its id."""
    async with Client(address) as client:
        run = await client.start_run("approval", who="ada", amount=120)
        await run.context.wait_for_event("ApprovalQuestion", timeout=60)
        return run.run_id


async def test_start_and_wait(page: Any, approving: str) -> None:
    assert await page.small_expense(approving) == "approved by policy"


async def test_follow_and_answer(page: Any, approving: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await page.approve(approving) == "approved by grace"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["ApprovalQuestion", "StopEvent"]
    run_id = await asked(approving)
    assert await page.answer_open_questions(approving, run_id) == 1
    async with Client(approving) as client:
        assert await client.run(run_id).result() == "rejected by night shift"


async def test_events_as_classes(page: Any, approving: str) -> None:
    first, last = await page.approve_typed(approving)
    assert 0 < first < last


async def test_state(page: Any, approving: str) -> None:
    assert await page.count_votes(approving, await asked(approving)) == 2 + 3 + 0


async def test_schedules(page: Any, approving: str) -> None:
    assert await page.every_morning(approving) == "approved by policy"


async def test_errors(page: Any, approving: str) -> None:
    assert await page.what_went_wrong(approving) == ["RUN_NOT_FOUND", "amount"]


async def test_several_addresses(page: Any, approving: str) -> None:
    assert await page.through_replicas(["127.0.0.1:1", approving]) == "approved by policy"


async def test_threads(page: Any, approving: str) -> None:
    assert await asyncio.to_thread(page.approve_in_a_thread, approving) == "approved by grace"


def test_the_test_of_the_page_passes(page: Any) -> None:
    page.test_an_expense_is_approved()


def test_every_function_of_the_page_is_called_here(page: Any) -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    shown = {name for name, item in vars(page).items() if getattr(item, "__module__", "") == "client_page"}
    functions = {name for name in shown if not isinstance(getattr(page, name), type)}
    assert functions
    assert all(f"page.{name}" in source for name in functions)
