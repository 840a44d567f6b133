"""The log of a run as a tree."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.cli.render.things import NOW

from stepwire.cli.render.tree import history_tree
from stepwire.client import EntryKind, EventMeta, EventRole, Execution, ExecutionStatus, Failure, GenericEvent


class Log:
    """A log that is written by hand."""

    def __init__(self) -> None:
        self.entries: list[GenericEvent] = []
        self.now = NOW

    def event(self, type: str, by: int = 0, kind: EntryKind = EntryKind.SENT, **fields: Any) -> int:
        self.now += timedelta(seconds=fields.pop("later", 0))
        return self._add(type, kind, "", by, None, fields, fields.pop("delivered", 1))

    def attempt(self, delivery: int, step: str, cause: int, status: str, number: int = 1, **more: Any) -> None:
        took = None if status in ("started", "lost") else timedelta(milliseconds=3)
        values = {"error": None, "next_attempt_at": None, **more}
        execution = Execution(delivery, ExecutionStatus(status), number, cause, took, **values)
        self._add("", EntryKind.EXECUTION, step, 0, execution, {})

    def _add(
        self, type: str, kind: EntryKind, step: str, by: int, execution: Any, fields: Any, delivered: int = 1
    ) -> int:
        number = len(self.entries) + 1
        role = EventRole.INPUT_REQUIRED if type == "Ask" else EventRole.UNSPECIFIED
        meta = EventMeta(type, number, self.now, kind, role, step, delivered, by, execution)
        self.entries.append(GenericEvent.of(type, fields, meta))
        return number

    def lines(self, *kept: int) -> list[str]:
        """Return the lines without the time."""
        return [line.plain[:2] + line.plain[11:] for line in history_tree(self.entries, kept)]


def test_a_chain_stays_on_its_level() -> None:
    log = Log()
    cause = log.event("Start", kind=EntryKind.RECEIVED, item="tea")
    for number in range(1, 4):
        log.attempt(number, "go", cause, "started")
        log.event("Tick", by=number, kind=EntryKind.STREAM)
        log.attempt(number, "go", cause, "finished")
        cause = log.event("Next", by=number)
    assert log.lines(5) == [
        "     1 → Start item=tea",
        "     2 ▸ go 3ms",
        "     3 ├─   Tick",
        "*    5 · Next",
        "     6 ▸ go 3ms",
        "     7 ├─   Tick",
        "     9 · Next",
        "    10 ▸ go 3ms",
        "    11 ├─   Tick",
        "    13 └─ · Next",
    ]


def test_a_branch_is_a_branch_and_failures_stand_below_their_step() -> None:
    log = Log()
    start = log.event("Start", kind=EntryKind.RECEIVED)
    error = Failure("pay", "Down", "refused\nby the bank", 1, "ref1", "")
    log.attempt(1, "begin", start, "started")
    log.attempt(1, "begin", start, "finished")
    pay, ship = log.event("Pay", by=1), log.event("Ship", by=1)
    log.attempt(2, "pay", pay, "started")
    log.attempt(3, "ship", ship, "started")
    log.attempt(2, "pay", pay, "failed", error=error)
    log.attempt(2, "pay", pay, "started", 2)
    log.attempt(2, "pay", pay, "lost", 2)
    log.attempt(2, "pay", pay, "started", 3)
    log.attempt(2, "pay", pay, "finished", 3)
    log.event("Paid", by=2)
    assert log.lines() == [
        "     1 → Start",
        "     2 ▸ begin 3ms",
        "     4 ├─ · Pay",
        "     6 │  ▸ pay 3ms, attempt 3",
        "     8 │    ! attempt 1 failed after 3ms: Down: refused\n                │      by the bank (reference ref1)",
        "    10 │    ! attempt 2 lost",
        "    13 │  · Paid",
        "     5 └─ · Ship",
        "     7    ▸ ship  started",
    ]


def test_an_answer_stands_below_the_step_that_waited_and_its_resumption_is_no_failure() -> None:
    log = Log()
    start = log.event("Start", kind=EntryKind.RECEIVED)
    log.attempt(1, "charge", start, "started")
    log.attempt(2, "other", start, "started")
    log.event("Ask", by=1, kind=EntryKind.STREAM)
    log.event("Approval", kind=EntryKind.RECEIVED, later=210)
    log.attempt(1, "charge", start, "started", 2)
    log.attempt(2, "other", start, "finished")
    log.attempt(1, "charge", start, "finished", 2)
    log.event("Stop", by=1, kind=EntryKind.TERMINAL)
    assert log.lines() == [
        "     1 → Start",
        "     2 ├─ ▸ charge 3ms, waited 3m30s for Approval",
        "     4 │  ├─   Ask",
        "     5 │  ├─ → Approval",
        "     9 │  └─   Stop",
        "     3 └─ ▸ other 3ms",
    ]


def test_what_could_have_answered_several_steps_stays_where_it_came_from() -> None:
    log = Log()
    start = log.event("Start", kind=EntryKind.RECEIVED)
    log.attempt(1, "left", start, "started")
    log.attempt(2, "right", start, "started")
    log.event("Go", kind=EntryKind.RECEIVED)
    log.attempt(1, "left", start, "finished")
    log.attempt(2, "right", start, "finished")
    assert log.lines()[-1] == "     4 → Go"


@pytest.mark.parametrize(
    ("states", "word"),
    [({1: "waiting for Approval"}, "waiting for Approval"), ({}, "unfinished"), ({2: "x"}, "started")],
)
def test_what_an_unfinished_step_does_is_told(states: dict[int, str], word: str) -> None:
    log = Log()
    log.attempt(1, "charge", log.event("Start", kind=EntryKind.RECEIVED), "started")
    assert [line.plain.split("charge  ")[-1] for line in history_tree(log.entries, (), states)][-1] == word


def test_a_log_without_attempts_or_with_a_trimmed_beginning_is_a_list() -> None:
    log = Log()
    log.event("Start", kind=EntryKind.RECEIVED)
    log.event("Made", by=7)
    log.attempt(9, "gone", 1000, "finished")
    log.event("Later", by=9)
    assert log.lines() == [
        "     1 → Start",
        "     2 · Made",
        "     3 ▸ gone 3ms",
        "     4 · Later",
    ]


def test_a_retry_shows_the_attempts_at_what_it_took_over() -> None:
    """The events of those deliveries are in the log of the run that it retries."""
    log = Log()
    error = Failure("pay", "Down", "refused", 1, "ref1", "")
    log.attempt(2, "pay", 4, "started", 5)
    log.attempt(2, "pay", 4, "failed", 5, error=error, next_attempt_at=NOW)
    log.attempt(2, "pay", 4, "started", 6)
    log.attempt(2, "pay", 4, "finished", 6)
    paid = log.event("Paid", by=2)
    log.attempt(3, "ship", paid, "started")
    again = f"{NOW.astimezone():%H:%M:%S}"
    assert log.lines() == [
        "     1 ▸ pay 3ms, attempt 6",
        f"     2   ! attempt 5 failed after 3ms, the next at {again}: Down: refused (reference ref1)",
        "     5 · Paid",
        "     6 ▸ ship  started",
    ]


def test_a_step_that_is_to_be_tried_again_has_not_failed_for_good() -> None:
    log = Log()
    start = log.event("Start", kind=EntryKind.RECEIVED)
    for number in (1, 2):
        log.attempt(1, "pay", start, "started", number)
        log.attempt(1, "pay", start, "failed", number, error=Failure("", "Down", "", 0, "", ""), next_attempt_at=NOW)
    told = [line.plain for line in history_tree(log.entries, (), {1: "to be tried again"})]
    assert told[1].endswith("▸ pay  to be tried again after attempt 2")
    ended = [line.plain for line in history_tree(log.entries, (), {})]
    assert ended[1].endswith("▸ pay  failed, attempt 2")


def test_an_event_that_no_step_took_is_marked() -> None:
    log = Log()
    log.event("Start", kind=EntryKind.RECEIVED)
    log.event("Lost", delivered=0)
    log.event("Tick", kind=EntryKind.STREAM, delivered=0)
    assert log.lines() == ["     1 → Start", "     2 · Lost  (no step took it)", "     3   Tick"]


def test_a_deep_log_needs_no_deep_stack() -> None:
    log = Log()
    cause = log.event("Start", kind=EntryKind.RECEIVED)
    for number in range(1, 3000):
        log.attempt(number, "go", cause, "finished")
        cause = log.event("Next", by=number)
    assert len(log.lines()) == 5999
