"""A damaged SQLite file, a full disk and one that fails: refused, outlived, healed."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest
from tests.integration.sqlite.support import first, later, record, write_on

from stepwire.server.store import (
    Chunk,
    Claim,
    Commit,
    RunKey,
    SqliteStore,
    StoreCorruptError,
    StoredSnapshot,
    StoreError,
    StoreUnavailableError,
)


@pytest.mark.parametrize("part", ["snapshot", "public", "internal"])
async def test_a_flipped_byte_is_refused(tmp_path: Path, part: str) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    claim = await store.commit(first())
    for sequence, data in ((1, b"one"), (2, b"TWO")):
        await store.commit(later(claim, sequence, data))
    await store.close()
    pattern = {"snapshot": b"TWO", "public": b"public TWO", "internal": b"internal TWO"}[part]
    content = bytearray(store.path.read_bytes())
    places = [n for n in range(len(content)) if content.startswith(pattern, n)]
    if part == "snapshot":
        places = [n for n in places if content[n - 1 : n] != b" "]
    assert len(places) == 1
    content[places[0] + len(pattern) - 1] ^= 1
    store.path.write_bytes(content)

    store = SqliteStore(tmp_path)
    await store.open()
    with pytest.raises(StoreCorruptError, match=r"run r1: .* at 2 is damaged"):
        await (store.load(claim.key) if part == "snapshot" else store.entries(claim.key, 0))
    # What is not damaged can be read.
    assert await store.load(claim.key, 1) == StoredSnapshot(1, 1.0, b"full", [b"one"])
    assert len(await store.entries(claim.key, 0, limit=1)) == 1
    await store.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM commits WHERE full = 1", "before 3 is missing"),
        ("DELETE FROM log WHERE first = 2", "before 3 is missing"),
        ("UPDATE commits SET sequence = 9 WHERE sequence = 3", "at 9 is damaged"),
        ("UPDATE log SET public = NULL WHERE first = 3", "at 3 is damaged"),
        ("UPDATE runs SET info = '{'", "damaged"),
        ("UPDATE questions SET question = replace(question, 'yes', 'no')", "question of run r1 is damaged"),
        ("UPDATE questions SET number = 7", "question of run r1 is damaged"),
    ],
)
async def test_missing_and_exchanged_rows_are_refused(store: SqliteStore, statement: str, message: str) -> None:
    asked = first()
    asked.pending = {1: {"prompt": "yes?"}}
    claim = await store.commit(asked)
    for sequence in (1, 2, 3):
        await store.commit(later(claim, sequence))
    await write_on(store, statement)

    async def read() -> None:
        await store.get(claim.key)
        await store.load(claim.key)
        await store.entries(claim.key, 0)

    with pytest.raises(StoreCorruptError, match=message):
        await read()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stepwire.db").write_bytes(b"not a database at all " * 500)
    store = SqliteStore(tmp_path)
    with pytest.raises(StoreCorruptError):
        await store.open()
    with pytest.raises(StoreUnavailableError):
        await store.get(RunKey("default", "r1"))
    with pytest.raises(StoreUnavailableError):
        await store.commit(first())
    await store.close()


async def test_a_full_disk_fails_the_batch_and_heals(store: SqliteStore) -> None:
    claims = await asyncio.gather(*(store.commit(first(f"r{n}")) for n in range(3)))
    (pages,) = (await write_on(store, "PRAGMA page_count"))[0]
    await write_on(store, f"PRAGMA max_page_count = {pages + 2}")
    big = [later(claim, 1, b"x" * 100_000) for claim in claims]
    outcomes = await asyncio.gather(*map(store.commit, big), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, StoreUnavailableError)
        assert outcome.full
    for claim in claims:
        assert await store.load(claim.key) == StoredSnapshot(0, 1.0, b"full", [])
        assert await store.entries(claim.key, 0) == []
    await write_on(store, "PRAGMA max_page_count = 1000000")
    await asyncio.gather(*map(store.commit, big))
    for claim in claims:
        snapshot = await store.load(claim.key)
        assert snapshot is not None
        assert snapshot.deltas == [b"x" * 100_000]


async def test_a_failing_disk_fails_the_batch_and_heals(store: SqliteStore) -> None:
    claim = await store.commit(first())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # writes beyond it fail
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError) as caught:
                await store.commit(later(claim, 1))
            assert not caught.value.full
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await store.load(claim.key) == StoredSnapshot(0, 1.0, b"full", [])
    await store.commit(later(claim, 1))
    await store.commit(first("r2"))
    assert await store.load(claim.key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])


async def test_a_broken_connection_is_replaced(store: SqliteStore) -> None:
    claim = await store.commit(first())
    with pytest.raises(StoreUnavailableError):
        await store._writer.run(lambda connection: connection.close())
    await store.commit(later(claim, 1))
    assert await store.load(claim.key) == StoredSnapshot(1, 1.0, b"full", [b"delta"])


async def test_a_run_of_values_that_sqlite_cannot_hold_is_refused(store: SqliteStore) -> None:
    futures = [store.commit(first("r1", last_sequence=1 << 70)), store.commit(first("r2"))]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert type(outcomes[0]) is StoreError
    assert isinstance(outcomes[1], Claim)
    assert await store.get(RunKey("default", "r1")) is None


async def test_a_trimmed_run_whose_record_is_damaged_is_refused(store: SqliteStore) -> None:
    claim = await store.commit(first(sequence=1))
    for n in (2, 3):
        await store.commit(Commit(record(sequence=n), claim, b"d", False, [Chunk(n, n, b"x", None)]))
    assert await store.trim(claim.key, 3) == 3
    await store._writer.run(lambda connection: connection.execute("UPDATE runs SET first_available = 2"))
    with pytest.raises(StoreCorruptError, match="record of run r1 is damaged"):
        await store.get(claim.key)
    with pytest.raises(StoreCorruptError, match="record of run r1 is damaged"):
        await store.trim(claim.key, 3)
