"""That the soak can fail: a server that leaks is told from one that does not. `make soak` is the long one."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from tests.serving import ServerProcess
from tests.system.soak.__main__ import table
from tests.system.soak.flat import trend
from tests.system.soak.load import SCENARIOS
from tests.system.soak.soak import Report, serving, soak

from stepwire.client import Client

pytestmark = pytest.mark.timeout(120)

MINUTES = [60.0 * number for number in range(40)]


# -- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_not_taken_for_a_leak(seed: int):
    random_ = random.Random(seed)
    level = [100.0 + random_.gauss(0, 3) for _ in MINUTES]
    level[random_.randrange(len(level))] += 500  # somebody else needed the memory
    assert trend(MINUTES, level).flat


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_shows_through_noise(seed: int):
    random_ = random.Random(seed)
    rising = [100.0 + 40 * time / 3600 + random_.gauss(0, 3) for time in MINUTES]
    found = trend(MINUTES, rising)
    assert not found.flat
    assert 25 < found.rise < 55


def test_what_falls_and_what_once_stepped_up_is_flat():
    assert trend(MINUTES, [100.0 - time / 100 for time in MINUTES]).flat
    assert trend(MINUTES, [10.0 if time < 600 else 11.0 for time in MINUTES], pieces=3.0).flat


def test_a_piece_every_ten_minutes_is_a_leak():
    assert not trend(MINUTES, [20.0 + time // 600 for time in MINUTES], pieces=3.0).flat
    assert trend(MINUTES, [20.0 + time // 1800 for time in MINUTES], pieces=3.0).flat


def test_too_few_samples_are_no_proof():
    with pytest.raises(ValueError, match="too few"):
        trend([0.0, 1.0, 2.0], [1.0, 1.0, 1.0])


# -- a server --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("data")) as process:
        yield process


async def watched(server: ServerProcess, *leaks: str) -> Report:
    """Watch a server for five looks, with some load before each, and perhaps leaks."""

    async def leak(client: Client) -> None:
        for kind in leaks * 20:
            await (await client.start_run("Leak", kind=kind)).result(30)

    return await soak(server, looks=5, every=0.2, rest=0.1, clients=2, standing=5, also=leak)


@pytest.mark.slow
async def test_the_load_plays_everything_and_leaves_nothing_behind(server: ServerProcess):
    report = await watched(server)
    assert {scenario.__name__ for scenario in SCENARIOS} <= set(report.played)
    # What a server holds at rest is the same each time; a run that woke a moment ago may be among it.
    tasks = [sample.tasks for sample in report.samples]
    assert max(tasks) - min(tasks) <= 10, table(report)


@pytest.mark.slow
async def test_leaks_are_found(server: ServerProcess):
    report = await watched(server, "tasks", "files", "memory")
    found = report.trends()
    assert not any(found[name].flat for name in ("tasks", "files", "blocks")), table(report)
    assert table(report).count("RISES") >= 3
