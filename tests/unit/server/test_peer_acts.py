"""What one replica has another one do: what came of it, and what kept it from being done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from tests.unit.server.others import Others

from stepwire.server.rpc.peers.acting import Actor, add_act
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.links import Links, LinkSecurity
from stepwire.server.runs.errors import (
    DrainingError,
    InvalidError,
    LimitError,
    PeerRefusedError,
    PeerSilentError,
    RunElsewhereError,
    RunsError,
    StoreDownError,
)
from stepwire.server.telemetry.metrics import Metrics

KEY = b"a key"
ME = 7


class Replica:
    """Another replica, and what this one needs to have it do something."""

    def __init__(self, address: str, actor: Actor, others: Others) -> None:
        self.address = address
        self.actor = actor
        self.others = others

    async def act(self, what: str, **given: Any) -> Any:
        return await self.actor.act(self.address, what, given)


async def with_replica(do: Any, use: Callable[[Replica], Awaitable[Any]], *, key: bytes = KEY) -> Any:
    """Use a replica that can `do` one thing."""
    server = grpc.aio.server()
    add_act(server, lambda what: do if what == "do" else None, HopSigner(KEY, me=lambda: ME), Metrics())  # type: ignore[arg-type]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    others = Others()
    others.alive = [_Peer(address)]
    links = Links(others, LinkSecurity())
    try:
        return await use(Replica(address, Actor(links, HopSigner(key)), others))
    finally:
        await links.close()
        await server.stop(None)


class _Peer:
    def __init__(self, address: str) -> None:
        self.address = address


async def test_another_replica_than_the_one_that_is_meant_does_nothing() -> None:
    done: list[int] = []

    async def do(n: int) -> None:
        done.append(n)

    async def use(replica: Replica) -> None:
        await replica.actor.act(replica.address, "do", {"n": 1}, ME)
        await replica.actor.act(replica.address, "do", {"n": 2})
        with pytest.raises(PeerSilentError):
            await replica.actor.act(replica.address, "do", {"n": 3}, ME + 1)

    await with_replica(do, use)
    assert done == [1, 2]


async def test_what_came_of_it_is_returned() -> None:
    async def do(n: int) -> list[int]:
        return [n, n + 1]

    assert await with_replica(do, lambda replica: replica.act("do", n=1)) == [1, 2]


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (RunElsewhereError("there:1"), RunElsewhereError, ("address", "there:1")),
        (DrainingError("stopping"), StoreDownError, None),
        (StoreDownError("down"), StoreDownError, None),
        (LimitError("full", retry_after=2.5), LimitError, ("retry_after", 2.5)),
        (LimitError("too many", limit="runs"), PeerRefusedError, ("code_reason", "LIMIT_EXCEEDED")),
        (InvalidError("INVALID_INPUT", "No"), PeerRefusedError, ("code_reason", "INVALID_INPUT")),
        (KeyError("secret"), PeerRefusedError, ("code_reason", "INTERNAL")),
    ],
)
async def test_what_kept_it_from_being_done_is_told_apart(
    error: Exception, kind: type[RunsError], says: tuple[str, Any] | None
) -> None:
    async def do() -> None:
        raise error

    with pytest.raises(kind) as raised:
        await with_replica(do, lambda replica: replica.act("do"))
    assert type(raised.value) is kind
    assert "secret" not in str(raised.value)
    if says is not None:
        assert getattr(raised.value, says[0]) == says[1]


async def test_what_the_other_does_not_know_may_be_done_later() -> None:
    with pytest.raises(StoreDownError, match="does not know how to leap"):
        await with_replica(None, lambda replica: replica.act("leap"))


async def test_a_forged_signature_is_refused() -> None:
    async def do() -> None:
        raise AssertionError

    with pytest.raises(PeerRefusedError, match="for replicas"):
        await with_replica(do, lambda replica: replica.act("do"), key=b"another")


async def test_a_replica_that_is_taken_for_dead_is_waited_for_no_longer() -> None:
    begun = asyncio.Event()

    async def do() -> None:
        begun.set()
        await asyncio.sleep(60.0)

    async def use(replica: Replica) -> None:
        acting = asyncio.create_task(replica.act("do"))
        await begun.wait()
        replica.others.alive = []
        for listener in replica.others.listeners:
            listener()
        with pytest.raises(StoreDownError, match="does not answer"):
            await acting

    await asyncio.wait_for(with_replica(do, use), 20.0)


async def test_a_cancelled_caller_is_cancelled() -> None:
    begun = asyncio.Event()

    async def do() -> None:
        begun.set()
        await asyncio.sleep(60.0)

    async def use(replica: Replica) -> None:
        acting = asyncio.create_task(replica.act("do"))
        await begun.wait()
        acting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acting

    await asyncio.wait_for(with_replica(do, use), 20.0)


async def test_nobody_there_may_be_there_later() -> None:
    others = Others()
    links = Links(others, LinkSecurity())
    try:
        with pytest.raises(StoreDownError):
            await Actor(links, HopSigner(KEY)).act("127.0.0.1:1", "do", {})
    finally:
        await links.close()
