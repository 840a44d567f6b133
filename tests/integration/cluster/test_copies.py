"""A replica on a copy of the database that others use, as after a restore of a backup to somewhere else."""

from __future__ import annotations

import asyncio

from tests.integration.cluster.conftest import FLOWS, GRACE, Start
from tests.integration.cluster.support import Database
from tests.serving import ServerProcess

from stepwire.client import Client


async def test_a_replica_on_a_copy_has_nothing_to_do_with_the_replicas_of_the_original(start: Start) -> None:
    (a, b), database = start(2)
    async with Client(a.address) as one:
        runs = [await one.start_run("chat", run_id=f"chat-{n}") for n in range(4)]
        for run in runs:
            await run.context.store.set("from", "original")
        copy = Database(database.server, "copied")
        await asyncio.to_thread(database.server.copy, database.name, copy.name)
        c = ServerProcess(copy.dsn, FLOWS, args=GRACE)
        try:
            await asyncio.to_thread(c.start)
            async with Client(c.address, timeout=30) as other:
                there = [other.run(run.run_id) for run in runs]
                await asyncio.gather(*(run.context.store.set("from", "copy") for run in there))
                await asyncio.gather(*(run.context.send_event(("Note", {"n": 1})) for run in there))
                assert [await run.context.store.get("from") for run in there] == ["copy"] * 4
                started = await other.start_run("chat")
                assert {copy.owner_of(run.run_id) for run in (*runs, started)} == {c.address}
                assert [await run.context.store.get("from") for run in runs] == ["original"] * 4
                assert [await run.context.store.get("count") for run in runs] == [0] * 4
                assert database.sql("SELECT count(*) FROM runs") == "4"
                assert {database.owner_of(run.run_id) for run in runs} == {a.address}
                assert "is dead" not in a.log + b.log
        finally:
            c.kill()
            copy.close()
