"""What replicas that share a PostgreSQL database promise each other, held against two stores in one process."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count

import asyncpg
import pytest
from tests.postgres import PostgresServer
from tests.unit.contract.support import create, first, later, record

from stepwire.server.runs.record_changes import amend
from stepwire.server.store import (
    Chunk,
    Claim,
    News,
    OwnedElsewhereError,
    Owner,
    RunKey,
    StaleClaimError,
    Status,
)
from stepwire.server.store.postgres import PostgresStore, beating
from stepwire.server.store.postgres.writer import LANES

LEASE = 1.2
KEY = RunKey("default", "r1")


Join = Callable[..., "asyncio.Future[PostgresStore]"]


@pytest.fixture
async def join(postgres: PostgresServer) -> AsyncIterator[Callable[..., object]]:
    """Open a store and join as a replica: `await join("address")`."""
    postgres.empty()
    async with AsyncExitStack() as stack:

        async def join(address: str, versions: dict[str, str] | None = None, lease: float = LEASE) -> PostgresStore:
            store = PostgresStore(postgres.dsn, clock=time.time, lease=lease)
            await store.open()
            stack.push_async_callback(store.close)
            await store.cluster.join(address, {"orders": "1"} if versions is None else versions)
            return store

        yield join


async def holds(condition: Callable[[], object], timeout: float = 60.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - a thread and a database change it
            await asyncio.sleep(0.01)


async def test_a_run_belongs_to_the_replica_that_made_it_until_that_one_gives_it_up(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    claim = await create(one)
    with pytest.raises(OwnedElsewhereError) as refused:
        await other.claim(KEY)
    assert refused.value.address == "one:1"
    assert await other.cluster.owners([KEY]) == {KEY: Owner(one.cluster.me, "one:1")}
    assert await one.cluster.owners([KEY]) == {}
    one.release(claim)
    await one.cluster.released()
    taken = await other.claim(KEY)
    assert taken is not None
    assert taken.token == claim.token + 1
    assert one.cluster.takeovers == other.cluster.takeovers == 0
    with pytest.raises(StaleClaimError):
        await one.commit(later(record(), claim, 1, b"x"))
    with pytest.raises(OwnedElsewhereError):
        await one.claim(KEY)


async def test_a_late_release_frees_nothing_of_the_next_owner(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    claim = await create(one)
    taken = await other.claim(KEY, force=True)
    one.release(claim)
    await one.cluster.released()
    assert await one.cluster.owners([KEY]) == {KEY: Owner(other.cluster.me, "other:1")}
    assert await other.commit(later(record(), taken, 1, b"x")) == taken
    assert other.cluster.takeovers == 1


async def test_a_fenced_commit_writes_nothing_beside_one_of_the_claim_that_fenced_it(
    join, postgres: PostgresServer
) -> None:
    """Both are in one group, as when a replica was taken for dead and loads a run while its old commit still waits."""
    one = await join("one:1")
    claim = await create(one)
    others = [await create(one, f"locked-{n}") for n in range(LANES)]
    blocker = await asyncpg.connect(postgres.dsn)
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    try:
        async with blocker.transaction():
            await blocker.execute("SELECT 1 FROM runs WHERE run_id LIKE 'locked-%' FOR UPDATE")
            waiting = []
            for n, each in enumerate(others):  # every lane is at work, so what comes now waits for its turn
                waiting.append(one.commit(later(record(f"locked-{n}"), each, 1, b"x")))
                while await blocker.fetchval(blocked) <= n:  # noqa: ASYNC110 - the database changes it
                    await asyncio.sleep(0.01)
            stale = one.commit(later(record(), claim, 2, b"stale", chunks=[Chunk(1, 2, b"stale", None)]))
            taken = await one.claim(KEY)
            fresh = one.commit(later(record(), taken, 0, b"fresh"))  # without entries, as what follows a load
            assert not any(commit.done() for commit in (*waiting, stale, fresh))
        assert await fresh == taken
        with pytest.raises(StaleClaimError):
            await stale
    finally:
        await blocker.close()
    await asyncio.gather(*waiting)
    loaded = await one.load(KEY)
    assert (loaded.sequence, loaded.full, loaded.deltas) == (0, b"full", [b"fresh"])
    assert await one.entries(KEY, 0) == []
    assert (await one.get(KEY)).last_sequence == 0
    assert await one.commit(later(record(), taken, 1, b"next", chunks=[Chunk(1, 1, b"next", None)])) == taken


async def test_a_run_that_ended_belongs_to_nobody(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    claim = await create(one)
    ended = replace(record(), status=Status.COMPLETED, ended_at=101.0, wake_at=None)
    await one.commit(later(ended, claim, 1, b"end"))
    assert await other.cluster.owners([KEY]) == {}
    assert await other.claim(KEY) is not None


async def test_a_run_whose_record_stays_as_it_is_belongs_to_nobody(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    one.release(await create(one))
    await one.cluster.released()

    async def nothing(*_: object) -> None:
        return None

    await amend(one, KEY, nothing)
    await one.cluster.released()
    assert await other.claim(KEY) is not None
    assert other.cluster.takeovers == 0


async def test_nobody_waits_for_a_beat_of_a_replica_that_has_left(join) -> None:
    one = await join("one:1")
    await holds(lambda: one.cluster.fresh)
    one.cluster._beats.acknowledged = 0.0
    one.cluster._beats.wanted = lambda: None  # as if the replica left before that beat
    waiting = asyncio.ensure_future(one.cluster.hold())
    await asyncio.sleep(0)
    assert not waiting.done()
    await one.cluster.leave()
    async with asyncio.timeout(5.0):
        await waiting


async def test_a_replica_that_leaves_frees_its_runs_at_once(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    await create(one)
    await holds(lambda: len(other.cluster.peers) == 1)
    await one.cluster.leave()
    assert await other.claim(KEY) is not None
    await holds(lambda: not other.cluster.peers)
    assert (other.cluster.rank, other.cluster.size) == (0, 1)


async def test_a_replica_without_a_beat_is_dead_and_begins_anew(join, postgres: PostgresServer) -> None:
    one, other = await join("one:1"), await join("other:1")
    await create(one)
    died = asyncio.Event()
    one.cluster.on_death(died.set)
    before = one.cluster.me
    postgres.sql(f"DELETE FROM replicas WHERE id = {before}")  # as an observer does
    assert await other.claim(KEY) is not None
    await asyncio.wait_for(died.wait(), 60)
    await holds(lambda: one.cluster.me > before)
    await one.cluster.hold()
    assert one.cluster.fresh
    with pytest.raises(OwnedElsewhereError):
        await one.claim(KEY)


def end_without_a_word(store: PostgresStore) -> None:
    """End the thread of the beats without signing off, as in a killed process."""
    beats = store.cluster._beats
    assert beats is not None
    loop = beats._own_loop
    assert loop is not None
    loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
    beats.join(5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_replica_is_taken_for_dead_by_its_own_lease(join) -> None:
    patient, hasty = await join("patient:1", lease=6.0), await join("hasty:1")
    await create(patient)
    await holds(lambda: len(hasty.cluster.peers) == 1)
    began = time.monotonic()
    end_without_a_word(patient)
    await holds(lambda: not hasty.cluster.peers)
    assert time.monotonic() - began >= 1.9  # a third of its lease, less the pause between two looks


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_lost_session_is_found_out_after_a_third_of_the_lease(
    join, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = await join("one:1"), await join("other:1")
    await create(one)
    await holds(lambda: len(other.cluster.peers) == 1)
    # Time passes with the looks of the other one, however slow they are.
    looks = count(beating.boot_time(), 0.05)
    monkeypatch.setattr(beating, "boot_time", lambda: next(looks))
    end_without_a_word(one)
    await holds(lambda: not other.cluster.peers)
    found = re.search(
        r"at one:1 is dead: its session in the database has ended, and no beat came for (\d\.\d) s", caplog.text
    )
    assert found is not None
    assert LEASE / 3 <= float(found[1]) < LEASE * 3 / 4
    assert not one.cluster.fresh
    assert await other.claim(KEY) is not None
    assert other.cluster.takeovers == 1


async def test_a_replica_at_the_address_of_a_dead_one_takes_its_place_at_once(join, postgres: PostgresServer) -> None:
    one = await join("one:1")
    await create(one)
    postgres.sql("INSERT INTO replicas (address, versions) VALUES ('two:1', '{}')")
    postgres.sql("UPDATE runs SET owner = (SELECT id FROM replicas WHERE address = 'two:1')")
    with pytest.raises(TimeoutError):  # whether that one lives is not known yet
        async with asyncio.timeout(0.5):
            await one.claim(KEY)
    two = await join("two:1")
    assert await two.claim(KEY) is not None
    assert postgres.sql("SELECT count(*) FROM replicas WHERE address = 'two:1'") == "1"


async def test_due_runs_are_shared_and_only_of_code_that_fits(join) -> None:
    one = await join("one:1", {"orders": "1", "mail": "1"})
    other = await join("other:1", {"orders": "1", "mail": "2"})
    await holds(lambda: one.cluster.size == other.cluster.size == 2)
    for number in range(20):
        claim = await create(one, f"o{number}", info={"version": "1"})
        one.release(claim)
    for number in range(4):
        one.release(await create(one, f"m{number}", workflow="mail", info={"version": "2"}))
    await one.cluster.released()
    names = ["orders", "mail"]
    mine = {run.key.run_id for run in await one.due(200.0, 100, workflows=names, share=True)}
    others = {run.key.run_id for run in await other.due(200.0, 100, workflows=names, share=True)}
    assert not mine & others
    assert not any(run.startswith("m") for run in mine)
    rest = {run.key.run_id for run in await one.due(200.0, 100, workflows=names)}
    assert rest == {f"o{number}" for number in range(20)}
    assert {run.key.run_id for run in await other.due(200.0, 100, workflows=names)} == rest | {"m0", "m1", "m2", "m3"}
    assert mine | others >= rest
    await other.cluster.drain()
    await holds(lambda: one.cluster.size == 1)
    # While the one that fits stops, another may try: nobody else will.
    assert {run.key.run_id for run in await one.due(200.0, 100, workflows=names, share=True)} == rest | {
        "m0", "m1", "m2", "m3",
    }  # fmt: skip


async def test_runs_of_living_owners_are_not_due(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    await create(one)
    assert await other.due(200.0, 10, workflows=["orders"]) == []
    assert await other.next_wake(-1.0, workflows=["orders"]) is None
    await one.cluster.leave()
    assert [run.key for run in await other.due(200.0, 10, workflows=["orders"])] == [KEY]
    assert await other.next_wake(-1.0, workflows=["orders"]) == 0.0


async def test_news_of_claims_deletions_and_trims_reach_the_others_and_not_oneself(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    heard: dict[str, list[News]] = {"one": [], "other": []}
    one.cluster.on_news(heard["one"].append)
    other.cluster.on_news(heard["other"].append)
    await holds(lambda: one.cluster.peers and other.cluster.peers)
    claim = await create(one)
    one.release(claim)
    await one.cluster.released()
    claimed = await other.claim(KEY)
    assert isinstance(claimed, Claim)
    await holds(lambda: News("claimed", KEY) in heard["one"])
    assert await one.trim(KEY, 1) == 1
    await holds(lambda: News("trimmed", KEY, 1) in heard["other"])
    assert await other.delete(KEY)
    await holds(lambda: News("deleted", KEY) in heard["one"])
    assert not [news for news in heard["other"] if news.kind in ("claimed", "deleted")]
    assert not [news for news in heard["one"] if news.kind == "trimmed"]


async def test_places_are_given_in_the_order_of_creation_and_never_more(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    claims = {}
    for number in range(6):
        store = (one, other)[number % 2]
        claims[number] = await create(store, f"r{number}", status=Status.QUEUED, created_at=100.0 + number)
    keys = [RunKey("default", f"r{number}") for number in range(6)]
    found = await asyncio.gather(
        *(store.cluster.take_places("orders", 2, keys) for store in (one, other) for _ in range(5))
    )
    assert all(set(each) == set(keys[:2]) for each in found)
    for number in range(2):
        run = record(f"r{number}", status=Status.RUNNING, created_at=100.0 + number)
        await (one, other)[number].commit(later(run, claims[number], 1, b"go"))
    assert set(await other.cluster.take_places("orders", 2, keys)) == set(keys[:2])
    ended = replace(record("r1", status=Status.COMPLETED, created_at=101.0), ended_at=102.0, wake_at=None)
    await other.commit(later(ended, claims[1], 2, b"end"))
    assert set(await one.cluster.take_places("orders", 2, keys)) == {keys[0], keys[2]}
    assert set(await one.cluster.take_places("orders", 3, keys)) == {keys[0], keys[2], keys[3]}


async def test_the_clock_is_that_of_the_database(postgres: PostgresServer, join) -> None:
    told: list[float] = []
    store = PostgresStore(postgres.dsn, on_clock=told.append)
    await store.open()
    try:
        await store.cluster.join("one:1", {})
    finally:
        await store.close()
    assert abs(told[0] - float(postgres.sql("SELECT extract(epoch FROM clock_timestamp())"))) < 10.0


async def test_a_first_commit_makes_its_replica_the_owner(join) -> None:
    one, other = await join("one:1"), await join("other:1")
    await one.commit(first(record("a")))
    owner = Owner(one.cluster.me, "one:1")
    assert await other.cluster.owners([RunKey("default", "a")]) == {RunKey("default", "a"): owner}
