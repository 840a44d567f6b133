"""Every example runs: in process, and on a real server."""

from __future__ import annotations

import ast
import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from examples.approval import Approval, ApprovalAnswer, ApprovalQuestion
from examples.code_review import (
    MAX_COMPLEXITY,
    CodeReview,
    Finding,
    Progress,
    ReviewDecision,
    ReviewQuestion,
    ReviewResult,
    ReviewState,
    find_modules,
    findings_in,
)
from examples.hello import Hello
from examples.schedules import Poll, Report
from examples.trip import Trip

from stepwire.client import Client, InvalidArgumentError, RunStatus, event_meta
from stepwire.server.testing import serve
from stepwire.workflow import WorkflowRuntimeError

SPECS = {
    "hello": "examples/hello.py",
    "approval": "examples/approval.py",
    "trip": "examples/trip.py",
    "schedules": "examples/schedules.py",
    "code_review": "examples/code_review.py",
}


ELSEWHERE = {
    "agents": "tests/llamaindex/test_example.py",
    "demo": "tests/system/acceptance/test_demo.py",
    "demo_cluster": "tests/system/acceptance/test_demo.py",
}
"""Examples that need more, and what tests each of them."""


def test_every_example_is_tested() -> None:
    root = Path(__file__).resolve().parents[3] / "examples"
    assert {path.stem for path in root.glob("*.py")} == SPECS.keys() | ELSEWHERE.keys()
    for name, path in ELSEWHERE.items():
        assert name in (root.parent / path).read_text()


# -- hello ------------------------------------------------------------------------------------------------------------


async def test_hello_in_process() -> None:
    assert await Hello().run(name="Ada") == "Hello, Ada!"
    assert await Hello().run() == "Hello, world!"


async def test_hello_on_a_server(address: str) -> None:
    async with Client(address) as client:
        run = await client.start_run("hello", name="Ada")
        assert await run.result(timeout=60) == "Hello, Ada!"
        entries = [event async for event in run.events(internal=True)]
        assert [event_meta(entry).sequence for entry in entries] == list(range(1, len(entries) + 1))


# -- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_schedules_start_a_week_of_reports() -> None:
    with serve(Report, Poll, standing_at=datetime(2026, 6, 17, 12, tzinfo=UTC)) as server, server.client() as client:
        server.skip(days=7)
        reports = list(client.list_runs(workflow="Report", results=True))
        assert [report.outcome and report.outcome.result for report in reports] == ["the daily report"] * 5


# -- approval ---------------------------------------------------------------------------------------------------------


async def test_approval_of_a_small_expense_asks_no_one() -> None:
    assert await Approval().run(who="Ada", amount=12.5) == "approved by policy"


async def test_approval_in_process_takes_the_answer_to_its_question_only() -> None:
    handler = Approval().run(who="Ada", amount=120.0, purpose="books")
    async for event in handler.stream_events():
        if isinstance(event, ApprovalQuestion):
            assert event.text == "Ada asks for 120.00 for books"
            other = ApprovalAnswer(expense_id="Bob-1.00", verdict="approve", by="Grace")
            assert handler.ctx.send_event(other).delivered == 0
            handler.ctx.send_event(ApprovalAnswer(expense_id=event.expense_id, verdict="reject", by="Grace"))
    assert await handler == "rejected by Grace"


async def test_approval_on_a_server(address: str) -> None:
    async with Client(address, events=[ApprovalQuestion, ApprovalAnswer]) as client:
        run = await client.start_run("approval", who="Ada", amount=120, labels={"team": "it"})
        async with run.converse() as talk:
            question = await anext(talk)
            assert isinstance(question, ApprovalQuestion)
            (pending,) = (await run.info()).pending_waiters
            assert pending.prompt == question
            assert pending.requirements == {"expense_id": question.expense_id}
            assert pending.deadline is not None
            sent = await talk.send(ApprovalAnswer(expense_id=question.expense_id, verdict="approve", by="Grace"))
            assert sent.delivered == 1
        assert await run.result(timeout=60) == "approved by Grace"
        assert await run.context.store.get("approved") is True


# -- trip -------------------------------------------------------------------------------------------------------------


async def test_trip_in_process() -> None:
    trip = Trip()
    trip.add_workflows(approval=Approval())
    assert await trip.run(who="Ada", expenses={"tea": 2.5, "tram": 4.0}) == {
        "tea": "approved by policy",
        "tram": "approved by policy",
    }


def test_trip_on_a_server() -> None:
    with serve(trip=Trip, approval=Approval) as server, server.client() as client:
        run = client.start_run("trip", who="Ada", expenses={"tea": 2.5, "flight": 420.0})
        end = time.monotonic() + 60
        while not (waiters := run.info().pending_waiters):
            assert time.monotonic() < end
            time.sleep(0.02)
        (waiter,) = waiters
        assert waiter.run_id != run.run_id
        answer = {**waiter.requirements, "verdict": "approve", "by": "Grace"}
        run.context.send_event(("ApprovalAnswer", answer))
        assert run.result(timeout=60) == {"tea": "approved by policy", "flight": "approved by Grace"}
        assert len(list(client.list_runs(parent=run.run_id))) == 2


