"""The contract of a RunStore, held against every adapter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.postgres import MISSING, PostgresServer, programs

from stepwire.server.store import (
    Chunk,
    Claim,
    Commit,
    CommitTooLargeError,
    MemoryStore,
    PrunedStart,
    RequestRecord,
    RunExistsError,
    RunKey,
    RunQuery,
    RunRecord,
    RunStore,
    SnapshotInfo,
    SqliteStore,
    StaleClaimError,
    StartRequestExistsError,
    Status,
    StoredSnapshot,
    StoreError,
    StoreUnavailableError,
    WorkflowPause,
)
from stepwire.server.store.limits import LIST_BYTES, MAX_COMMIT_BYTES
from stepwire.server.store.postgres import PostgresStore
from stepwire.server.store.terms import CLOSE, TELL

Adapter = Callable[[Path, Callable[[], float]], RunStore]

ADAPTERS: dict[str, Adapter] = {
    "memory": lambda _, clock: MemoryStore(clock),
    "sqlite": lambda directory, clock: SqliteStore(directory, clock=clock),
}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server of the tests' own."""
    if programs() is None:
        pytest.skip(MISSING)
    # What is not written to the disk for sure is enough here, and twice as fast.
    with PostgresServer(["fsync=off"]) as server:
        yield server


