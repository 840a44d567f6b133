"""Replicas whose database has lost what it had acknowledged, as after an asynchronous standby was promoted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from tests.integration.cluster.conftest import FLOWS, GRACE, Start
from tests.integration.cluster.support import first, until
from tests.postgres import MISSING, PostgresServer, programs
from tests.serving import ServerProcess

from stepwire.client import Client, StepwireError
from stepwire.client.aio import Run


async def test_a_working_run_whose_claim_the_database_has_lost_goes_on_at_its_owner(start: Start) -> None:
    (a,), database = start(1)
    async with Client(a.address) as client:
        run = await client.start_run("slow", seconds=2.0)
        while not await run.context.store.get("worked", []):  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.02)
        database.sql(f"UPDATE runs SET token = token - 1 WHERE run_id = '{run.run_id}'")
        # Nobody calls for the run: that would load it.
        done = f"SELECT 1 FROM runs WHERE run_id = '{run.run_id}' AND status = 'COMPLETED'"
        await until(lambda: database.sql(done) == "1", 30.0)
        assert await run.result() == [a.pid, a.pid]
    assert "was claimed by another or deleted" in a.log


@pytest.mark.slow
async def test_a_run_whose_owner_lives_and_does_not_hold_it_is_given_up(start: Start) -> None:
    (a, b), database = start(2)
    async with Client(a.address) as client:
        run = await client.start_run("slow", seconds=600.0)
        while not await run.context.store.get("worked", []):  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.02)
    dead = a.pid
    a.kill()
    database.sql(f"UPDATE runs SET owner = (SELECT id FROM replicas WHERE address = '{b.address}')")
    done = f"SELECT 1 FROM runs WHERE run_id = '{run.run_id}' AND status = 'COMPLETED'"
    await until(lambda: database.sql(done) == "1", 60.0)
    async with Client(b.address) as client:
        assert await client.run(run.run_id).result() == [dead, b.pid]
    assert "gave up 1 run that was this replica's and not in its memory" in b.log


async def test_an_asynchronous_standby_is_promoted(made: Callable[[str], ServerProcess], pair: Pair) -> None:
    """What was lost is lost everywhere: nobody answers from the memory of it, and readers of it are told."""
    primary, standby = pair
    a, b = made(pair.dsn), made(pair.dsn)
    await asyncio.to_thread(a.start)
    await asyncio.to_thread(b.start)
    async with Client(a.address, timeout=30) as one, Client(b.address, timeout=30) as other:
        runs = [await one.start_run("ask", run_id=f"r{n}") for n in range(3)]
        work = await one.start_run("chat", run_id="work")
        for run in runs:
            await run.context.wait_for_event("Question")
            await run.context.send_event(("Note", {"n": 1}))
        await asyncio.gather(*(first(run, 1) for run in runs))
        kept = [(await run.info()).last_sequence for run in runs]
        await until(lambda: standby.sql("SELECT last_sequence FROM runs WHERE run_id = 'r2'") == str(kept[2]))
        standby.kill()

        for run in runs:
            await run.context.send_event(("Note", {"n": 2}))
        await asyncio.gather(*(first(run, 2) for run in runs))
        await one.start_run("ask", run_id="lost")
        await work.context.send_event(("Work", {"seconds": 8.0}))
        ahead = [(await run.info()).last_sequence for run in runs]
        assert all(later > before for later, before in zip(ahead, kept, strict=True))
        readers = [asyncio.create_task(follow(client.run("r0"), ahead[0])) for client in (one, other)]
        await asyncio.sleep(1.0)
        primary.kill()
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(standby.promote)

        for client in (one, other):
            assert [(await client.run(run.run_id).info()).last_sequence for run in runs] == kept
            assert [await client.run(run.run_id).context.store.get("count") for run in runs] == [1, 1, 1]
            with pytest.raises(StepwireError) as gone:
                await client.run("lost").info()
            assert gone.value.reason == "RUN_NOT_FOUND"
        assert await asyncio.gather(*readers) == ["SEQUENCE_OUT_OF_RANGE"] * 2
        assert "the database has lost acknowledged commits of 5 runs" in a.log
        for run in runs:
            await other.run(run.run_id).context.send_event(("Answer", {"text": "yes"}))
            assert await run.result() == "yes"
        await work.context.send_event(("Answer", {"text": "done"}))
        assert await work.result() == "done"


async def follow(run: Run, after: int) -> str:
    """Read a run; return why that ended."""
    try:
        async for _ in run.events(after):
            pass
    except StepwireError as error:
        return error.reason
    return ""


class Pair(NamedTuple):
    """A database and its standby, for which commits do not wait."""

    primary: PostgresServer
    standby: PostgresServer

    @property
    def dsn(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self)
        return f"postgres://stepwire@{hosts}/stepwire?target_session_attrs=read-write"


@pytest.fixture
def pair() -> Iterator[Pair]:
    if programs() is None:
        pytest.skip(MISSING)
    settings = ["fsync=off", "max_connections=100"]
    pair = Pair(PostgresServer(settings), PostgresServer(settings))
    try:
        pair.primary.create()
        pair.standby.follow(pair.primary)
        yield pair
    finally:
        for each in pair:
            each.__exit__(None, None, None)


@pytest.fixture
def made() -> Iterator[Callable[[str], ServerProcess]]:
    with ExitStack() as stack:

        def make(dsn: str) -> ServerProcess:
            server = ServerProcess(dsn, FLOWS, args=[*GRACE])
            stack.callback(server.kill)
            return server

        yield make
