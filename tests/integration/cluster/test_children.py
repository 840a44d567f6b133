"""Children at other replicas: started there, told from there, answered and cancelled there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
from tests.integration.cluster.support import Database, alive
from tests.postgres import PostgresServer
from tests.serving import ServerProcess

from stepwire.client import Client, DeliveryStatus, RunCancelledError, RunInfo, RunStatus

pytestmark = pytest.mark.slow

_FLOWS = "tests.integration.cluster.family_flows"
_numbers = itertools.count()


class Pair(NamedTuple):
    """A replica that serves the parents, and one that serves the children."""

    above: ServerProcess
    below: ServerProcess


@pytest.fixture
def pair(postgres: PostgresServer) -> Iterator[Pair]:
    database = Database(postgres, f"families_{next(_numbers)}").create()
    args = ["--grace", "1s", "--lease", "1s"]
    above = ServerProcess(database.dsn, [f"{_FLOWS}:Above=above", f"{_FLOWS}:Passing=passing"], args=args)
    below = ServerProcess(database.dsn, [f"{_FLOWS}:Below=below"], args=args)
    with ExitStack() as stack:
        stack.callback(database.close)
        for each in (above, below):
            stack.callback(each.kill)
            each.start()
        alive(database, 2)
        yield Pair(above, below)


async def asking(client: Client, run_id: str) -> RunInfo:
    """Wait until a child of a run asks; return the child."""
    async with asyncio.timeout(60):
        while True:
            async for child in client.list_runs(parent=run_id):
                if child.pending_waiters:
                    return child
            await asyncio.sleep(0.02)


async def waiting(client: Client, run_id: str) -> RunInfo:
    """Wait until a run waits for an answer to a question of its own."""
    async with asyncio.timeout(60):
        while True:
            info = await client.get_run(run_id)
            if info.status is RunStatus.WAITING and any(not each.run_id for each in info.pending_waiters):
                return info
            await asyncio.sleep(0.02)


async def ended(client: Client, run_id: str) -> Any:
    """Wait for the end of a run; return its result."""
    async with asyncio.timeout(60):
        return await client.run(run_id).result()


async def test_a_child_runs_where_its_workflow_is_served(pair: Pair) -> None:
    async with Client(pair.above.address) as above, Client(pair.below.address) as below:
        run = await above.start_run("above", word="far")
        child = await asking(below, run.run_id)
        info = await above.get_run(run.run_id)
        assert [(each.run_id, each.event_type) for each in info.pending_waiters] == [(child.run_id, "Reply")]
        await run.context.send_event(("Reply", {"word": "near"}))
        assert await ended(above, run.run_id) == ["far", "near"]
        failing = await above.start_run("above", word="fail")
        assert await ended(above, failing.run_id) == "StepError: Error in step 'ask': no such word"


async def test_a_step_that_reads_the_stream_of_a_child_waits_while_a_person_is_asked(pair: Pair) -> None:
    async with Client(pair.above.address) as above:
        run = await above.start_run("passing", word="far", timeout=3600)
        for killed in (False, True):
            if killed:
                pair.above.kill()
                pair.above.start()
            info = await waiting(above, run.run_id)
            assert info.timeout_at is None, "its clock stands still"
            (delivery,) = [each for each in info.active_deliveries if not each.run_id]
            assert (delivery.step, delivery.status, delivery.attempt) == ("go", DeliveryStatus.PARKED, 1)
        (question,) = [each for each in info.pending_waiters if not each.run_id]
        assert question.event_type == "Reply"
        await run.context.send_event(("Reply", {"word": "near"}))
        assert await ended(above, run.run_id) == ["far", "near"]


async def test_an_end_is_told_though_the_parents_replica_was_killed(pair: Pair) -> None:
    async with Client(pair.above.address) as above, Client(pair.below.address) as below:
        run = await above.start_run("above", word="far")
        child = await asking(below, run.run_id)
        pair.above.kill()
        await below.run(child.run_id).context.send_event(("Reply", {"word": "near"}))
        assert await ended(below, child.run_id) == ["far", "near"]
        pair.above.start()
        assert await ended(above, run.run_id) == ["far", "near"]
        assert len([each async for each in above.list_runs(parent=run.run_id)]) == 1


async def test_an_end_is_told_though_the_childs_replica_was_killed(pair: Pair) -> None:
    async with Client(pair.above.address) as above, Client(pair.below.address) as below:
        run = await above.start_run("above", word="far")
        child = await asking(below, run.run_id)
        pair.below.kill()
        pair.below.start()
        await below.run(child.run_id).context.send_event(("Reply", {"word": "near"}))
        assert await ended(above, run.run_id) == ["far", "near"]


async def test_what_a_step_sends_comes_to_a_child_elsewhere(pair: Pair) -> None:
    async with Client(pair.above.address) as above, Client(pair.below.address) as below:
        run = await above.start_run("passing", word="far")
        child = await asking(below, run.run_id)
        async with asyncio.timeout(60):
            while not [each for each in (await run.info()).pending_waiters if not each.run_id]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        pair.above.kill()
        pair.above.start()
        await run.context.send_event(("Reply", {"word": "near"}))
        assert await ended(above, run.run_id) == ["far", "near"]
        entries = [entry async for entry in below.run(child.run_id).events(internal=True)]
        assert [entry.type for entry in entries].count("Reply") == 1


async def test_a_child_elsewhere_is_cancelled_with_its_parent(pair: Pair) -> None:
    async with Client(pair.above.address) as above, Client(pair.below.address) as below:
        run = await above.start_run("above", word="far")
        child = await asking(below, run.run_id)
        await run.cancel()
        with pytest.raises(RunCancelledError):
            await ended(below, child.run_id)