@pytest.fixture(params=[*ADAPTERS, "postgres"])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Make a store with a clock; some tests set it."""
    if request.param in ADAPTERS:
        return ADAPTERS[request.param]
    server: PostgresServer = request.getfixturevalue("postgres")
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return lambda _, clock: PostgresStore(server.dsn, clock=clock)


@pytest.fixture
async def store(adapter: Adapter, tmp_path: Path) -> AsyncIterator[RunStore]:
    store = adapter(tmp_path, time.time)
    await store.open()
    yield store
    await store.close()


SERVED = ("orders", "other", "mail")


def record(run_id: str = "r1", **fields: Any) -> RunRecord:
    values: dict[str, Any] = {
        "workflow": "orders",
        "status": Status.RUNNING,
        "created_at": 100.0,
        "updated_at": 100.0,
        "namespace": "default",
    }
    values |= fields
    return RunRecord(key=RunKey(values.pop("namespace"), run_id), **values)


def first(run: RunRecord, **fields: Any) -> Commit:
    return Commit(run, None, fields.pop("delta", b"full"), fields.pop("full", True), **fields)


def later(run: RunRecord, claim: Claim, sequence: int, delta: bytes, **fields: Any) -> Commit:
    run = replace(run, last_sequence=sequence, updated_at=100.0 + sequence)
    return Commit(run, claim, delta, fields.pop("full", False), **fields)


async def create(store: RunStore, run_id: str = "r1", **fields: Any) -> Claim:
    return await store.commit(first(record(run_id, **fields)))


# --- records ----------------------------------------------------------------------------------


async def test_a_record_comes_back_whole_and_apart(store: RunStore) -> None:
    run = record(
        ended_at=None,
        wake_at=12.5,
        last_sequence=3,
        first_available=2,
        labels={"team": "blue", 'odd "key"': "é"},
        start_request_id="req",
        start_digest="abc",
        info={"origin": {"list": [1, 2.5, None, "x"]}},
    )
    expected = replace(run, labels=dict(run.labels), info={"origin": {"list": [1, 2.5, None, "x"]}})
    future = store.commit(first(run))
    run.info["origin"]["list"].append("changed after the commit was given")
    run.labels["team"] = "red"
    await future
    assert await store.get(run.key) == expected
    got = await store.get(run.key)
    assert got is not None
    got.info.clear()
    assert await store.get(run.key) == expected


async def test_what_is_not_there(store: RunStore) -> None:
    key = RunKey("default", "none")
    assert await store.get(key) is None
    assert await store.claim(key) is None
    assert await store.find_start("default", "none") is None
    assert await store.find_start("default", "") is None
    assert await store.load(key) is None
    assert await store.load(key, 1) is None
    assert await store.entries(key, 0) == []
    assert await store.requests(key) == []
    assert await store.snapshots(key, None, 10) == []
    assert await store.list(RunQuery(namespace="default")) == []
    assert await store.due(1e12, 10, workflows=SERVED) == []
    assert await store.next_wake(0.0, workflows=SERVED) is None
    assert await store.counts() == {}
    assert await store.delete(key) is False
    assert await store.prune() == 0
    assert await store.thin_snapshots(key) == 0


async def test_a_later_commit_replaces_the_record_but_not_how_it_and_its_log_began(store: RunStore) -> None:
    began = record(start_request_id="req", start_digest="abc", labels={"a": "1"})
    claim = await store.commit(first(began))
    changed = record(
        workflow="other",
        status=Status.COMPLETED,
        created_at=1.0,
        updated_at=200.0,
        ended_at=200.0,
        wake_at=None,
        last_sequence=9,
        first_available=4,
        labels={"b": "2"},
        start_request_id="other",
        start_digest="other",
        info={"outcome": 1},
    )
    assert await store.commit(Commit(changed, claim, b"d", full=False)) == claim
    assert await store.get(began.key) == replace(
        changed,
        workflow="orders",
        created_at=100.0,
        start_request_id="req",
        start_digest="abc",
        first_available=1,
    )


async def test_a_record_that_json_cannot_hold_is_refused(store: RunStore) -> None:
    with pytest.raises(StoreError, match="r1") as caught:
        await store.commit(first(record(info={"secret": object()})))
    assert "secret" not in str(caught.value)
    assert await store.get(RunKey("default", "r1")) is None


# --- first commits ----------------------------------------------------------------------------


async def test_a_taken_run_id_is_refused(store: RunStore) -> None:
    await create(store)
    with pytest.raises(RunExistsError):
        await create(store)
    await create(store, namespace="other")


async def test_a_used_start_request_is_refused_with_the_run_it_started(store: RunStore) -> None:
    started = record("r1", start_request_id="req")
    await store.commit(first(started))
    for run_id in ("r2", "r1"):  # also when the run_id conflicts: the same StartRun again
        with pytest.raises(StartRequestExistsError) as caught:
            await create(store, run_id, start_request_id="req")
        assert caught.value.record == started
    assert await store.find_start("default", "req") == started
    assert await store.find_start("other", "req") is None
    await create(store, "r1", namespace="other", start_request_id="req")
    await create(store, "r3")
    await create(store, "r4")  # none is not a request_id that could conflict


async def test_of_the_same_starts_at_once_one_wins(store: RunStore) -> None:
    futures = [store.commit(first(record(f"r{n}", start_request_id="req"))) for n in range(5)]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(outcomes[0], Claim)
    for outcome in outcomes[1:]:
        assert isinstance(outcome, StartRequestExistsError)
        assert outcome.record.key.run_id == "r0"
    assert len(await store.list(RunQuery(namespace="default"))) == 1


# --- claims -----------------------------------------------------------------------------------


async def test_a_later_claim_fences_off_the_earlier(store: RunStore) -> None:
    old = await create(store)
    new = await store.claim(old.key)
    assert new is not None
    assert new.token > old.token
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"stale", chunks=[Chunk(1, 1, b"x", None)]))
    assert await store.entries(old.key, 0) == []
    assert await store.commit(later(record(), new, 1, b"d")) == new
    snapshot = await store.load(old.key)
    assert snapshot == StoredSnapshot(1, 101.0, b"full", [b"d"])


async def test_a_stale_commit_is_told_so_also_when_the_log_went_on_without_it(store: RunStore) -> None:
    old = await create(store)
    new = await store.claim(old.key)
    assert new is not None
    await store.commit(later(record(), new, 1, b"d", chunks=[Chunk(1, 1, b"new", None)]))
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"stale", chunks=[Chunk(1, 1, b"old", None)]))
    assert await store.entries(old.key, 0) == [Chunk(1, 1, b"new", None)]


async def test_a_claim_of_a_deleted_run_never_fits_another(store: RunStore) -> None:
    old = await create(store)
    assert await store.delete(old.key)
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"d"))
    await create(store)
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"d"))


async def test_a_commit_that_is_too_large_for_every_store_is_refused(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_COMMIT_BYTES < 1_000_000_000  # what SQLite and PostgreSQL can hold
    monkeypatch.setattr("stepwire.server.store.encoding.MAX_COMMIT_BYTES", 1000)
    claim = await create(store)
    for fields in (
        {"chunks": [Chunk(1, 1, bytes(600), bytes(600))]},
        {"pending": {1: {"prompt": "x" * 1000}}},
    ):
        with pytest.raises(CommitTooLargeError, match=r"run r1 has 1\d+ bytes"):
            await store.commit(later(record(), claim, 1, b"d", **fields))
    with pytest.raises(CommitTooLargeError):
        await store.commit(later(record(), claim, 1, bytes(1001)))
    with pytest.raises(CommitTooLargeError):  # a result is in the record
        await store.commit(first(record("r2", info={"outcome": {"result": "x" * 1000}})))
    assert await store.get(RunKey("default", "r2")) is None
    await store.commit(later(record(), claim, 1, bytes(300)))


# --- commits together -------------------------------------------------------------------------


async def test_a_failing_commit_harms_no_other(store: RunStore) -> None:
    claims = [await create(store, f"r{n}") for n in range(5)]
    await store.claim(claims[1].key)
    taken = record("r3", start_request_id="a new one")
    futures = [
        store.commit(later(record("r0"), claims[0], 1, b"d0", chunks=[Chunk(1, 1, b"0", None)])),
        store.commit(later(record("r1"), claims[1], 1, b"d1", chunks=[Chunk(1, 1, b"1", None)])),
        store.commit(first(record("r5"))),
        store.commit(first(taken)),
        store.commit(later(record("r2", info={"bad": {1, 2}}), claims[2], 1, b"d2")),
        store.commit(later(record("r4"), claims[4], 1, b"d4", chunks=[Chunk(1, 1, b"4", None)])),
    ]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        Claim,
        StaleClaimError,
        Claim,
        RunExistsError,
        StoreError,
        Claim,
    ]
    for run_id, deltas, chunks in (("r0", [b"d0"], 1), ("r1", [], 0), ("r2", [], 0), ("r4", [b"d4"], 1)):
        key = RunKey("default", run_id)
        snapshot = await store.load(key)
        assert snapshot is not None
        assert snapshot.deltas == deltas
        assert len(await store.entries(key, 0)) == chunks
    assert await store.get(RunKey("default", "r5")) == record("r5")
    assert await store.find_start("default", "a new one") is None


async def test_many_runs_commit_at_once(store: RunStore) -> None:
    async def run(number: int) -> None:
        run = record(f"r{number}")
        claim = await store.commit(first(run, delta=b"%d" % number))
        for sequence in range(1, 8):
            data = b"%d.%d" % (number, sequence)
            chunk = Chunk(sequence, sequence, data, None)
            await store.commit(later(run, claim, sequence, data, chunks=[chunk]))

    await asyncio.gather(*(run(number) for number in range(150)))
    for number in range(150):
        key = RunKey("default", f"r{number}")
        data = [b"%d.%d" % (number, sequence) for sequence in range(1, 8)]
        assert await store.load(key) == StoredSnapshot(7, 107.0, b"%d" % number, data)
        assert [chunk.public for chunk in await store.entries(key, 0)] == data


async def test_listeners_hear_of_each_commit_in_order_before_its_future(store: RunStore) -> None:
    heard: list[tuple[str, str]] = []
    store.listen(lambda commit: heard.append(("heard", commit.record.key.run_id)))
    futures = []
    for n in range(5):
        future = store.commit(first(record("r1" if n == 3 else f"r{n}")))
        futures.append(future)
        future.add_done_callback(lambda _, n=n: heard.append(("done", f"r{n}")))  # type: ignore[misc]
    commits_before = list(heard)
    await asyncio.gather(*futures, return_exceptions=True)
    assert commits_before == []
    told = [run_id for what, run_id in heard if what == "heard"]
    assert told == ["r0", "r1", "r2", "r4"]  # not the one that failed
    for run_id in told:
        assert heard.index(("heard", run_id)) < heard.index(("done", run_id))


async def test_a_listener_that_fails_harms_no_commit(store: RunStore) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    heard: list[str] = []

    def fail(commit: Commit) -> None:
        raise RuntimeError("broken listener")

    store.listen(fail)
    store.listen(lambda commit: heard.append(commit.record.key.run_id))
    await create(store)
    assert heard == ["r1"]
    assert len(reported) == 1


async def test_a_commit_no_one_waits_for_is_kept(store: RunStore) -> None:
    store.commit(first(record("r1"))).cancel()
    await create(store, "r2")
    assert await store.get(RunKey("default", "r1")) is not None


async def test_closing_finishes_what_is_under_way_and_takes_no_more(store: RunStore) -> None:
    futures = [store.commit(first(record(f"r{n}"))) for n in range(20)]
    await store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(StoreUnavailableError):
        await create(store, "late")


# --- snapshots --------------------------------------------------------------------------------


async def commit_chain(store: RunStore, *commits: tuple[int, bytes]) -> RunKey:
    """Commit (sequence, delta) after (sequence, delta); capital letters are full."""
    run = replace(record(), last_sequence=commits[0][0], updated_at=100.0 + commits[0][0])
    claim = await store.commit(first(run, delta=commits[0][1]))
    for sequence, delta in commits[1:]:
        await store.commit(later(run, claim, sequence, delta, full=delta.isupper()))
    return run.key


async def test_load_folds_from_the_last_full_commit(store: RunStore) -> None:
    key = await commit_chain(store, (0, b"A"), (1, b"b"), (3, b"C"), (4, b"d"), (4, b"e"), (6, b"f"))
    assert await store.load(key) == StoredSnapshot(6, 106.0, b"C", [b"d", b"e", b"f"])
    assert await store.load(key, 6) == StoredSnapshot(6, 106.0, b"C", [b"d", b"e", b"f"])
    assert await store.load(key, 4) == StoredSnapshot(4, 104.0, b"C", [b"d"])
    assert await store.load(key, 3) == StoredSnapshot(3, 103.0, b"C", [])
    assert await store.load(key, 1) == StoredSnapshot(1, 101.0, b"A", [b"b"])
    assert await store.load(key, 0) == StoredSnapshot(0, 100.0, b"A", [])
    for sequence in (2, 5, 7):
        assert await store.load(key, sequence) is None


async def test_load_of_a_sequence_with_a_full_commit_between(store: RunStore) -> None:
    key = await commit_chain(store, (1, b"A"), (2, b"b"), (2, b"C"), (2, b"d"), (3, b"E"))
    assert await store.load(key, 2) == StoredSnapshot(2, 102.0, b"A", [b"b"])


async def test_the_snapshot_at_a_sequence_never_changes(store: RunStore) -> None:
    claim = await store.commit(first(replace(record(), last_sequence=1), delta=b"A"))
    for sequence, delta in ((1, b"b"), (2, b"c"), (2, b"D"), (2, b"e"), (3, b"f"), (3, b"g"), (3, b"H")):
        before = await loadable(store, claim.key)
        infos = await store.snapshots(claim.key, None, 9)
        await store.commit(later(record(), claim, sequence, delta, full=delta.isupper()))
        after = await loadable(store, claim.key)
        assert before == {sequence: after[sequence] for sequence in before}
        assert set(infos) <= set(await store.snapshots(claim.key, None, 9))
    assert await store.load(claim.key) == StoredSnapshot(3, 103.0, b"H", [])
    assert await store.load(claim.key, 3) == StoredSnapshot(3, 103.0, b"D", [b"e", b"f"])
    before = await loadable(store, claim.key)
    await store.thin_snapshots(claim.key)
    assert (await loadable(store, claim.key)) == {sequence: before[sequence] for sequence in (1, 3)}


async def test_snapshots_lists_the_first_of_each_sequence(store: RunStore) -> None:
    key = await commit_chain(store, (0, b"A"), (1, b"bb"), (4, b"cc"), (4, b"ddd"), (6, b"E"))
    infos = [
        SnapshotInfo(6, 106.0, 1),
        SnapshotInfo(4, 104.0, 2),
        SnapshotInfo(1, 101.0, 2),
        SnapshotInfo(0, 100.0, 1),
    ]
    assert await store.snapshots(key, None, 10) == infos
    assert await store.snapshots(key, None, 2) == infos[:2]
    assert await store.snapshots(key, 4, 10) == infos[2:]
    assert await store.snapshots(key, 5, 1) == [infos[1]]
    assert await store.snapshots(key, 0, 10) == []


# --- the log ----------------------------------------------------------------------------------


async def test_entries_begin_with_the_chunk_that_holds_the_next(store: RunStore) -> None:
    chunks = [
        Chunk(1, 1, b"1", None),
        Chunk(2, 5, b"2-5", b"internal"),
        Chunk(6, 6, None, b"6"),
        Chunk(7, 9, b"", b"7-9"),
    ]
    claim = await store.commit(first(record(), chunks=chunks[:2]))
    await store.commit(later(record(), claim, 9, b"d", chunks=chunks[2:]))
    key = claim.key
    assert await store.entries(key, 0) == chunks
    assert await store.entries(key, 1) == chunks[1:]
    assert await store.entries(key, 3) == chunks[1:]  # from the middle of a chunk
    assert await store.entries(key, 4, limit=2) == chunks[1:3]
    assert await store.entries(key, 5) == chunks[2:]
    assert await store.entries(key, 8) == chunks[3:]
    assert await store.entries(key, 9) == []
    assert await store.entries(key, 99) == []
    assert len(await store.entries(key, 0, limit=1)) == 1


async def test_a_log_that_begins_later(store: RunStore) -> None:
    chunks = [Chunk(11, 12, b"a", None), Chunk(13, 13, b"b", None)]
    claim = await store.commit(first(record(first_available=11), chunks=chunks))
    assert await store.entries(claim.key, 0) == chunks
    assert await store.entries(claim.key, 12) == chunks[1:]


# --- trimming ---------------------------------------------------------------------------------


async def long_run(store: RunStore, run_id: str = "r1", *, chunks: int = 10, fulls: tuple[int, ...] = (4, 9)) -> Claim:
    """Make a run with a chunk of three entries in each commit, and a commit without entries after each."""
    claim = await store.commit(first(record(run_id, last_sequence=3), chunks=[Chunk(1, 3, b"1", None)]))
    for n in range(1, chunks):
        last = 3 * n + 3
        chunk = Chunk(last - 2, last, b"%d" % last, b"i")
        await store.commit(later(record(run_id), claim, last, b"d%d" % last, full=n in fulls, chunks=[chunk]))
        await store.commit(later(record(run_id), claim, last, b"s%d" % last))
    return claim


async def everything(store: RunStore, key: RunKey, last: int = 30) -> dict[int, StoredSnapshot | None]:
    return {sequence: await store.load(key, sequence) for sequence in range(last + 1)}


@pytest.mark.parametrize(
    ("sequence", "begins"),
    [(-5, 1), (1, 1), (3, 1), (4, 4), (6, 4), (7, 7), (14, 13), (16, 16), (28, 28), (30, 28), (31, 28), (999, 28)],
)
async def test_trim_drops_whole_chunks_and_the_snapshots_at_them(store: RunStore, sequence: int, begins: int) -> None:
    key = (await long_run(store)).key
    whole, before = await store.get(key), await everything(store, key)
    chunks, latest = await store.entries(key, 0), await store.load(key)
    listed = await store.snapshots(key, None, 50)
    assert whole is not None
    assert await store.trim(key, sequence) == begins
    assert await store.get(key) == replace(whole, first_available=begins)
    kept = [chunk for chunk in chunks if chunk.first >= begins]
    assert await store.entries(key, begins - 1) == kept
    assert await store.entries(key, 0) == kept
    assert await store.load(key) == latest
    assert await everything(store, key) == {n: found if n >= begins else None for n, found in before.items()}
    assert await store.snapshots(key, None, 50) == [info for info in listed if info.sequence >= begins]
    assert await store.trim(key, sequence) == begins


async def test_a_trimmed_run_goes_on_and_what_it_commits_says_nothing_of_where_its_log_begins(store: RunStore) -> None:
    claim = await long_run(store)
    assert await store.trim(claim.key, 20) == 19
    await store.commit(later(record(), claim, 31, b"d31", chunks=[Chunk(31, 31, b"31", None)]))
    found = await store.get(claim.key)
    assert found is not None
    assert (found.first_available, found.last_sequence) == (19, 31)
    snapshot = await store.load(claim.key)
    assert snapshot is not None
    assert (snapshot.full, snapshot.deltas[-1]) == (b"d30", b"d31")
    assert [chunk.first for chunk in await store.entries(claim.key, 18)] == [19, 22, 25, 28, 31]
    assert await store.trim(claim.key, 20) == 19
    assert await store.trim(claim.key, 31) == 31
    assert await store.claim(claim.key) is not None


async def test_trim_of_a_run_is_of_no_other(store: RunStore) -> None:
    one, other = (await long_run(store, "one")).key, (await long_run(store, "other")).key
    before = await store.get(other), await store.entries(other, 0), await everything(store, other)
    assert await store.trim(one, 30) == 28
    assert (await store.get(other), await store.entries(other, 0), await everything(store, other)) == before
    assert await store.trim(RunKey("default", "none"), 5) is None


async def test_a_fork_s_first_snapshot_goes_when_its_log_is_trimmed(store: RunStore) -> None:
    claim = await store.commit(first(record()))
    chunks = [Chunk(1, 2, b"a", None), Chunk(3, 4, b"b", None)]
    await store.commit(later(record(), claim, 4, b"d", chunks=chunks))
    assert await store.load(claim.key, 0) is not None
    assert await store.trim(claim.key, 3) == 3
    assert await store.load(claim.key, 0) is None
    assert await store.load(claim.key, 4) == await store.load(claim.key) == StoredSnapshot(4, 104.0, b"full", [b"d"])
    assert [info.sequence for info in await store.snapshots(claim.key, None, 9)] == [4]


async def test_long_logs_are_found_in_pages(store: RunStore) -> None:
    lengths = {"a": 999, "b": 1000, "c": 1001, "d": 1500, "e": 5000}
    for run_id, last in lengths.items():
        await create(store, run_id, last_sequence=last)
    await create(store, "later", first_available=4500, last_sequence=5000)
    await create(store, "of another", workflow="other", last_sequence=5000)

    async def pages(entries: int) -> list[tuple[str, int, int]]:
        found: list[tuple[str, int, int]] = []
        after = 0
        while page := await store.long_logs("orders", entries, 2, after=after):
            found += [(run.key.run_id, run.first_available, run.last_sequence) for run in page]
            after = page[-1].handle
        return found

    assert await pages(10) == [("c", 1, 1001), ("d", 1, 1500), ("e", 1, 5000)]
    assert await pages(1500) == [("e", 1, 5000)]
    assert await pages(5000) == []


# --- answered requests ------------------------------------------------------------------------


def answered(number: int, at: float) -> RequestRecord:
    return RequestRecord(f"q{number}", f"d{number}", {"sequence": number, "ö": [None]}, at)


async def test_answered_requests_come_back_oldest_first(store: RunStore) -> None:
    now = time.time()
    claim = await store.commit(first(record(), requests=[answered(1, now)]))
    other = await store.commit(first(record("r2"), requests=[answered(7, now)]))
    await store.commit(later(record(), claim, 1, b"d", requests=[answered(2, now + 0.123456), answered(3, now)]))
    assert await store.requests(claim.key) == [
        answered(1, now),
        answered(2, now + 0.123456),
        answered(3, now),
    ]
    assert await store.requests(other.key) == [answered(7, now)]


async def test_the_last_10_000_answered_requests_are_kept(store: RunStore) -> None:
    now = time.time()
    claim = await create(store)
    for start in range(0, 11_500, 500):
        batch = [answered(n, now) for n in range(start, start + 500)]
        await store.commit(later(record(), claim, 1, b"d", requests=batch))
    kept = await store.requests(claim.key)
    assert [kept[0].request_id, kept[-1].request_id, len(kept)] == ["q1500", "q11499", 10_000]


async def test_old_answered_requests_are_kept_only_among_the_last_1_000(store: RunStore) -> None:
    now = time.time()
    claim = await create(store)
    old = [answered(n, now - 25 * 3600) for n in range(1500)]
    recent = [answered(n, now - 23 * 3600) for n in range(1500, 1900)]
    await store.commit(later(record(), claim, 1, b"d", requests=[*old, *recent]))
    kept = await store.requests(claim.key)
    assert [kept[0].request_id, kept[-1].request_id, len(kept)] == ["q900", "q1899", 1000]


async def test_a_wall_clock_set_far_forward_makes_nothing_old(
    tmp_path: Path, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    store = adapter(tmp_path, lambda: now)  # the server's clock does not jump
    await store.open()
    claim = await store.commit(first(record(updated_at=now)))
    await store.commit(later(record(), claim, 1, b"d", requests=[answered(n, now - 60.0) for n in range(1500)]))
    monkeypatch.setattr(time, "time", lambda: now + 50 * 365 * 86_400.0)
    more = [answered(n, now) for n in range(1500, 2600)]  # so many that those no longer kept are deleted
    await store.commit(later(record(), claim, 2, b"d", requests=more))
    assert len(await store.requests(claim.key)) == 2600
    assert store.ago(60.0) == now - 60.0
    await store.close()


# --- open questions ---------------------------------------------------------------------------


def question(number: int, text: str = "?") -> dict[str, Any]:
    return {"waiter_id": f"w{number}", "prompt": f'{text}\n"ö"', "requirements": {"n": number}}


async def test_open_questions_are_kept_one_by_one(store: RunStore) -> None:
    claim = await store.commit(first(record(), pending={1: question(1), 2: question(2), 3: question(3)}))
    other = await store.commit(first(record("r2"), pending={1: question(9)}))
    changes: list[dict[int, dict[str, Any] | None]] = [
        {2: None},
        {},
        {10: question(10), 4: question(4)},
        {1: question(1, "changed"), 3: None, 4: None, 11: question(11), 99: None},
        {12: question(12)},
    ]
    expected: dict[int, dict[str, Any]] = {number: question(number) for number in (1, 2, 3)}
    for sequence, change in enumerate(changes, start=1):
        expected |= {number: asked for number, asked in change.items() if asked is not None}
        expected = {number: asked for number, asked in expected.items() if change.get(number, asked) is not None}
        await store.commit(later(record(), claim, sequence, b"d", pending=change))
        listed = {found.key: found for found in await store.list(RunQuery(namespace="default"))}
        for found in (await store.get(claim.key), listed[claim.key]):
            assert found is not None
            assert found.pending == expected
            assert list(found.pending) == sorted(expected)
    assert sorted(expected) == [1, 10, 11, 12]
    kept = await store.get(other.key)
    assert kept is not None
    assert kept.pending == {1: question(9)}


async def test_open_questions_of_many_commits_at_once(store: RunStore) -> None:
    claims = [await store.commit(first(record(f"r{n}"), pending={n: question(n)})) for n in range(100)]
    futures = []
    for n, claim in enumerate(claims):
        change = {n: None, 1000: question(1000), 1001: question(1001)} if n % 2 else {n + 1: question(n + 1)}
        futures.append(store.commit(later(record(f"r{n}"), claim, 1, b"d", pending=change)))
    await asyncio.gather(*futures)
    for n, claim in enumerate(claims):
        found = await store.get(claim.key)
        assert found is not None
        assert list(found.pending) == ([1000, 1001] if n % 2 else [n, n + 1])


async def test_open_questions_of_a_stale_commit_change_nothing(store: RunStore) -> None:
    old = await store.commit(first(record(), pending={1: question(1)}))
    await store.claim(old.key)
    with pytest.raises(StaleClaimError):
        await store.commit(later(record(), old, 1, b"d", pending={1: None, 2: question(2), 3: question(3)}))
    found = await store.get(old.key)
    assert found is not None
    assert found.pending == {1: question(1)}


async def test_a_run_that_has_ended_has_no_open_questions(store: RunStore) -> None:
    claim = await store.commit(first(record(), pending={1: question(1), 2: question(2)}))
    ended = replace(record(), status=Status.CANCELLED, ended_at=5.0, wake_at=None)
    await store.commit(Commit(ended, claim, b"d", full=False, pending={3: question(3), 1: None}))
    found = await store.get(claim.key)
    assert found is not None
    assert found.pending == {}
    assert await store.delete(claim.key)
    await create(store)
    found = await store.get(claim.key)
    assert found is not None
    assert found.pending == {}


async def test_a_question_that_json_cannot_hold_is_refused(store: RunStore) -> None:
    claim = await create(store)
    other = await create(store, "r2")
    futures = [
        store.commit(later(record(), claim, 1, b"d", pending={1: {"bad": {1, 2}}})),
        store.commit(later(record("r2"), other, 1, b"d", pending={1: question(1)})),
    ]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreError, Claim]
    assert await store.load(claim.key) == StoredSnapshot(0, 100.0, b"full", [])


# --- lists ------------------------------------------------------------------------------------


async def ids(store: RunStore, **fields: Any) -> list[str]:
    query = RunQuery(**({"namespace": "default"} | fields))
    return [found.key.run_id for found in await store.list(query)]


async def test_list_filters(store: RunStore) -> None:
    await create(store, "a", created_at=1.0, labels={"team": "x", "tier": "1"})
    await create(store, "b", created_at=2.0, workflow="mail", labels={"team": "x"})
    await create(store, "c", created_at=3.0, status=Status.WAITING, labels={"team": "y"})
    await create(store, "d", created_at=4.0, status=Status.BLOCKED, workflow="mail")
    await create(store, "e", created_at=5.0, namespace="other")
    assert await ids(store) == ["d", "c", "b", "a"]
    assert await ids(store, namespace="other") == ["e"]
    assert await ids(store, workflow="mail") == ["d", "b"]
    assert await ids(store, statuses=[Status.WAITING, Status.BLOCKED]) == ["d", "c"]
    assert await ids(store, statuses=[Status.RUNNING], workflow="mail") == ["b"]
    assert await ids(store, statuses=[Status.FAILED]) == []
    assert await ids(store, labels={"team": "x"}) == ["b", "a"]
    assert await ids(store, labels={"team": "x", "tier": "1"}) == ["a"]
    assert await ids(store, labels={"tier": "2"}) == []
    assert await ids(store, created_after=2.0) == ["d", "c"]
    assert await ids(store, created_before=2.0) == ["a"]
    assert await ids(store, created_after=1.0, created_before=4.0) == ["c", "b"]
    assert await ids(store, limit=2) == ["d", "c"]


async def test_pages_of_runs_created_at_the_same_time(store: RunStore) -> None:
    statuses = [Status.RUNNING, Status.COMPLETED, Status.WAITING]
    for n in range(10):
        await create(store, f"r{n}", created_at=float(n // 5), status=statuses[n % 3])
    expected = [f"r{n}" for n in reversed(range(10))]
    seen: list[str] = []
    before = None
    while page := await store.list(RunQuery(namespace="default", before=before, limit=3)):
        seen += [found.key.run_id for found in page]
        before = (page[-1].created_at, page[-1].key.run_id)
    assert seen == expected
    running = [run_id for n, run_id in enumerate(expected) if (9 - n) % 3 == 0]
    assert await ids(store, statuses=[Status.RUNNING], before=(1.0, "r9")) == running[1:]


async def test_a_page_is_bounded_by_bytes_and_pages_leave_nothing_out(store: RunStore) -> None:
    statuses = [Status.COMPLETED, Status.WAITING, Status.FAILED]
    big = {"outcome": {"result": "x" * (LIST_BYTES // 4)}}
    for n in range(24):
        info = big if n % 4 else {}
        await create(store, f"r{n:02}", created_at=float(n // 2), status=statuses[n % 3], info=info, labels={"a": "b"})
    expected = [f"r{n:02}" for n in reversed(range(24))]
    for fields in ({}, {"labels": {"a": "b"}}, {"statuses": statuses}):
        seen: list[str] = []
        before = None
        pages = 0
        while page := await store.list(RunQuery(namespace="default", before=before, limit=1000, **fields)):
            assert sum(len(str(found.info)) for found in page) <= LIST_BYTES * 1.3
            seen += [found.key.run_id for found in page]
            before = (page[-1].created_at, page[-1].key.run_id)
            pages += 1
        assert seen == expected
        assert 4 <= pages <= 18


async def test_list_by_terms_ids_and_ends(store: RunStore) -> None:
    claims = {}
    for n, (run_id, terms) in enumerate(
        {
            "order-1": ("by=ada", "error=ValueError", "step=pay"),
            "order-2": ("by=ada", "step=pay"),
            "order-10": ("by=bob", "error=ValueError"),
            "mail-1": (),
        }.items()
    ):
        claims[run_id] = await create(store, run_id, created_at=float(n), terms=terms)
    assert await ids(store, terms=["by=ada"]) == ["order-2", "order-1"]
    assert await ids(store, terms=["by=ada", "error=ValueError"]) == ["order-1"]
    assert await ids(store, terms=["by=ad"]) == []
    assert await ids(store, terms=["by=ada"], workflow="mail") == []
    assert await ids(store, terms=["by=ada"], workflow="orders", limit=1) == ["order-2"]
    assert await ids(store, terms=["by=ada"], before=(1.0, "order-2")) == ["order-1"]
    assert await ids(store, terms=["by=ada"], statuses=[Status.RUNNING]) == ["order-2", "order-1"]
    assert await ids(store, terms=["by=ada"], statuses=[Status.FAILED]) == []
    assert await ids(store, terms=["by=ada"], labels={"a": "b"}) == []
    assert await ids(store, run_id_prefix="order-1") == ["order-10", "order-1"]
    assert await ids(store, run_id_prefix="order-1", terms=["by=ada"]) == ["order-1"]
    assert await ids(store, run_id_prefix="order-%") == []
    assert await ids(store, run_id_prefix="", limit=2) == ["mail-1", "order-10"]
    # They change with commits, and only theirs.
    ended = record("order-1", created_at=0.0, status=Status.FAILED, ended_at=50.0, terms=("by=ada", "error=KeyError"))
    await store.commit(Commit(ended, claims["order-1"], b"d", full=False))
    late = record("order-2", created_at=1.0, status=Status.FAILED, ended_at=60.0, terms=("by=ada", "step=pay"))
    await store.commit(Commit(late, claims["order-2"], b"d", full=False))
    assert (await ids(store, terms=["error=ValueError"])) == ["order-10"]
    assert (await ids(store, terms=["error=KeyError"])) == ["order-1"]
    assert (await ids(store, terms=["step=pay"])) == ["order-2"]
    found = await store.get(ended.key)
    assert found is not None
    assert found.terms == ("by=ada", "error=KeyError")
    assert await ids(store, ended_after=49.0) == ["order-2", "order-1"]
    assert await ids(store, ended_after=50.0) == ["order-2"]
    assert await ids(store, ended_before=60.0) == ["order-1"]
    assert await ids(store, ended_after=50.0, ended_before=60.0) == []
    assert await ids(store, ended_after=0.0, statuses=[Status.RUNNING]) == []
    assert await ids(store, ended_after=0.0, terms=["step=pay"], run_id_prefix="order") == ["order-2"]
    await store.delete(late.key)
    assert await ids(store, terms=["step=pay"]) == []
    assert await ids(store, ended_after=0.0) == ["order-1"]


async def test_counts(store: RunStore) -> None:
    await create(store, "a")
    await create(store, "b", namespace="other")
    claim = await create(store, "c", workflow="mail")
    ended = replace(record("c", workflow="mail"), status=Status.FAILED)
    await store.commit(Commit(ended, claim, b"d", full=False))
    assert await store.counts() == {("orders", "RUNNING"): 2, ("mail", "FAILED"): 1}


async def test_pauses(store: RunStore) -> None:
    assert list(await store.pauses()) == []
    first = WorkflowPause("default", "orders", 5.0, "ada", "the bank is down", 0.0, False)
    other = WorkflowPause("other", "orders", 6.0, "bob", "", 1.5, True)
    await store.save_pause(first)
    await store.save_pause(other)
    assert sorted(await store.pauses()) == [first, other]
    ended = first._replace(since=None, total=7.5, waking=True)
    await store.save_pause(ended)
    assert set(await store.pauses()) == {ended, other}


async def test_due_and_next_wake(store: RunStore) -> None:
    await create(store, "later", status=Status.WAITING, wake_at=50.0)
    await create(store, "now", status=Status.QUEUED, wake_at=0.0)
    await create(store, "soon", status=Status.RUNNING, wake_at=20.0, namespace="other")
    await create(store, "never", status=Status.WAITING, wake_at=None)
    await create(store, "blocked", status=Status.BLOCKED, wake_at=1.0)
    await create(store, "paused", status=Status.PAUSED, wake_at=70.0)
    for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT):
        await create(store, status, status=status, wake_at=1.0)
    await create(store, "foreign", status=Status.QUEUED, wake_at=0.0, workflow="unserved")
    due = await store.due(20.0, 10, workflows=SERVED)
    assert [run.key for run in due] == [RunKey("default", "now"), RunKey("other", "soon")]
    first = await store.due(99.0, 1, workflows=SERVED)
    assert [run.key for run in first] == [RunKey("default", "now")]
    place = (first[0].wake_at, first[0].handle)
    following = await store.due(99.0, 10, workflows=SERVED, after=place)
    assert [run.key.run_id for run in following] == ["soon", "later", "paused"]
    assert await store.due(-1.0, 10, workflows=SERVED) == []
    assert await store.namespaces() == ["default", "other"]
    assert await store.next_wake(-1.0, workflows=SERVED) == 0.0
    assert await store.next_wake(0.0, workflows=SERVED) == 20.0
    assert await store.next_wake(20.0, workflows=SERVED) == 50.0
    assert await store.next_wake(50.0, workflows=SERVED) == 70.0
    assert await store.next_wake(70.0, workflows=SERVED) is None
    claim = await store.claim(RunKey("default", "later"))
    assert claim is not None
    await store.commit(Commit(record("later", wake_at=30.0), claim, b"d", full=False))
    assert await store.next_wake(20.0, workflows=SERVED) == 30.0


async def test_ended_runs_in_order(store: RunStore) -> None:
    await create(store, "short", status=Status.COMPLETED, ended_at=1.0, last_sequence=2)
    await create(store, "second", status=Status.FAILED, ended_at=5.0, last_sequence=9)
    await create(store, "third", status=Status.COMPLETED, ended_at=5.0, last_sequence=9, namespace="other")
    await create(store, "first", status=Status.CANCELLED, ended_at=3.0, last_sequence=9)
    await create(store, "lives", status=Status.RUNNING, last_sequence=9)
    found = await store.ended((0.0, 0), 10)
    assert [run.key.run_id for run in found] == ["short", "first", "second", "third"]
    assert [run.ended_at for run in found] == [1.0, 3.0, 5.0, 5.0]
    page = await store.ended((1.0, found[0].handle), 2, longer_than=2)
    assert page == found[1:3]
    assert await store.ended((page[-1].ended_at, page[-1].handle), 2, longer_than=2) == found[3:]
    assert await store.ended((5.0, found[3].handle), 2) == []
    assert await store.ended((0.0, 0), 10, before=5.0) == found[:2]


# --- deletion and retention -------------------------------------------------------------------


async def test_delete_leaves_nothing(store: RunStore) -> None:
    run = record(start_request_id="req", wake_at=1.0)
    chunks = [Chunk(1, 1, b"x", None)]
    await store.commit(first(run, chunks=chunks, requests=[answered(1, time.time())]))
    await create(store, "other")
    assert await store.delete(run.key) is True
    assert await store.delete(run.key) is False
    assert await store.get(run.key) is None
    assert await store.find_start("default", "req") is None
    assert await store.claim(run.key) is None
    assert await ids(store) == ["other"]
    await store.commit(first(run, delta=b"new"))  # both ids are free again
    assert await store.load(run.key) == StoredSnapshot(0, 100.0, b"new", [])
    assert await store.entries(run.key, 0) == []
    assert await store.requests(run.key) == []


async def test_delete_and_prune_tell_before_and_after(store: RunStore) -> None:
    told: list[tuple[str, list[str]]] = []

    def listener(what: str) -> Callable[[Sequence[RunKey]], None]:
        return lambda keys: told.append((what, sorted(key.run_id for key in keys)))

    store.on_delete(listener("going"), listener("gone"))
    await create(store, "r1", status=Status.COMPLETED, ended_at=1.0)
    for n in range(3):
        await create(store, f"p{n}", status=Status.COMPLETED, ended_at=2.0)
    await store.delete(RunKey("default", "r1"))
    assert told == [("going", ["r1"]), ("gone", ["r1"])]
    told.clear()
    assert await store.prune() == 3
    assert told == [("going", ["p0", "p1", "p2"]), ("gone", ["p0", "p1", "p2"])]


async def test_nothing_is_found_of_a_run_from_its_deletion_on(store: RunStore) -> None:
    for deleting in ("delete", "prune"):
        chunks = [Chunk(1, 1, b"x", None)]
        run = record(deleting, status=Status.COMPLETED, ended_at=1.0, labels={"a": "b"}, last_sequence=1)
        await store.commit(first(run, chunks=chunks, requests=[answered(1, time.time())]))
        await (store.delete(run.key) if deleting == "delete" else store.prune())
        assert await store.get(run.key) is None
        assert await store.load(run.key) is None
        assert await store.load(run.key, 1) is None
        assert await store.entries(run.key, 0) == []
        assert await store.requests(run.key) == []
        assert await store.snapshots(run.key, None, 10) == []
        assert await store.claim(run.key) is None
        assert await ids(store, labels={"a": "b"}) == []
        assert await store.ended((0.0, 0), 10) == []
        assert await store.counts() == {}


async def test_the_request_id_of_a_pruned_run_holds_for_a_day(tmp_path: Path, adapter: Adapter) -> None:
    now = 1_000_000.0
    store = adapter(tmp_path, lambda: now)
    await store.open()
    for run_id, created_at in (("old", now - 90_000.0), ("new", now - 10.0), ("deleted", now - 10.0)):
        times = {"created_at": created_at, "updated_at": created_at, "ended_at": now}
        started = record(run_id, status=Status.COMPLETED, start_request_id=run_id, start_digest="abc", **times)
        await store.commit(first(started))
    await store.delete(RunKey("default", "deleted"))  # deleting it frees the request_id
    assert await store.prune() == 2
    kept = PrunedStart(RunKey("default", "new"), "abc", now - 10.0)
    assert await store.find_start("default", "new") == kept
    assert await store.find_start("other", "new") is None
    assert await store.find_start("default", "old") is None
    assert await store.find_start("default", "deleted") is None
    with pytest.raises(StartRequestExistsError) as caught:
        await store.commit(first(record("r2", start_request_id="new")))
    assert caught.value.record == kept
    assert await store.get(RunKey("default", "r2")) is None
    await store.commit(first(record("new", created_at=now)))  # the run_id is free
    now += 86_400.0
    await store.commit(first(record("last", status=Status.COMPLETED, ended_at=now)))
    await store.prune()
    assert await store.find_start("default", "new") is None
    await store.commit(first(record("r3", start_request_id="new")))
    await store.close()


async def create_ended(store: RunStore) -> None:
    """Make a1…a4 and b1, b2, ended at 1…4 and 1, 2, and one that runs."""
    for workflow, count in (("a", 4), ("b", 2)):
        for n in range(1, count + 1):
            await create(
                store,
                f"{workflow}{n}",
                workflow=workflow,
                status=Status.COMPLETED,
                created_at=float(n),
                ended_at=float(n),
                wake_at=None,
            )
    await create(store, "running", created_at=0.0)


@pytest.mark.parametrize(
    ("conditions", "gone"),
    [
        ({}, "a1 a2 a3 a4 b1 b2"),
        ({"workflow": "a"}, "a1 a2 a3 a4"),
        ({"workflow": "orders"}, ""),
        ({"ended_before": 3.0}, "a1 a2 b1 b2"),
        ({"workflow": "b", "ended_before": 2.0}, "b1"),
        ({"keep_last": 1}, "a1 a2 a3 b1"),
        ({"keep_last": 0}, "a1 a2 a3 a4 b1 b2"),
        ({"keep_last": 2, "workflow": "a"}, "a1 a2"),
        ({"keep_last": 1, "ended_before": 2.0}, "a1 b1"),
        ({"limit": 3}, "a1 b1 a2"),
        ({"keep_last": 1, "limit": 1}, "a1"),
    ],
)
async def test_prune(store: RunStore, conditions: dict[str, Any], gone: str) -> None:
    await create_ended(store)
    everything = {"a1", "a2", "a3", "a4", "b1", "b2", "running"}
    assert await store.prune(**conditions) == len(gone.split())
    assert set(await ids(store)) == everything - set(gone.split())


@pytest.mark.parametrize("conditions", [{}, {"keep_last": 0}, {"ended_before": 9.0, "workflow": "orders"}])
async def test_prune_keeps_runs_of_which_something_is_to_be_done(store: RunStore, conditions: dict[str, Any]) -> None:
    claims = [
        await create(store, f"r{number}", status=Status.FAILED, ended_at=float(number), terms=("by=a", each))
        for number, each in enumerate((TELL, "parent=other", CLOSE, "undone=", "error=undone=tell"))
    ]
    assert await store.prune(limit=2, **conditions) == 2
    assert await store.prune(**conditions) == 1
    assert sorted(await ids(store)) == ["r0", "r2"]
    told = record("r0", status=Status.FAILED, ended_at=0.0, terms=("by=a",))
    await store.commit(Commit(told, claims[0], b"", False))
    assert await store.prune(**conditions) == 1
    assert sorted(await ids(store)) == ["r2"]


async def test_prune_of_more_than_one_batch(store: RunStore) -> None:
    for n in range(120):
        await create(store, f"r{n}", status=Status.FAILED, ended_at=float(n))
    assert await store.prune(keep_last=5) == 115
    assert sorted(await ids(store)) == ["r115", "r116", "r117", "r118", "r119"]


CHAIN = ((0, b"A"), (1, b"b"), (2, b"c"), (3, b"D"), (3, b"e"), (4, b"f"), (5, b"g"), (6, b"h"))


async def loadable(store: RunStore, key: RunKey) -> dict[int, StoredSnapshot]:
    found = {sequence: await store.load(key, sequence) for sequence in range(8)}
    return {sequence: snapshot for sequence, snapshot in found.items() if snapshot}


@pytest.mark.parametrize(
    ("chain", "keep", "dropped", "kept"),
    [
        (CHAIN, None, 2, [0, 3, 4, 5, 6]),
        (CHAIN, [1], 1, [0, 1, 3, 4, 5, 6]),
        (CHAIN, [2, 99], 0, [0, 1, 2, 3, 4, 5, 6]),
        ((*CHAIN, (7, b"I")), None, 6, [0, 3, 7]),
        ((*CHAIN, (7, b"I")), [5], 3, [0, 3, 4, 5, 7]),
        # The first of sequence 2 is what its snapshot is: it does not change into another one.
        (((1, b"A"), (2, b"b"), (2, b"C"), (2, b"d"), (3, b"e"), (4, b"F")), None, 4, [1, 4]),
        (((1, b"A"), (2, b"b"), (2, b"C"), (2, b"d"), (3, b"e"), (4, b"F")), [2], 3, [1, 2, 4]),
    ],
)
async def test_thinned_snapshots_load_as_before_or_not_at_all(
    store: RunStore,
    chain: tuple[tuple[int, bytes], ...],
    keep: list[int] | None,
    dropped: int,
    kept: list[int],
) -> None:
    key = await commit_chain(store, *chain)
    before = await loadable(store, key)
    latest = await store.load(key)
    assert await store.thin_snapshots(key, keep) == dropped
    assert await store.load(key) == latest
    assert await loadable(store, key) == {sequence: before[sequence] for sequence in kept}
    listed = [info.sequence for info in await store.snapshots(key, None, 20)]
    assert listed == sorted(kept, reverse=True)
    assert await store.thin_snapshots(key, keep) == 0


async def test_a_thinned_run_can_go_on(store: RunStore) -> None:
    key = await commit_chain(store, *CHAIN)
    await store.thin_snapshots(key)
    claim = await store.claim(key)
    assert claim is not None
    await store.commit(later(record(), claim, 7, b"i"))
    assert await store.load(key) == StoredSnapshot(7, 107.0, b"D", [b"e", b"f", b"g", b"h", b"i"])
