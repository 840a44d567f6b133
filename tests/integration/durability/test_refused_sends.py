"""Sends and cancels of a conversation whose commit fails: the client repeats them, and each takes effect once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.durability.flows import Flow, ask
from tests.integration.durability.support import asked, failing, life, result
from tests.integration.rpc_serving import Rpc

from stepwire.client import Client, RunStatus, SendResult, SyncClient
from stepwire.server.store import StoreUnavailableError

DOWN = StoreUnavailableError("the disk is gone")


@pytest.fixture(params=["aio", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def answered(kind: str, rpc: Rpc, run_id: str) -> tuple[SendResult, SendResult]:
    """Send a note and the answer in a conversation; return their results at the end of the run."""
    note, answer = ("Note", {"text": "x"}), ("Answer", {"n": 1})
    if kind == "aio":
        async with Client(rpc.server.address) as client, client.run(run_id).converse() as talk:
            first = await talk.send(note)  # an answer already on its way could overtake it, and end the run
            second = talk.send(answer)
            async for _ in talk:
                pass
            return first, await second

    def blocking() -> tuple[SendResult, SendResult]:
        with SyncClient(rpc.server.address) as client, client.run(run_id).converse() as talk:
            first = talk.send(note).result(60)
            second = talk.send(answer)
            for _ in talk:
                pass
            return first, second.result(60)

    return await asyncio.to_thread(blocking)


@pytest.mark.parametrize("after", [False, True], ids=["nothing was kept", "it was durable all the same"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_send_of_a_conversation_whose_commit_fails_is_repeated(
    tmp_path: Path, kind: str, after: bool, times: int
) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        with failing(rpc.store, DOWN, run_id=run_id, after=after, times=times) as failed:
            first, second = await answered(kind, rpc, run_id)
        assert failed
        assert (second.delivered, result(await rpc.ended(run_id))) == (1, 1)
        assert first.sequence <= second.sequence
        assert [entry.type for entry in await rpc.logged(run_id)].count("Answer") == 1


async def test_a_cancel_of_a_conversation_whose_commit_fails_is_repeated(tmp_path: Path, kind: str) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)

        def blocking() -> RunStatus | None:
            with SyncClient(rpc.server.address) as client, client.run(run_id).converse() as talk:
                talk.cancel("why")
                for _ in talk:
                    pass
                return talk.outcome.status if talk.outcome else None

        with failing(rpc.store, DOWN, run_id=run_id, times=1) as failed:
            if kind == "sync":
                status = await asyncio.to_thread(blocking)
            else:
                async with Client(rpc.server.address) as client, client.run(run_id).converse() as talk:
                    talk.cancel("why")
                    async for _ in talk:
                        pass
                    status = talk.outcome.status if talk.outcome else None
        assert failed
        assert status is RunStatus.CANCELLED
