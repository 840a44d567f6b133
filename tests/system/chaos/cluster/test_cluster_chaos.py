"""A bounded slice of chaos with replicas; `make chaos-cluster` runs it at length. And what it must find, planted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.postgres import MISSING, programs
from tests.system.chaos.cluster import promises, scenarios
from tests.system.chaos.history import Record
from tests.system.chaos.report import Report

SEED = 21


@pytest.fixture(autouse=True)
def postgres_is_there() -> None:
    if programs() is None:
        pytest.skip(MISSING)


def assert_kept(report: Report) -> None:
    """Assert that no promise was broken, and that something happened at all."""
    assert not report.violations, "\n".join(report.lines())
    assert report.measured["acknowledged"] > 0


@pytest.mark.timeout(120)
async def test_killed_replicas_lose_nothing(tmp_path: Path) -> None:
    assert_kept(await scenarios.sigkill(tmp_path, kills=1, seed=SEED))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_all_replicas_killed_at_once_lose_nothing(tmp_path: Path) -> None:
    assert_kept(await scenarios.sigkill_all(tmp_path, kills=1, seed=SEED))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_paused_replica_answers_nothing_stale(tmp_path: Path) -> None:
    assert_kept(await scenarios.sigstop(tmp_path, pauses=2, seed=SEED, span=(3.5, 5.0)))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_rolling_restart_fails_no_call(tmp_path: Path) -> None:
    assert_kept(await scenarios.sigterm(tmp_path, restarts=3, seed=SEED))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_cut_cables_lose_nothing_and_work_goes_on(tmp_path: Path) -> None:
    assert_kept(await scenarios.partitions(tmp_path, cuts=4, seed=SEED))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_killed_database_loses_nothing_and_repeats_no_step(tmp_path: Path) -> None:
    assert_kept(await scenarios.database_kill(tmp_path, kills=2, seed=SEED))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_promoted_standby_has_everything(tmp_path: Path) -> None:
    assert_kept(await scenarios.failover(tmp_path, promotions=1, seed=SEED))


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_death_at_any_point_of_a_replica_loses_nothing(tmp_path: Path) -> None:
    assert_kept(await scenarios.crash_at(tmp_path, hits=1, seed=SEED))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_lost_replies_of_calls_that_are_passed_on_have_one_effect(tmp_path: Path) -> None:
    assert_kept(await scenarios.lost_replies(tmp_path, calls=400, seed=SEED))


# -- what must be found, planted --------------------------------------------------------------------------------------


def test_a_late_takeover_is_found() -> None:
    assert promises.late_takeovers([0.7, 3.9]) == []
    assert [each.kind for each in promises.late_takeovers([0.7, 4.2])] == ["takeover_late"]


def test_late_progress_is_found() -> None:
    assert promises.late_progress([9.9]) == []
    assert [each.kind for each in promises.late_progress([1.0, 12.0])] == ["progress_late"]


def test_a_spurious_takeover_is_found() -> None:
    death, heard = "replica 2 at x is dead: no beat for 3.1 s", "the other replicas took this one for dead: it begins"
    assert promises.spurious_takeovers([f"{death}\n", heard, ""]) == []
    assert [each.kind for each in promises.spurious_takeovers([death, death, heard])] == ["takeover_spurious"]


def test_a_repeated_step_is_found() -> None:
    line: Record = {"op": "effect", "run": "r", "step": "ping", "delivery": 3, "attempt": 1}
    assert promises.repeated_steps([line]) == []
    assert [each.kind for each in promises.repeated_steps([line, {**line, "attempt": 2}])] == ["step_repeated"]
