"""A run that times out says what kept it: in the log, to callers, and to those who search."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.integration.seeing.flows import Shop

from stepwire.client import RunStatus, SyncClient
from stepwire.server.testing import RunningServer, stepwire_serve
from stepwire.workflow import StartEvent, StopEvent, Workflow, step

__all__ = ["stepwire_serve"]


class Slow(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()


def found(client: SyncClient, **filters: str) -> list[str]:
    return [info.run_id for info in client.list_runs(statuses=[RunStatus.TIMED_OUT], **filters)]  # type: ignore[arg-type]


def test_the_error_of_what_was_repeated(
    stepwire_serve: Callable[..., RunningServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = stepwire_serve(shop=Shop)
    with server.client() as client:
        run = client.start_run("shop", timeout=1800.0)
        server.skip(minutes=31)  # the second attempt would come after an hour
        outcome = run.info().outcome
        assert outcome is not None
        assert outcome.reason.startswith(
            "the run took longer than 1800 seconds; waiting: ship;"
            " step charge had failed with Down: connection refused … (reference "
        )
        for filters in ({"error_type": "Down"}, {"step": "charge"}, {"step": "ship"}):
            assert found(client, **filters) == [run.run_id]
    assert f"run {run.run_id} timed out: {outcome.reason}" in caplog.messages


def test_the_steps_at_work(stepwire_serve: Callable[..., RunningServer], caplog: pytest.LogCaptureFixture) -> None:
    server = stepwire_serve(slow=Slow)
    with server.client() as client:
        run = client.start_run("slow", timeout=1800.0)
        server.skip(minutes=31)
        outcome = run.info().outcome
        assert outcome is not None
        assert outcome.reason == "the run took longer than 1800 seconds; at work: work"
        assert found(client, step="work") == [run.run_id]
    assert f"run {run.run_id} timed out: {outcome.reason}" in caplog.messages
