"""Who may do what with schedules: by scope, by workflow and by namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.scheduling.support import NOON, Job, Quick, Schedules, every, outcomes, stamp
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.server.testing import serve

CALLERS = {
    "admin": ("default", "admin"),
    "planner": ("default", "schedule:Quick"),
    "writer": ("default", "write"),
    "reader": ("default", "read"),
    "answerer": ("default", "answer:Quick"),
    "jobs": ("default", "admin:Job"),
    "stranger": ("elsewhere", "admin"),
}
As = Callable[[str], Schedules]


@pytest.fixture
def as_(tmp_path: Path) -> Iterator[As]:
    """Return the calls of each caller."""
    access = tmp_path / "access.toml"
    keys = {}
    for name, (namespace, scope) in CALLERS.items():
        given = ["keys", "new", name, "--namespace", namespace, "--scope", scope, "--file", str(access)]
        made = CliRunner().invoke(app, given)
        assert made.exit_code == 0, made.output
        keys[name] = made.stdout.split()[0]
    with serve(Quick, Job, data=tmp_path / "data", settings={"api_keys": str(access)}, standing_at=NOON) as server:
        yield lambda name: Schedules(server, keys[name])


def refused(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as error:
        call()
    code: grpc.StatusCode = error.value.code()  # type: ignore[attr-defined]
    return code


def test_each_scope_allows_what_it_says(as_: As) -> None:
    admin = as_("admin")
    admin.create("s", every(hours=1))
    now = admin.server.now
    spec = admin.spec(every(hours=2))
    ranged = {"start_time": stamp(now.replace(year=now.year - 1)), "end_time": stamp(now)}
    looks: dict[str, dict[str, Any]] = {"GetSchedule": {}}
    writes: dict[str, dict[str, Any]] = {"PauseSchedule": {}, "ResumeSchedule": {}, "TriggerSchedule": {}}
    plans: dict[str, dict[str, Any]] = {
        "UpdateSchedule": {"spec": spec},
        "BackfillSchedule": {"start_time": ranged["end_time"], "end_time": ranged["end_time"]},
        "DeleteSchedule": {},
    }
    for name, allowed in {
        "admin": {**looks, **writes, **plans},
        "planner": {**looks, **writes, **plans},
        "writer": {**looks, **writes},
        "reader": looks,
        "answerer": looks,
    }.items():
        for method, fields in {**looks, **writes, **plans}.items():

            def call(name: str = name, method: str = method, fields: dict[str, Any] = fields) -> Any:
                return as_(name).call(method, schedule_id="s", **fields)

            if method not in allowed:
                assert refused(call) == grpc.StatusCode.PERMISSION_DENIED, (name, method)
            elif method == "BackfillSchedule":  # admitted, and refused for its empty range
                assert refused(call) == grpc.StatusCode.INVALID_ARGUMENT
            else:
                call()
        if "DeleteSchedule" in allowed:
            admin.create("s", every(hours=1))
    for name in ("writer", "reader", "answerer", "jobs"):
        code = refused(lambda name=name: as_(name).create("t", every(hours=1)))  # type: ignore[misc]
        expected = grpc.StatusCode.NOT_FOUND if name == "jobs" else grpc.StatusCode.PERMISSION_DENIED
        assert code == expected, name
    as_("planner").create("t", every(hours=1))
    assert refused(lambda: as_("planner").create("u", every(hours=1), "Job")) == grpc.StatusCode.NOT_FOUND


def test_nobody_sees_the_schedules_of_other_workflows_and_namespaces(as_: As) -> None:
    as_("admin").create("quick", every(hours=1))
    as_("jobs").create("job", every(hours=1), "Job")
    as_("stranger").create("quick", every(hours=2))
    listed = {
        name: [each.schedule_id for each in as_(name).call("ListSchedules").schedules]
        for name in ("admin", "reader", "planner", "jobs", "stranger")
    }
    assert listed == {
        "admin": ["job", "quick"],
        "reader": ["job", "quick"],
        "planner": ["quick"],
        "jobs": ["job"],
        "stranger": ["quick"],
    }
    for name, schedule_id in (("planner", "job"), ("jobs", "quick"), ("stranger", "job")):
        for method in ("GetSchedule", "PauseSchedule", "TriggerSchedule", "DeleteSchedule"):
            calls = as_(name)
            code = refused(lambda: calls.call(method, schedule_id=schedule_id))  # noqa: B023
            assert code == grpc.StatusCode.NOT_FOUND, (name, method)
    spec = as_("admin").spec(every(hours=1), "Job")
    moved = refused(lambda: as_("planner").call("UpdateSchedule", schedule_id="quick", spec=spec))
    assert moved == grpc.StatusCode.NOT_FOUND


def test_runs_start_as_the_creator_in_its_namespace(as_: As) -> None:
    as_("planner").create("s", every(hours=1))
    as_("stranger").create("s", every(hours=1))
    as_("admin").server.skip(hours=2)
    for name in ("planner", "stranger"):
        runs = as_(name).runs("s")
        assert [run.started_by for run in runs] == [name, name]
        assert outcomes(as_(name).get("s")) == {"started": 2}
    assert as_("jobs").runs("s") == []


def test_a_quota_of_runs_bounds_schedules_and_what_they_start(tmp_path: Path) -> None:
    with serve(Quick, Job, settings={"max_runs": 2}, standing_at=NOON) as server:
        schedules = Schedules(server)
        schedules.create("a", every(hours=1), "Job", overlap="start_anyway")
        schedules.create("b", every(days=300))
        with pytest.raises(grpc.RpcError, match="as many schedules as unfinished runs"):
            schedules.create("c", every(days=300))
        server.skip(hours=4)
        found = schedules.get("a")
        assert outcomes(found) == {"started": 2, "failed": 2}
        assert found.last_failure.reason == "LIMIT_EXCEEDED"
        schedules.call("DeleteSchedule", schedule_id="b")
        schedules.create("c", every(days=300))
