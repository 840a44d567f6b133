"""The SQLite store on a small disk of its own: what does not fit harms nothing else, and a full disk heals."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwire.server.store import (
    Chunk,
    Claim,
    Commit,
    CommitTooLargeError,
    RunKey,
    RunQuery,
    RunRecord,
    SqliteStore,
    Status,
    StoredSnapshot,
    StoreUnavailableError,
)
from stepwire.server.store.sqlite import full_disk

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 24 MiB; skip where none can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
async def store(disk: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(disk / "data")
    await opened.open()
    yield opened
    await opened.close()


def first(run_id: str, **fields: Any) -> Commit:
    values: dict[str, Any] = {"workflow": "w", "status": Status.RUNNING, "created_at": 1.0, "updated_at": 1.0}
    return Commit(RunRecord(key=RunKey("default", run_id), **(values | fields)), None, b"full", full=True)


def later(claim: Claim, sequence: int, data: bytes = b"delta") -> Commit:
    run = first(claim.key.run_id, last_sequence=sequence).record
    return Commit(run, claim, data, full=False, chunks=[Chunk(sequence, sequence, data, None)])


def fails(store: SqliteStore) -> bool:
    return store.failure is not None


def fill_up(disk: Path) -> Path:
    """Take all the space that is left."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            continue
    return ballast


async def write_until_refused(store: SqliteStore, claim: Claim, sequence: int) -> int:
    """Return the last sequence that was written."""
    for n in range(sequence + 1, sequence + 5000):
        try:
            await store.commit(later(claim, n, b"x" * 20_000))
        except StoreUnavailableError:
            return n - 1
    raise AssertionError("the disk was never full")


@pytest.mark.parametrize("over_a_restart", [False, True])
async def test_a_commit_larger_than_the_free_space_takes_no_other_with_it(disk: Path, over_a_restart: bool) -> None:
    store = SqliteStore(disk / "data")
    await store.open()
    claims = [await store.commit(first(f"r{n}")) for n in range(20)]
    big = await store.commit(first("big"))
    for n in range(1, 4):
        if over_a_restart:
            await store.close()
            await store.open()
        futures = [store.commit(later(claim, n)) for claim in claims[:10]]
        futures.append(store.commit(later(big, 1, bytes(30 * MIB))))
        futures += [store.commit(later(claim, n)) for claim in claims[10:]]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        refusal = outcomes.pop(10)
        assert isinstance(refusal, CommitTooLargeError)
        assert "run big has" in str(refusal)
        assert outcomes == claims
        assert store.failure is None  # the store works
    assert await store.load(big.key) == StoredSnapshot(0, 1.0, b"full", [])
    assert (disk / "data" / "stepwire.db-wal").stat().st_size < 5 * MIB  # it was not even tried
    await store.close()


async def test_a_commit_that_would_fit_on_an_emptier_disk_is_refused_for_now(disk: Path, store: SqliteStore) -> None:
    big, small = await store.commit(first("big")), await store.commit(first("small"))
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(16 * MIB))
    futures = [store.commit(later(big, 1, bytes(2 * MIB))), store.commit(later(small, 1))]
    refusal, written = await asyncio.gather(*futures, return_exceptions=True)
    assert type(refusal) is StoreUnavailableError
    assert refusal.full
    assert written == small
    assert not fails(store)
    ballast.unlink()
    assert await store.commit(later(big, 1, bytes(2 * MIB))) == big


async def test_dead_frames_of_the_log_keep_no_one_from_writing(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that runs into the end of the disk leaves a log full of what was never committed."""
    monkeypatch.setattr(full_disk, "CHECKED_BYTES", 1 << 40)  # try what cannot fit
    claims = [await store.commit(first(f"r{n}")) for n in range(20)]
    futures = [store.commit(later(claim, 1)) for claim in claims]
    futures.append(store.commit(later(await store.commit(first("big")), 1, bytes(30 * MIB))))
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert outcomes[:-1] == claims
    assert isinstance(outcomes[-1], StoreUnavailableError)
    for n in range(2, 300):
        await asyncio.gather(*(store.commit(later(claim, n, b"x" * 500)) for claim in claims[:5]))
    await store.commit(later(claims[5], 2, bytes(2 * MIB)))  # the space was given back


async def test_a_full_disk_is_read_and_heals_by_deleting_runs(disk: Path, store: SqliteStore) -> None:
    waiting = await store.commit(first("waiting"))
    for n in range(100):
        claim = await store.commit(first(f"ended{n}"))
        ended = later(claim, 1, b"x" * 40_000)
        ended.record.status, ended.record.ended_at = Status.COMPLETED, 2.0
        await store.commit(ended)
    ballast = fill_up(disk)
    last = await write_until_refused(store, waiting, 0)
    fill_up(disk)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError) as caught:
            await store.commit(later(waiting, last + 1))
        assert caught.value.full
        with pytest.raises(StoreUnavailableError):
            await store.probe()
    assert fails(store)
    # Everything can be read, also by connections that are opened only now.
    assert (await store.load(waiting.key)) is not None
    assert len(await store.entries(waiting.key, last - 1)) == 1
    assert len(await store.list(RunQuery(namespace="default", limit=1000))) == 101
    # Deletions need space in the log. The reserve gives it, and the pages they free take commits.
    assert await store.prune() == 100
    assert store._sweeper is not None
    await store._sweeper
    assert await store.get(RunKey("default", "ended1")) is None
    for n in range(last + 1, last + 50):
        await store.commit(later(waiting, n, b"x" * 20_000))
    assert not fails(store)
    await store.close()
    await store.open()  # on the full disk
    assert (await store.get(waiting.key)) is not None
    ballast.unlink()
    await store.probe()
    await store.commit(later(waiting, last + 50))
    assert (disk / "data" / "reserve").stat().st_size > 4 * MIB


async def test_a_restart_on_a_full_disk_keeps_the_reserve(disk: Path, store: SqliteStore) -> None:
    claim = await store.commit(first("r"))
    last = await write_until_refused(store, claim, 0)
    fill_up(disk)
    for _ in range(4):
        await store.close()
        fill_up(disk)
        await store.open()
        snapshot = await store.load(claim.key)
        assert snapshot is not None
        assert snapshot.sequence == last
        with pytest.raises(StoreUnavailableError):
            await store.commit(later(claim, last + 1, b"x" * 20_000))
        assert (disk / "data" / "reserve").stat().st_size > 3 * MIB
    assert await store.delete(claim.key)
