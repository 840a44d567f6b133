from __future__ import annotations

import logging

import pytest

from stepwire.server.registry import Registry
from stepwire.workflow import StartEvent, StopEvent, Workflow, step
from stepwire.workflow.definition.shared import assigned_to_self


class Sums(Workflow):
    total = 0

    @step
    async def add(self, ev: StartEvent) -> StopEvent:
        self.total += ev.amount
        self.last, (self.first, other) = ev.amount, (1, ev)
        other.mine = self.total
        return StopEvent(result=self.total)


class Reads(Workflow):
    def __init__(self) -> None:
        super().__init__()
        self.rate = 2

    @step
    async def rated(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=self.rate * ev.amount)


def test_assignments_to_self_are_found() -> None:
    assert assigned_to_self(Sums.add) == assigned_to_self(Sums().add) == ["first", "last", "total"]
    assert assigned_to_self(len) == []


def test_reading_is_no_assignment() -> None:
    assert assigned_to_self(lambda this: setattr(this, "x", 1)) == []
    assert assigned_to_self(Reads.rated) == []


def test_the_server_warns_of_them(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "stepwire.server"):
        Registry().add("sums", Sums)
        Registry().add("reads", Reads)
    (record,) = caplog.records
    assert "step add of workflow sums assigns to self.first, self.last, self.total" in record.getMessage()
