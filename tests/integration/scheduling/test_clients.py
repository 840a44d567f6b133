"""The Python clients and the command, which say and show schedules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.scheduling.support import Job, Quick, Schedules
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.client import (
    AbortedError,
    AlreadyExistsError,
    At,
    Cron,
    DueOutcome,
    Every,
    InvalidArgumentError,
    NotFoundError,
    Overlap,
    RunStatus,
    ScheduleSpec,
)
from stepwire.server.testing import serve

runner = CliRunner()

SPECS = (
    ScheduleSpec("Quick", Cron("0 7 * * 1-5", tz="Europe/Oslo"), input={"text": "a"}, overlap="queue_one"),
    ScheduleSpec("Quick", Every(timedelta(hours=1), anchor=datetime(2026, 1, 1, tzinfo=UTC)), labels={"a": "b"}),
    ScheduleSpec(
        "Job",
        At(datetime(2100, 1, 1, tzinfo=UTC)),
        overlap=Overlap.CANCEL_RUNNING,
        catch_up_window=timedelta(hours=2),
        jitter=timedelta(seconds=90),
        start_time=datetime(2026, 1, 1, tzinfo=UTC),
        end_time=datetime(2101, 1, 1, tzinfo=UTC),
        run_timeout=timedelta(minutes=5),
        description="once a century",
    ),
)


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_comes_back_as_it_was_given(schedules: Schedules, spec: ScheduleSpec) -> None:
    with schedules.server.client() as client:
        created = client.schedules.create("s", spec)
        assert created.spec == spec
        assert client.schedules.get("s") == created
        assert list(client.schedules.list()) == [created]
        assert list(client.schedules.list(workflow="Other")) == []


def test_the_blocking_client_does_all(schedules: Schedules) -> None:
    spec = ScheduleSpec("Quick", Every(timedelta(hours=1)), input={"text": "x"})
    with schedules.server.client() as client:
        created = client.schedules.create("s", spec, paused=True, request_id="r")
        assert client.schedules.create("s", spec, paused=True, request_id="r").etag == created.etag
        assert created.pause is not None
        assert created.next_times == ()
        with pytest.raises(AlreadyExistsError) as exists:
            client.schedules.create("s", spec)
        assert exists.value.reason == "SCHEDULE_EXISTS"
        assert client.schedules.resume("s").pause is None
        updated = client.schedules.update("s", replace(spec, description="new"))
        with pytest.raises(AbortedError) as changed:
            client.schedules.update("s", spec, etag=created.etag)
        assert changed.value.reason == "ETAG_MISMATCH"
        assert client.schedules.update("s", spec, etag=updated.etag).spec == spec
        run = client.run(client.schedules.trigger("s"))
        assert run.result() == "x"
        origin = run.info().schedule
        assert origin is not None
        assert (origin.schedule_id, origin.manual) == ("s", True)
        schedules.server.skip(hours=3)
        found = client.schedules.get("s")
        assert [each.outcome for each in found.last] == [DueOutcome.STARTED] * 4
        assert found.counts.started == 4
        listed = list(client.list_runs(schedule="s"))
        assert len(listed) == 4
        assert {info.status for info in listed} == {RunStatus.COMPLETED}
        now = schedules.server.now
        assert client.schedules.backfill("s", now - timedelta(hours=2), now) == 2
        client.schedules.delete("s")
        with pytest.raises(NotFoundError) as gone:
            client.schedules.get("s")
        assert gone.value.reason == "SCHEDULE_NOT_FOUND"


async def test_the_asyncio_client_does_all(schedules: Schedules) -> None:
    async with schedules.server.async_client() as client:
        spec = ScheduleSpec("Quick", Cron("@daily"))
        await client.schedules.create("s", spec)
        assert [each.schedule_id async for each in client.schedules.list()] == ["s"]
        paused = await client.schedules.pause("s", "why not")
        assert paused.pause is not None
        assert paused.pause.reason == "why not"
        await client.schedules.resume("s")
        await client.schedules.update("s", replace(spec, overlap=Overlap.QUEUE_ALL))
        assert await client.run(await client.schedules.trigger("s")).result() == "hello"
        now = schedules.server.now
        assert await client.schedules.backfill("s", now - timedelta(days=2), now, at_once=True) == 2
        assert (await client.schedules.get("s")).spec.overlap is Overlap.QUEUE_ALL
        with pytest.raises(InvalidArgumentError) as wrong:
            await client.schedules.create("t", ScheduleSpec("Quick", Cron("99 * * * *", tz="Mars/Base")))
        assert [each.field for each in wrong.value.field_violations] == ["spec.timing.time_zone"]
        await client.schedules.delete("s")


def test_wrong_specs_are_refused_before_a_call(schedules: Schedules) -> None:
    with schedules.server.client() as client:
        for spec in (
            ScheduleSpec("Quick", At(datetime(2100, 1, 1))),  # noqa: DTZ001 - what is refused
            ScheduleSpec("Quick", Cron("@daily"), overlap="sometimes"),
            ScheduleSpec("Quick", "0 7 * * *"),  # type: ignore[arg-type]
        ):
            with pytest.raises(ValueError, match=r"time zone|sometimes|must be a Cron"):
                client.schedules.create("s", spec)


@pytest.fixture
def today(tmp_path: Path) -> Iterator[Schedules]:
    """A server of the present, which the command reckons from."""
    with serve(Quick, Job, data=tmp_path, standing_at=datetime.now(UTC)) as server:
        yield Schedules(server)


def test_the_command(today: Schedules) -> None:
    schedules = today

    def stepwire(*arguments: str, code: int = 0) -> str:
        result = runner.invoke(app, [*arguments, "--server", schedules.server.address])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.output

    made = stepwire(
        "schedule", "create", "nightly", "Quick", "--cron", "0 7 * * 1-5", "--tz", "Europe/Oslo", "text=tea",
        "--overlap", "queue-one", "--label", "team=blue", "--jitter", "30s", "--description", "wakes the kitchen",
    )  # fmt: skip
    assert "0 7 * * 1-5 (Europe/Oslo)" in made
    assert "queue_one" in made
    assert made.count("07:00:00 CE") == 10
    listed = stepwire("schedule", "list", "--label", "team=blue")
    assert "nightly" in listed
    assert "active" in listed
    stepwire("schedule", "update", "nightly", "--cron", "30 6 * * *", "text=coffee")
    shown = json.loads(stepwire("schedule", "show", "nightly", "--json"))
    assert shown["spec"]["timing"]["cron"] == "30 6 * * *"
    assert shown["spec"]["timing"]["time_zone"] == "Europe/Oslo"
    assert shown["spec"]["input"] == {"text": "coffee"}
    assert shown["spec"]["overlap"] == "queue_one"
    schedules.server.skip(days=2)
    run_id = stepwire("schedule", "trigger", "nightly").strip()
    assert "by hand" in stepwire("runs", run_id)
    page = stepwire("schedule", "show", "nightly")
    assert "3 started" in page
    assert page.count("06:30:00 CE") >= 12
    assert len(stepwire("runs", "--schedule", "nightly").splitlines()) == 5
    assert "paused" in stepwire("schedule", "pause", "nightly", "--reason", "holidays")
    assert "holidays" in stepwire("schedule", "show", "nightly")
    stepwire("schedule", "resume", "nightly")
    stepwire("schedule", "create", "once", "Quick", "--at", "90d")
    stepwire("schedule", "create", "often", "Quick", "--every", "5m")
    backfilled = json.loads(stepwire("schedule", "backfill", "often", "--from", "10m", "--json"))
    assert backfilled == {"due_times": 2}
    stepwire("schedule", "delete", "nightly")
    assert "SCHEDULE_NOT_FOUND" in stepwire("schedule", "show", "nightly", code=1)
    for wrong in (
        ("create", "x", "Quick"),
        ("create", "x", "Quick", "--cron", "@daily", "--every", "5m"),
        ("create", "x", "Quick", "--every", "5m", "--tz", "UTC"),
        ("create", "x", "Quick", "--every", "5m", "--overlap", "sometimes"),
        ("update", "often"),
    ):
        stepwire("schedule", *wrong, code=2)
    assert "spec.timing.cron" in stepwire("schedule", "create", "x", "Quick", "--cron", "99 * * * *", code=1)
