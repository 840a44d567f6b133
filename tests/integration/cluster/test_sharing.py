"""What replicas share: versions of workflows side by side, and places of `num_concurrent_runs`."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from functools import partial

import pytest
from tests.integration.cluster.conftest import Start, Trio
from tests.integration.cluster.support import Database, until

from stepwire.client import Client, ResourceExhaustedError, Run, RunStatus

ONE = ["tests.integration.cluster.flows_one:Approval=approval"]
TWO = ["tests.integration.cluster.flows_two:Approval=approval"]


@pytest.mark.slow
async def test_no_version_blocks_what_another_one_that_is_up_can_go_on_with(start: Start) -> None:
    idle = ["--idle-after", "50ms"]
    (a,), database = start(1, idle, ONE)
    async with Client(a.address) as one:
        old = [await one.start_run("approval") for _ in range(4)]
        await until(lambda: database.sql("SELECT count(*) FROM runs WHERE owner IS NOT NULL") == "0")
        (b,), _ = start(1, idle, TWO)
        async with Client(b.address) as two:
            new = [await two.start_run("approval") for _ in range(4)]
            await until(lambda: database.sql("SELECT count(*) FROM runs WHERE owner IS NOT NULL") == "0")
            # Each of them by the replica that does not serve its version.
            await two.run(old[0].run_id).context.send_event(("Answer", {"text": "a"}))
            await one.run(new[0].run_id).context.send_event(("Answer", {"text": "b"}))
            assert await two.run(old[0].run_id).result() == "one a"
            assert await one.run(new[0].run_id).result() == "two b"
            assert database.sql("SELECT count(*) FROM runs WHERE status = 'BLOCKED'") == "0"
            # States are read by the code that wrote them, before the end and after it.
            for client, runs in ((two, old), (one, new)):
                for run in runs[:2]:
                    assert await client.run(run.run_id).context.store.get_state() == {}
                    assert await client.run(run.run_id).context.to_dict()
            # A dead replica's runs stay for one of its version.
            a.kill()
            await until(lambda: database.sql("SELECT count(*) FROM replicas") == "1")
            await two.run(new[1].run_id).context.send_event(("Answer", {"text": "c"}))
            assert await two.run(new[1].run_id).result() == "two c"
            a.start()
            assert {(await one.run(run.run_id).info()).status for run in old[1:]} == {RunStatus.WAITING}
            await two.run(old[1].run_id).context.send_event(("Answer", {"text": "d"}))
            assert await two.run(old[1].run_id).result() == "one d"
    assert "blocked" not in a.log + b.log


@pytest.mark.slow
async def test_runs_that_no_code_fits_any_more_are_blocked_once_the_code_that_wrote_them_is_gone(start: Start) -> None:
    idle = ["--idle-after", "50ms", "--admin-address", "127.0.0.1:0"]
    (a,), database = start(1, idle, ONE)
    async with Client(a.address) as one:
        for _ in range(3):
            await one.start_run("approval")
        await until(lambda: database.sql("SELECT count(*) FROM runs WHERE owner IS NOT NULL") == "0")
        (b,), _ = start(1, idle, TWO)
        told = b.hear(r".*3 runs of approval of other code would not go on here: .*wait.*")
        assert "Replicas that serve that code go on with them" in told
        assert "all would go on" not in b.log
        later = await one.start_run("approval")
        await until(lambda: database.sql("SELECT count(*) FROM runs WHERE owner IS NOT NULL") == "0")
        admin = b.hear(r"admin port on (\S+)")
        assert await asyncio.to_thread(ready, admin) == "ok"
        # One that is back soon goes on.
        await asyncio.to_thread(a.restart)
    async with Client(a.address) as one:
        await one.run(later.run_id).context.send_event(("Answer", {"text": "a"}))
        assert await one.run(later.run_id).result() == "one a"
    assert database.sql("SELECT count(*) FROM runs WHERE status = 'BLOCKED'") == "0"
    await asyncio.to_thread(a.stop)
    await until(lambda: database.sql("SELECT count(*) FROM runs WHERE status = 'BLOCKED'") == "3", 90)
    b.hear("3 runs of approval are blocked: ")
    await until(lambda: ready(admin) == "ok\nblocked: 3 runs of approval", 30)
    await asyncio.to_thread(a.start)
    await until(lambda: database.sql("SELECT count(*) FROM runs WHERE status = 'WAITING'") == "3")


def ready(admin: str) -> str:
    """Return what a server says of itself."""
    with urllib.request.urlopen(f"http://{admin}/readyz", timeout=10) as answer:
        text: str = answer.read().decode()
    return text.strip()


def held(database: Database) -> list[str]:
    """Return the runs of `limited` that have a place, in the order of creation."""
    found = database.sql(
        "SELECT run_id FROM runs WHERE workflow = 'limited' AND status IN ('RUNNING', 'WAITING') ORDER BY created_at"
    )
    return found.splitlines()


def _holds(database: Database, runs: list[str]) -> bool:
    return held(database) == runs


@pytest.mark.slow
async def test_places_are_never_exceeded_and_go_in_order_over_replicas_and_their_death(trio: Trio) -> None:
    database = trio.database
    clients = [Client(each.address, timeout=60) for each in trio.replicas]
    try:
        runs = [(await clients[number % 3].start_run("limited")).run_id for number in range(9)]
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(await asyncio.to_thread(held, database)))
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        for number in range(7):
            await until(partial(_holds, database, runs[number : number + 2]))
            if number == 3:
                trio.c.kill()  # it owns a third of the runs, at work and queued
            await clients[number % 2].run(runs[number]).context.send_event(("Answer", {"text": str(number)}))
            assert await clients[1].run(runs[number]).result(timeout=60) == str(number)
        await until(lambda: held(database) == runs[7:])
        queued = await clients[0].start_run("limited")
        assert (await queued.info()).status is RunStatus.QUEUED
        await queued.cancel()
        for number in (7, 8):
            await clients[0].run(runs[number]).cancel()
        await until(lambda: held(database) == [])
        watching.cancel()
        assert most == 2
    finally:
        for client in clients:
            await client.close()


@pytest.mark.slow
async def test_a_burst_at_all_replicas_does_not_exceed_the_unfinished_runs_of_a_caller(start: Start) -> None:
    replicas, database = start(3, ["--max-runs", "30"])
    clients = [Client(each.address, timeout=60) for each in replicas]
    try:
        starts = [clients[n % 3].start_run("ask", run_id=f"r{n}") for n in range(90)]
        done = await asyncio.gather(*starts, return_exceptions=True)
        assert Counter(getattr(each, "reason", "") for each in done) == {"": 30, "LIMIT_EXCEEDED": 60}
        assert database.sql("SELECT count(*) FROM runs") == "30"
        with pytest.raises(ResourceExhaustedError):
            await clients[0].start_run("ask")
        await next(each for each in done if isinstance(each, Run)).cancel()
        await clients[1].start_run("ask")
        with pytest.raises(ResourceExhaustedError):
            await clients[2].start_run("ask")
    finally:
        for client in clients:
            await client.close()
    assert "failed" not in "".join(each.log for each in replicas)


@pytest.mark.slow
async def test_a_workflow_that_one_replica_serves_is_there_at_all_of_them(start: Start) -> None:
    (a,), database = start(1, specs=ONE)
    (b,), _ = start(1, specs=["tests.integration.cluster.flows:Chat=chat"])
    async with Client(a.address) as one, Client(b.address) as other:
        run = await other.start_run("approval")
        assert database.owner_of(run.run_id) == a.address
        assert await run.context.store.get_state() == {}
        await run.context.send_event(("Answer", {"text": "yes"}))
        assert await run.result() == "one yes"
        chat = await one.start_run("chat")
        await chat.context.send_event(("Answer", {"text": "bye"}))
        assert await chat.result() == "bye"
