"""One replica at an address: what joins, what waits and what is refused, held against stores in one process."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.postgres import PostgresServer
from tests.unit.contract.support import create
from tests.unit.contract.test_replicas import KEY, LEASE, end_without_a_word, holds, join

from stepwire.server.store import AddressTakenError, RunKey
from stepwire.server.store.postgres import PostgresStore

__all__ = ["join"]

_REPLICA = """
import asyncio, sys
from stepwire.server.store.postgres import PostgresStore

async def main():
    store = PostgresStore(sys.argv[1], lease=float(sys.argv[2]))
    await store.open()
    await store.cluster.join("one:1", {})
    print(store.cluster.me, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def elsewhere(postgres: PostgresServer) -> Iterator[subprocess.Popen[str]]:
    """Have a replica in a process of its own, at one:1."""
    postgres.empty()
    command = [sys.executable, "-c", _REPLICA, postgres.dsn, str(LEASE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "1"
        yield process
        process.kill()


async def at(postgres: PostgresServer, address: str, lease: float = LEASE) -> PostgresStore:
    store = PostgresStore(postgres.dsn, lease=lease)
    await store.open()
    try:
        await store.cluster.join(address, {"orders": "1"})
    except BaseException:
        await store.close()
        raise
    return store


async def test_a_second_replica_at_the_address_of_a_living_one_is_refused(join, postgres: PostgresServer) -> None:
    one = await join("one:1")
    with pytest.raises(AddressTakenError, match=r"replica 1 lives and has one:1, too: .*--advertise") as refused:
        await at(postgres, "one:1")
    assert refused.value.replica == one.cluster.me == 1
    assert postgres.sql("SELECT id FROM replicas") == "1"
    assert one.cluster.fresh
    await one.cluster.leave()
    other = await at(postgres, "one:1")
    assert other.cluster.me == 2
    await other.close()


async def test_of_replicas_that_join_one_address_at_once_one_is_taken(join, postgres: PostgresServer) -> None:
    stores = [PostgresStore(postgres.dsn, lease=LEASE) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    try:
        joins = (store.cluster.join("one:1", {}) for store in stores)
        found = await asyncio.gather(*joins, return_exceptions=True)
        assert [type(each) for each in found if each is not None] == [AddressTakenError] * 3
        assert postgres.sql("SELECT count(*) FROM replicas") == "1"
    finally:
        await asyncio.gather(*(store.close() for store in stores))


async def test_a_killed_replica_keeps_none_from_its_address_for_a_moment(
    elsewhere: subprocess.Popen[str], postgres: PostgresServer
) -> None:
    elsewhere.kill()
    began = time.monotonic()
    store = await at(postgres, "one:1", lease=60.0)
    assert store.cluster.me == 2
    assert time.monotonic() - began < LEASE / 3 + 5.0
    await store.close()


async def test_a_hanging_replica_keeps_its_address_for_its_lease(
    elsewhere: subprocess.Popen[str], postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(elsewhere.pid, signal.SIGSTOP)
    store = await at(postgres, "one:1", lease=60.0)
    assert postgres.sql("SELECT id FROM replicas") == str(store.cluster.me)
    assert "replica 1, which had one:1 before, is dead: no beat for 1.2 s" in caplog.text
    await store.close()


async def test_a_replica_that_was_taken_for_dead_stays_out_while_another_has_its_address(
    join, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = await join("one:1"), await join("other:1")
    postgres.sql("UPDATE replicas SET address = 'one:1' WHERE id = 2")
    postgres.sql("DELETE FROM replicas WHERE id = 1")  # as an observer does
    refused = "this replica was taken for dead, and cannot begin anew: replica 2 lives and has one:1, too"
    await holds(lambda: refused in caplog.text)
    assert not one.cluster.fresh
    assert postgres.sql("SELECT id FROM replicas") == "2"
    await other.cluster.leave()
    await holds(lambda: one.cluster.me > 2)
    await one.cluster.hold()
    assert caplog.text.count(refused) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_takeovers_are_told_in_a_line_for_each_replica(join, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stepwire.server.store.postgres.takeovers")
    one, two, other = await join("one:1"), await join("two:1"), await join("other:1")
    await holds(lambda: len(other.cluster.peers) == 2)
    await create(two, "forced")
    for number in range(3):
        await create(one, f"r{number}")
    assert await other.claim(RunKey("default", "forced"), force=True)
    end_without_a_word(one)
    await holds(lambda: len(other.cluster.peers) == 1)
    for number in range(3):
        assert await other.claim(RunKey("default", f"r{number}"))
    await other.cluster.leave()
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert "took over 3 runs of replica 1 at one:1, which is gone" in told
    forced = "took over 1 run of replica 2 at two:1 by force: it beats, but does not answer this replica's calls"
    assert told.count(forced) == 1
    assert len(re.findall(r"took over run \w+ of replica \d", caplog.text)) == 4
    assert KEY.run_id == "r1"
    assert "took over run r1 of replica 1" in caplog.text
