"""A call reads the record of its run once, whatever the credential: checking a scope costs no read of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.system.security.support import (
    METHODS,
    Keys,
    call,
    channel_to,
    frames,
    requests_for,
    serving,
    start_run,
    waiting,
)

from stepwire.server.app import Server
from stepwire.server.rpc.gate.method_scopes import CONVERSE, RULES
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import RunKey, RunRecord

pytestmark = pytest.mark.asyncio(loop_scope="module")

Code = grpc.StatusCode
SCOPES = {
    "unrestricted": ["admin"],
    "restricted": ["admin:asking"],
    "uneven": ["admin:asking", "answer:other"],
}
OF_A_RUN = sorted(name.rpartition("/")[2] for name, rule in RULES.items() if rule.run or name == CONVERSE)
AFTER_ITS_CLAIM = {"RetryRun": 1}
"""Reads of a run that has ended, once it is claimed: another call may have changed it."""


class World:
    """A server, callers, and how often the store was asked for the record of a run."""

    def __init__(self, server: Server, channel: grpc.aio.Channel, keys: Keys) -> None:
        assert server.runs is not None
        self.pool: RunPool = server.runs.pool
        self.channel = channel
        self.callers = {name: keys.add(name, scopes) for name, scopes in SCOPES.items()}
        self.reads: list[RunKey] = []
        get = server._store.get

        async def counted(key: RunKey) -> RunRecord | None:
            self.reads.append(key)
            return await get(key)

        server._store.get = counted  # type: ignore[method-assign]

    async def evicted_run(self) -> str:
        """Return a run that waits for an answer and is in the store only."""
        admin = self.callers["unrestricted"]
        run_id = await start_run(self.channel, metadata=admin)
        await waiting(self.channel, run_id, admin)
        run = self.pool.in_memory(RunKey("default", run_id))
        assert run is not None
        async with asyncio.timeout(60):
            while not run.release():  # noqa: ASYNC110 - seen only from here
                await asyncio.sleep(0.01)
        return run_id

    async def ended_run(self) -> str:
        """Return a run that has ended and is in the store only."""
        run_id = await self.evicted_run()
        answer = await self.ask("CancelRun", run_id, "unrestricted")
        assert answer.code is Code.OK
        self.pool.records._ended.clear()
        return run_id

    async def ask(self, method: str, run_id: str, caller: str) -> Any:
        """Call a method; of a stream read one message, which comes after every check."""
        request = requests_for(run_id)[method]
        if method == "Converse":
            request = request[:1]  # what else is sent is a call of its own
        self.reads.clear()
        return await call(self.channel, METHODS[method], frames(request), self.callers[caller], most=1)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    path: Path = tmp_path_factory.mktemp("reads") / "access.toml"
    keys = Keys(path)
    keys.write()
    async with serving(api_keys=path) as server, channel_to(server) as channel:
        found = World(server, channel, keys)
        async with asyncio.timeout(60):
            admin = found.callers["unrestricted"]
            while (await call(channel, METHODS["ListRuns"], [b""], admin)).code is not Code.OK:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield found


def of_run(world: World, run_id: str) -> int:
    return sum(key.run_id == run_id for key in world.reads)


@pytest.mark.parametrize("caller", SCOPES)
@pytest.mark.parametrize("method", OF_A_RUN)
async def test_one_read_of_a_run_that_is_not_in_memory(world: World, method: str, caller: str) -> None:
    run_id = await world.evicted_run()
    answer = await world.ask(method, run_id, caller)
    expected = {"DeleteRun": Code.FAILED_PRECONDITION, "RetryRun": Code.FAILED_PRECONDITION}
    assert answer.code in (expected.get(method, Code.OK), Code.CANCELLED), answer
    assert of_run(world, run_id) == 1


@pytest.mark.parametrize("caller", SCOPES)
@pytest.mark.parametrize("method", OF_A_RUN)
async def test_one_read_of_an_ended_run(world: World, method: str, caller: str) -> None:
    run_id = await world.ended_run()
    await world.ask(method, run_id, caller)
    assert of_run(world, run_id) == 1 + AFTER_ITS_CLAIM.get(method, 0)
