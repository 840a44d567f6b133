"""Pauses and retries with several replicas: whichever is asked, all of them keep it."""

from __future__ import annotations

from tests.integration.cluster.conftest import Trio
from tests.integration.cluster.support import until

from stepwire.client import Client, RunStatus, SyncClient


async def test_a_run_is_paused_and_resumed_through_any_replica(trio: Trio) -> None:
    a, b, _ = trio.replicas
    async with Client(a.address) as one, Client(b.address) as other:
        run = await one.start_run("ask")
        await run.context.wait_for_event("Question")
        assert trio.database.owner_of(run.run_id) == a.address
        info = await other.run(run.run_id).pause("wait")
        assert info.status is RunStatus.PAUSED
        await other.run(run.run_id).context.send_event(("Answer", {"text": "yes"}))
        a.kill()
        assert (await other.run(run.run_id).info()).status is RunStatus.PAUSED
        await other.run(run.run_id).resume()
        assert await other.run(run.run_id).result(timeout=60) == "yes"


async def test_a_workflow_is_paused_on_all_replicas(trio: Trio) -> None:
    a, b, _ = trio.replicas
    async with Client(a.address) as one, Client(b.address) as other:
        runs = [await client.start_run("ask") for client in (one, other)]
        for run in runs:
            await run.context.wait_for_event("Question")
        await one.pause_workflow("ask", "wait")

        def heard() -> bool:
            with SyncClient(b.address) as client:
                pause = client.workflow("ask").pause
                return pause is not None and pause.reason == "wait"

        await until(heard)
        for run in runs:
            await run.context.send_event(("Answer", {"text": "yes"}))
            info = await run.info()
            assert not info.ended
            assert info.pause is not None
            assert info.pause.workflow
        await other.resume_workflow("ask")
        for run in runs:
            assert await run.result(timeout=60) == "yes"


async def test_a_cancelled_run_is_retried_once_whichever_replica_is_asked(trio: Trio) -> None:
    replicas = trio.replicas
    async with Client(replicas[0].address) as one, Client(replicas[1].address) as other:
        run = await one.start_run("ask")
        await run.context.wait_for_event("Question")
        await other.run(run.run_id).cancel()
        first = await one.run(run.run_id).retry()
        second = await other.run(run.run_id).retry()
        assert first.run_id == second.run_id
        await second.context.send_event(("Answer", {"text": "yes"}))
        assert await first.result(timeout=60) == "yes"
        assert (await other.run(run.run_id).info()).retried_as == (first.run_id,)