# -- code review ------------------------------------------------------------------------------------------------------


async def test_code_review_in_process(tmp_path: Path) -> None:
    report, work_log = tmp_path / "report.md", tmp_path / "work.log"
    handler = CodeReview().run(package="json", report=str(report), work_log=str(work_log))
    progress: list[Progress] = []
    async for event in handler.stream_events():
        if isinstance(event, Progress):
            progress.append(event)
        elif isinstance(event, ReviewQuestion):
            assert len(event.worst) == 3
            handler.ctx.send_event(ReviewDecision(decision="block", by="Ada"))
    result = await handler
    modules = sorted(name for name, _ in find_modules("json"))
    assert modules == ["json", "json.decoder", "json.encoder", "json.scanner", "json.tool"]
    assert isinstance(result, ReviewResult)
    assert (result.package, result.modules, result.decision) == ("json", 5, "block")
    assert [event.reviewed for event in progress] == [1, 2, 3, 4, 5]
    assert sorted(event.name for event in progress) == modules
    assert sorted(line.split()[0] for line in work_log.read_text().splitlines()) == modules
    state = await handler.ctx.store.get_state()
    assert isinstance(state, ReviewState)
    assert (state.total, state.reviewed) == (5, 5)
    assert sum(state.by_module.values()) == sum(state.by_kind.values()) == result.findings
    assert "**block** (by Ada)" in report.read_text()


async def test_code_review_on_a_server(address: str, tmp_path: Path) -> None:
    report, work_log = tmp_path / "report.md", tmp_path / "work.log"
    async with Client(address, events=[Progress, ReviewQuestion, ReviewDecision, ReviewResult]) as client:
        run = await client.start_run("code_review", package="json", report=str(report), work_log=str(work_log))
        seen = []
        async with run.converse() as talk:
            async for event in talk:
                seen.append(event)
                if isinstance(event, ReviewQuestion):
                    await run.context.store.set("reviewer", "Grace")
                    await talk.send(ReviewDecision(decision="ignore"))
        assert talk.outcome is not None
        assert talk.outcome.failure is None
        assert Counter(type(event) for event in seen) == {Progress: 5, ReviewQuestion: 1, ReviewResult: 1}
        result = await run.result(timeout=60, as_=ReviewResult)
        assert result == seen[-1]
        assert "**ignore** (by Grace)" in report.read_text()
        state = await run.context.store.get_state(as_=ReviewState)
        assert state.reviewed == state.total == len(work_log.read_text().splitlines()) == 5
        assert (await run.info()).status is RunStatus.COMPLETED


async def test_code_review_takes_packages_of_the_standard_library_only(address: str, tmp_path: Path) -> None:
    report, work_log = str(tmp_path / "report.md"), str(tmp_path / "work.log")
    with pytest.raises(WorkflowRuntimeError):
        await CodeReview().run(package="pydantic", report=report, work_log=work_log)
    async with Client(address) as client:
        with pytest.raises(InvalidArgumentError) as caught:
            await client.start_run("code_review", package="pydantic", report=report, work_log=work_log)
        assert [violation.field for violation in caught.value.field_violations] == ["package"]
    assert not os.listdir(tmp_path)


def test_code_review_finds_what_is_there() -> None:
    source = '''
def documented(a, b, c, d, e, f, g, h, i=[]):
    """Say something."""
    try:
        return a if b else c
    except:
        pass

class Open:
    def run(self):
        pass
'''
    found = [(item.kind, item.line) for item in findings_in("m", ast.parse(source))]
    assert sorted(found) == [
        ("arguments", 2),
        ("bare except", 6),
        ("docstring", 1),
        ("docstring", 9),
        ("docstring", 10),
        ("mutable default", 2),
    ]
    branches = "\n".join(f"    if x == {number}: x += 1" for number in range(MAX_COMPLEXITY))
    tree = ast.parse(f'"""Doc."""\ndef busy(x):\n    """Do much."""\n{branches}\n')
    (finding,) = findings_in("m", tree)
    assert finding == Finding(
        module="m",
        line=2,
        kind="complexity",
        what=f"busy() has complexity {MAX_COMPLEXITY + 1}",
        score=MAX_COMPLEXITY + 1,
    )


def test_code_review_imports_nothing_that_it_reviews() -> None:
    before = set(sys.modules)
    assert len(dict(find_modules("wsgiref"))) > 3
    assert not any(name.startswith("wsgiref.") for name in set(sys.modules) - before)
