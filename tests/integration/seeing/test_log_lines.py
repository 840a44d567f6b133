"""The server's log has a line for each failed attempt, for each run that ends badly, and for one that stalls."""

from __future__ import annotations

import logging
import re

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_serving import registry_of, serving
from tests.integration.seeing.flows import Failing, Late, Stalled

from stepwire.server.store import Status
from stepwire.v1 import run_service_pb2 as runs


def lines(caplog: pytest.LogCaptureFixture, run_id: str) -> list[tuple[int, str]]:
    """Return level and text of the records about a run, each without the words that name it."""
    return [
        (record.levelno, record.getMessage().removeprefix(f"run {run_id}").removeprefix(": "))
        for record in caplog.records
        if record.name == "stepwire.runs" and run_id in record.getMessage()
    ]


async def test_each_failed_attempt_is_a_line_and_the_last_one_an_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stepwire.runs")
    async with serving(registry_of(failing=Failing)) as rpc:
        run = await rpc.start("failing", {})
        ended = await rpc.ended(run.run_id)
    found = lines(caplog, run.run_id)
    assert [level for level, _ in found] == [logging.WARNING, logging.WARNING, logging.ERROR, logging.ERROR]
    for attempt, (_, text) in enumerate(found[:2], 1):
        assert re.fullmatch(
            rf"step charge failed, attempt {attempt}: Down: connection refused … at \S+/flows\.py:\d+"
            r" \(reference [0-9a-f]{16}\); the next attempt is at \d{4}-\d\d-\d\dT[\d:.]+Z",
            text,
        )
    reference = ended.outcome.failure.reference_id
    assert found[2][1] == f"step charge failed, attempt 3, the last: Down: connection refused … (reference {reference})"
    assert found[3][1] == (
        f" failed: step charge: Down: connection refused …, after 3 attempts (reference {reference})"
    )
    records = [record for record in caplog.records if record.name == "stepwire.runs"]
    fields = records[0].stepwire  # type: ignore[attr-defined]
    assert (fields["run"], fields["workflow"], fields["step"]) == (run.run_id, "failing", "charge")
    assert (fields["attempt"], fields["error"]) == (1, "Down")
    assert records[0].exc_info is None
    assert records[2].exc_info is not None, "the traceback once, when nothing more is tried"


async def test_the_log_tells_no_text_where_clients_see_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stepwire.runs")
    async with serving(registry_of(failing=Failing), failure_detail="type") as rpc:
        run = await rpc.start("failing", {})
        await rpc.ended(run.run_id)
    assert "attempt 1: Down at " in lines(caplog, run.run_id)[0][1]
    assert "refused" not in caplog.text


async def test_a_run_that_times_out_says_what_was_at_work(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(registry_of(stalled=Stalled(timeout=None), late=Late)) as rpc:
        run = await rpc.start("stalled", {}, timeout=Duration(nanos=200_000_000))
        await rpc.ended(run.run_id)
    found = lines(caplog, run.run_id)
    assert found == [
        (logging.WARNING, " is stalled: no step is at work, and none took Lost"),
        (
            logging.ERROR,
            " timed out: the run took longer than 0.2 seconds; no step is at work, and none took Lost",
        ),
    ]


async def test_a_run_that_stalls_says_once_which_event_no_step_took(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stepwire.runs")
    async with serving(registry_of(stalled=Stalled(timeout=None))) as rpc:
        run = await rpc.start("stalled", {})
        await rpc.status(run.run_id, Status.WAITING)
        fine = await rpc.start("stalled", {"lose": False})
        await rpc.ended(fine.run_id)
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run.run_id, reason="stalled\nfor ever"))
    assert lines(caplog, run.run_id) == [
        (logging.WARNING, " is stalled: no step is at work, and none took Lost"),
        (logging.INFO, " was cancelled: stalled …"),
    ]
    assert lines(caplog, fine.run_id) == []
