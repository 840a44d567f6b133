"""What is known of a run that is followed: its open questions, and where to come back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from stepwire.cli.following.view import RunView
from stepwire.client import (
    EntryKind,
    EventMeta,
    EventRole,
    GenericEvent,
    NotFoundError,
    PendingWaiter,
    RunInfo,
    RunStatus,
    SendResult,
    WorkflowInfo,
    WorkflowStep,
    WorkflowType,
)

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SCHEMA = {"properties": {"yes": {"type": "boolean"}}}


def entry(sequence: int, type: str, *, kind: EntryKind = EntryKind.STREAM, asks: bool = False) -> GenericEvent:
    role = EventRole.INPUT_REQUIRED if asks else EventRole.UNSPECIFIED
    return GenericEvent.of(type, {"text": f"{type}?"}, EventMeta(type, sequence, NOW, kind, role, "work", 0))


def workflow() -> WorkflowInfo:
    types = tuple(
        WorkflowType(name, EventRole.HUMAN_RESPONSE, True, sendable, SCHEMA)
        for name, sendable in (("Answer", True), ("Hidden", False), ("Unused", True))
    )
    step = WorkflowStep("work", ("Answer", "Hidden"), (), 1, "")
    return WorkflowInfo("flow", "1", "", "StartEvent", "StopEvent", "", (step,), types, (), "", None)


class FakeRun:
    """The run and the client of a view: the status and the workflow are set by the test."""

    def __init__(self) -> None:
        self.status = RunStatus.WAITING
        self.waiters: tuple[PendingWaiter, ...] = ()
        self.served = True
        self.asked: list[str] = []

    async def info(self) -> RunInfo:
        return RunInfo(
            run_id="r",
            workflow="flow",
            workflow_version="1",
            status=self.status,
            labels={},
            created_at=NOW,
            updated_at=NOW,
            ended_at=None,
            last_sequence=3,
            first_available=1,
            pending_waiters=self.waiters,
            outcome=None,
            forked_from=None,
            blocked_reason="",
            timeout_at=None,
        )

    async def workflow(self, name: str) -> WorkflowInfo:
        self.asked.append(name)
        if not self.served:
            raise NotFoundError(name)
        return workflow()

    async def get_run(self, run_id: str) -> RunInfo:
        self.asked.append(run_id)
        return replace(await self.info(), run_id=run_id, workflow="inner")

    def run(self, run_id: str) -> str:
        return f"run {run_id}"


async def opened(run: FakeRun, after: int = 0) -> RunView:
    fake: Any = run
    view = RunView(fake, fake, after)
    await view.open()
    return view


async def test_a_waiter_is_a_question() -> None:
    run = FakeRun()
    run.waiters = (PendingWaiter("w", "Answer", {"id": "7"}, GenericEvent("Ask", text="Go?"), None, "work"),)
    view = await opened(run)
    [question] = view.questions()
    assert (question.key, question.types, question.fixed) == (("waiter", "w"), ("Answer",), {"id": "7"})
    assert question.text == "Go?"
    assert question.record["waiter_id"] == "w"
    assert view.schema("Answer") == SCHEMA
    assert view.schema("Other") == {}


async def test_a_question_of_a_child_is_answered_by_a_type_of_the_child() -> None:
    run = FakeRun()
    run.waiters = (PendingWaiter("w", "Answer", {}, GenericEvent("Ask", text="Go?"), None, "work", "low"),)
    view = await opened(run)
    [question] = view.questions()
    assert (question.key, question.run_id) == (("waiter", "low w"), "low")
    assert view.known_schema("Answer", "low") == SCHEMA
    assert str(view.run_of(question)) == "run low"
    assert run.asked == ["flow", "low", "inner"]


async def test_a_returned_question_is_answered_by_what_steps_take() -> None:
    view = await opened(FakeRun())
    view.take(entry(2, "Ask", asks=True))
    [question] = view.questions()
    assert (question.key, question.types, question.text) == (("event", "2"), ("Answer",), "Ask?")
    view.answered(question, SendResult(3, 1))
    assert view.questions() == []
    view.take(entry(3, "Answer", kind=EntryKind.RECEIVED))  # ours: it answers no other question
    view.take(entry(4, "Ask", asks=True))
    view.take(entry(5, "Ask", asks=True))
    view.take(entry(6, "Answer", kind=EntryKind.RECEIVED))  # someone else's
    assert [question.key for question in view.questions()] == [("event", "5")]


async def test_come_back_before_the_first_open_question() -> None:
    view = await opened(FakeRun(), after=1)
    assert view.resume_after == 1
    view.take(entry(2, "Tick"))
    assert view.resume_after == 2
    view.take(entry(3, "Ask", asks=True))
    view.take(entry(4, "Tick"))
    assert view.resume_after == 2
    assert view.sequence == 4


async def test_nothing_is_asked_before_the_log_was_seen_or_while_the_run_works() -> None:
    run = FakeRun()
    view = await opened(run)
    before = view.up_to_date
    view.take(entry(3, "Ask", asks=True))
    assert (before, view.up_to_date) == (False, True)
    run.status = RunStatus.RUNNING
    await view.refresh()
    assert view.refreshed.is_set()
    assert view.questions() == []


async def test_a_workflow_that_is_no_longer_served() -> None:
    run = FakeRun()
    run.served = False
    view = await opened(run)
    view.take(entry(3, "Ask", asks=True))
    assert view.questions() == []
