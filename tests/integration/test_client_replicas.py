"""The Python client with several addresses: it goes on with another, and follows hints only to those it was given."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from examples.approval import Approval
from tests.integration.fake_replicas import FakeReplica, replicas
from tests.integration.h2_proxy import H2Proxy
from tests.integration.rpc_serving import registry_of, serving

from stepwire.client import Client, SyncClient, UnavailableError, event_meta

TOKEN = "secret"


async def ask(kind: str, addresses: Any, times: int, **settings: Any) -> None:
    """Call GetRun of the run `r` some times, with the client for asyncio or for threads."""
    if kind == "aio":
        async with Client(addresses, token=TOKEN, **settings) as client:
            for _ in range(times):
                await client.get_run("r")
        return

    def blocking() -> None:
        with SyncClient(addresses, token=TOKEN, **settings) as client:
            for _ in range(times):
                client.get_run("r")

    await asyncio.to_thread(blocking)


@pytest.fixture(params=["aio", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def counts(found: list[FakeReplica]) -> list[int]:
    return [len(replica.calls) for replica in found]


async def test_a_client_stays_with_one_address(kind: str) -> None:
    async with replicas(2) as found:
        await ask(kind, [each.address for each in found], 5)
        assert counts(found) == [5, 0]


async def test_a_client_follows_the_hint_at_the_owner(kind: str) -> None:
    async with replicas(3) as found:
        found[0].owner = found[2].address
        await ask(kind, ",".join(each.address for each in found), 5)
        assert counts(found) == [1, 0, 4]
        assert set(found[2].calls) == {f"Bearer {TOKEN}"}


async def test_no_credential_goes_to_an_address_that_a_server_named(kind: str) -> None:
    async with replicas(3) as found:
        found[0].owner = found[1].owner = found[2].address
        await ask(kind, [each.address for each in found[:2]], 5)
        assert counts(found) == [5, 0, 0]


async def test_an_owner_that_fails_is_forgotten(kind: str) -> None:
    async with replicas(2) as found:
        found[0].owner = found[1].address
        found[1].down = True
        await ask(kind, [each.address for each in found], 3)
        # Each time the first one answers and names the second, which the next call tries in vain.
        assert counts(found) == [3, 2]


async def test_a_dead_address_costs_no_time(kind: str) -> None:
    async with replicas(1) as found:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            dead = f"127.0.0.1:{bound.getsockname()[1]}"
            async with asyncio.timeout(120):
                await ask(kind, [dead, found[0].address], 5, timeout=300.0)
        assert counts(found) == [5]


async def test_connect_takes_the_address_that_answers(kind: str) -> None:
    async with replicas(1) as found:
        addresses = ["127.0.0.1:1", found[0].address]
        if kind == "aio":
            async with Client(addresses) as client:
                await client.connect(10.0)
                await client.get_run("r")
        else:

            def blocking() -> None:
                with SyncClient(addresses) as client:
                    client.connect(10.0)
                    client.get_run("r")

            await asyncio.to_thread(blocking)
        assert counts(found) == [1]


async def test_connect_says_that_no_address_answers() -> None:
    async with Client("127.0.0.1:1,127.0.0.1:2") as client:
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1"):
            await client.connect(0.2)


@pytest.mark.parametrize("addresses", ["", "127.0.0.1:1,", [], ["http://127.0.0.1:1"], ["127.0.0.1:1", ""]])
def test_addresses_that_cannot_be(addresses: Any) -> None:
    for make in (Client, SyncClient):
        with pytest.raises(ValueError, match="address"):
            make(addresses)


def test_a_token_goes_unencrypted_to_none_of_several_machines() -> None:
    with pytest.raises(ValueError, match="unencrypted"):
        Client("127.0.0.1:50051,server.example:50051", token=TOKEN)


@pytest.mark.parametrize("talk", [False, True], ids=["events", "converse"])
async def test_a_stream_goes_on_at_another_address_when_one_dies(talk: bool) -> None:
    async with serving(registry_of(approval=Approval)) as rpc:
        first, second = H2Proxy(rpc.server.address), H2Proxy(rpc.server.address)
        async with second:
            await first.__aenter__()
            dead = False
            try:
                async with Client([first.address, second.address]) as client:
                    run = await client.start_run("approval", who="ada", amount=120)

                    async def die() -> None:
                        nonlocal dead
                        dead = True
                        await first.__aexit__()

                    seen = []
                    async with contextlib.AsyncExitStack() as stack:
                        conversation = await stack.enter_async_context(run.converse()) if talk else None
                        async for event in conversation or run.events():
                            seen.append(event)
                            if event.type != "ApprovalQuestion":
                                continue
                            await die()
                            answer = (
                                "ApprovalAnswer",
                                {"expense_id": event.expense_id, "verdict": "approve", "by": "ada"},
                            )
                            if conversation is not None:
                                await conversation.send(answer)
                            else:
                                await run.context.send_event(answer)
                    assert [event_meta(event).type for event in seen] == ["ApprovalQuestion", "StopEvent"]
                    assert await run.result() == "approved by ada"
                    assert second.calls
            finally:
                if not dead:
                    await first.__aexit__()
