"""The default timeout of a run is named where it strikes."""

from __future__ import annotations

import asyncio

import pytest

from stepwire.workflow import StartEvent, StopEvent, Workflow, WorkflowTimeoutError, step
from stepwire.workflow.broker.outcome import DEFAULT_TIMEOUT, why_timed_out
from stepwire.workflow.hosting import settings_of


class Slow(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()


async def test_a_timeout_that_nobody_chose_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(Slow()).timeout == DEFAULT_TIMEOUT == 45.0
    monkeypatch.setattr("stepwire.workflow.broker.outcome.DEFAULT_TIMEOUT", 0.01)
    with pytest.raises(WorkflowTimeoutError, match="the default timeout: give the workflow"):
        await Slow(timeout=0.01).run()
    with pytest.raises(WorkflowTimeoutError) as chosen:
        await Slow(timeout=0.02).run()
    assert "default" not in str(chosen.value)


def test_a_served_run_says_so_too() -> None:
    assert why_timed_out(DEFAULT_TIMEOUT).startswith("the run took longer than 45 seconds, the default timeout")
    assert why_timed_out(3.5) == "the run took longer than 3.5 seconds"
