"""What is told of a database that is away: once when it is lost, once when it is back, whoever notices first."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import asyncpg
import pytest

from stepwire.server import health
from stepwire.server.health import HealthKeeper
from stepwire.server.store import CommitTooLargeError, RunStore, StoreError, StoreUnavailableError, TakenForDeadError
from stepwire.server.store.errors import StaleClaimError, StoreUnreadableError, level_of
from stepwire.server.store.postgres import connections
from stepwire.server.store.postgres.connections import LOST, Patience, answered, plain
from stepwire.server.store.postgres.reach import Reach, Source

AWAY = StoreUnavailableError("PostgreSQL cannot be reached: nothing listens at its address")


class Cluster:
    shared = True
    beat_age = 0.0


class Store:
    """A store that fails until something is written, if it can write."""

    def __init__(self) -> None:
        self.reach = Reach()
        self.cluster = Cluster()
        self.writes = True
        self.probes = 0

    @property
    def failure(self) -> StoreError | None:
        return self.reach.failure

    def on_failure(self, callback: Any) -> None:
        self.reach.on_change = callback

    async def probe(self) -> None:
        self.probes += 1
        if not self.writes:
            raise AWAY
        self.reach.found(Source.COMMIT)


def failure_of(reach: Reach) -> StoreError | None:
    return reach.failure


class Told:
    """What health checks were told."""

    def __init__(self) -> None:
        self.all: list[bool] = []
        self._news = asyncio.Event()

    async def set_serving(self, serving: bool) -> None:
        self.all.append(serving)
        self._news.set()

    async def next(self) -> bool:
        async with asyncio.timeout(10):
            await self._news.wait()
        self._news.clear()
        return self.all[-1]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(health, "SHARED_SECONDS", 0.05)


async def started(store: Store) -> tuple[HealthKeeper, Told]:
    told = Told()
    keeper = HealthKeeper(cast("RunStore", store), told.set_serving)
    await keeper.start()
    assert await told.next()
    return keeper, told


async def test_a_failed_commit_does_not_outlive_the_outage_though_nobody_writes(quick: None) -> None:
    store = Store()
    keeper, told = await started(store)
    store.writes = False
    store.reach.lost(Source.COMMIT, AWAY)
    assert not await told.next()
    assert "nothing listens" in keeper.readiness.why_not()
    store.writes = True
    assert await told.next()
    assert keeper.readiness.why_not() == ""
    await keeper.leave()


async def test_a_probe_finds_the_database_before_patience_is_over(
    monkeypatch: pytest.MonkeyPatch, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "SHARED_SECONDS", 60.0)
    store = Store()
    keeper, told = await started(store)
    found = asyncio.Event()
    store.reach.lost(Source.COMMIT, AWAY)
    heard = store.reach.on_change
    assert heard is not None

    def hear() -> None:
        heard()
        found.set()

    store.reach.on_change = hear
    async with asyncio.timeout(10):
        await found.wait()
    await keeper.leave()
    assert told.all == [True]
    assert "NOT SERVING" not in caplog.text


async def test_beats_alone_tell_that_the_database_is_away(quick: None) -> None:
    store = Store()
    keeper, told = await started(store)
    store.reach.lost(Source.BEAT, AWAY)
    assert not await told.next()
    store.reach.found(Source.BEAT)
    assert await told.next()
    await keeper.leave()


async def test_the_time_without_a_beat_counts_and_a_pause_of_the_process_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(health, "monotonic", lambda: now)
    store = Store()
    keeper, _ = await started(store)
    store.cluster.beat_age = 2.5
    store.reach.lost(Source.BEAT, AWAY)
    now += 2.4
    assert keeper.readiness.why_not() == ""
    now += 0.2
    assert "cannot commit" in keeper.readiness.why_not()
    store.reach.found(Source.BEAT)
    store.cluster.beat_age = 36.0
    store.reach.lost(Source.COMMIT, AWAY)
    assert keeper.readiness.why_not() == ""
    await keeper.leave()


async def test_health_reminds_of_an_outage_now_and_then(
    monkeypatch: pytest.MonkeyPatch, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "REMINDER_SECONDS", 0.1)
    store = Store()
    store.writes = False
    keeper, told = await started(store)
    store.reach.lost(Source.COMMIT, AWAY)
    assert not await told.next()
    async with asyncio.timeout(10):
        while caplog.text.count("NOT SERVING for") < 2:  # noqa: ASYNC110 - lines of the log
            await asyncio.sleep(0.01)
    store.writes = True
    assert await told.next()
    await keeper.leave()


def test_an_outage_is_one_line_at_its_beginning_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 50.0
    reach = Reach(lambda: now)
    changes: list[StoreError | None] = []
    reach.on_change = lambda: changes.append(reach.failure)
    reach.lost(Source.BEAT, AWAY)
    for _ in range(100):
        reach.lost(Source.COMMIT, AWAY)
        reach.lost(Source.BEAT, StoreUnavailableError("it is starting"))
    assert str(failure_of(reach)) == "it is starting"
    now += 12.34
    reach.found(Source.BEAT)
    assert failure_of(reach) is AWAY  # commits may wait for a standby, for which beats do not wait
    reach.found(Source.COMMIT)
    reach.found(Source.COMMIT)
    assert failure_of(reach) is None
    assert changes == [AWAY, None]
    levels = [(each.levelname, each.message) for each in caplog.records]
    assert levels == [
        ("WARNING", f"the database takes no writes of this server, calls wait: {AWAY}"),
        ("INFO", "the database takes writes again, after 12.3 s"),
    ]


def test_whatever_breaks_a_connection_is_told_in_words() -> None:
    for kind in (*LOST, ConnectionRefusedError, ConnectionResetError, asyncpg.TargetServerAttributeNotMatched):
        words = plain(kind("secret"))
        assert words.endswith(f"({kind.__name__})")
        assert len(words.split()) > 3
        assert "secret" not in words


def test_what_fails_with_the_database_is_not_logged_line_by_line() -> None:
    for told in (AWAY, StoreUnreadableError("x"), TakenForDeadError()):
        assert level_of(told, logging.ERROR) == logging.DEBUG
    for untold in (CommitTooLargeError("x"), StaleClaimError("x"), StoreError("x"), ValueError("x")):
        assert level_of(untold) == logging.WARNING


def test_after_a_pause_of_the_process_there_is_one_more_try(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(connections, "monotonic", lambda: now)
    patience = Patience()
    assert patience.left() == 30.0
    now = 36.0
    assert not patience.is_over()
    assert 0.0 < patience.left() < 5.0
    assert patience.is_over()
    usual = Patience()
    assert not usual.is_over()
    now += 29.9
    assert not usual.is_over()
    now += 0.2
    assert usual.is_over()


async def test_an_answer_that_came_during_a_pause_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(connections, "monotonic", lambda: now)
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def fetch() -> None:
        nonlocal now
        now = 36.0  # the process was paused
        await answer

    loop = asyncio.get_running_loop()
    loop.call_later(0.05, answer.set_result, None)  # it is read a moment after the time is over
    task = asyncio.create_task(fetch())
    assert await answered(task, 0.01)
    never: asyncio.Future[None] = loop.create_future()
    assert not await answered(asyncio.ensure_future(never), 0.01)  # type: ignore[arg-type]
