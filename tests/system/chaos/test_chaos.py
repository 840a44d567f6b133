"""A bounded slice of each chaos scenario; `make chaos` runs them at length."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.system.chaos import scenarios
from tests.system.chaos.families import families
from tests.system.chaos.report import Report, Unsupported
from tests.system.chaos.server import ProcessEndedError, ServerProcess
from tests.system.chaos.slow_disk import fdatasync

SEED = 20

pytestmark = pytest.mark.timeout(120)


def assert_kept(report: Report) -> None:
    """Assert that no promise was broken, and that something happened at all."""
    assert not report.violations, "\n".join(report.lines())
    assert report.measured["acknowledged"] > 0


@pytest.mark.slow
async def test_a_server_that_dies_while_it_starts_is_seen_to(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    server.spawn({"STEPWIRE_FAILPOINTS": "nowhere=1"})
    with pytest.raises(ProcessEndedError, match="expected NAME=COUNT"):
        await server.ready()


async def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    assert_kept(await scenarios.sigkill(tmp_path, kills=2, seed=SEED))


@pytest.mark.slow
async def test_death_at_any_failpoint_loses_nothing(tmp_path: Path) -> None:
    points = ("commit.after", "ack.before", "restore.after")
    assert_kept(await scenarios.crash_at(tmp_path, hits=1, points=points, seed=SEED))


async def test_lost_replies_are_repeated_to_one_effect(tmp_path: Path) -> None:
    assert_kept(await scenarios.lost_replies(tmp_path, calls=400, seed=SEED))


@pytest.mark.slow
async def test_cut_streams_resume_without_gap_or_repeat(tmp_path: Path) -> None:
    assert_kept(await scenarios.stream_cuts(tmp_path, cuts=100, seed=SEED))


@pytest.mark.slow
async def test_a_full_disk_heals(tmp_path: Path) -> None:
    try:
        assert_kept(await scenarios.disk_full(tmp_path, rounds=2, seed=SEED))
    except Unsupported as error:
        pytest.skip(str(error))


@pytest.mark.slow
async def test_restarts_fail_no_call(tmp_path: Path) -> None:
    assert_kept(await scenarios.sigterm(tmp_path, restarts=2, seed=SEED))


@pytest.mark.slow
async def test_killed_families_have_every_child_once(tmp_path: Path) -> None:
    assert_kept(await families(tmp_path, kills=4, seed=SEED))


@pytest.mark.slow
async def test_killed_steps_run_again_under_their_key(tmp_path: Path) -> None:
    assert_kept(await scenarios.mid_step(tmp_path, kills=2, seed=SEED))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_every_acknowledgement_follows_its_fdatasync(tmp_path: Path) -> None:
    assert_kept(await fdatasync(tmp_path, writes=60, seed=SEED))
