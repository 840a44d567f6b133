"""Clients of other languages with several addresses: hints at owners, credentials, the death of a replica.

Only clients that were built (`make conformance`) take part.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from examples.approval import Approval
from tests.integration.fake_replicas import FakeReplica, replicas
from tests.integration.h2_proxy import H2Proxy
from tests.integration.rpc_serving import registry_of, serving
from tests.system.conformance.clients import Client, clients, environment
from tests.system.conformance.test_reconnect import built, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CALLS = 4


async def walk(client: Client, found: list[FakeReplica]) -> None:
    addresses = ",".join(replica.address for replica in found)
    process = await asyncio.create_subprocess_exec(
        *client.walk, addresses, "r", str(CALLS), cwd=client.folder, env=environment(), stdin=asyncio.subprocess.DEVNULL
    )
    try:
        assert await process.wait() == 0, client.name
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def walkers() -> list[Client]:
    names = {client.name for client in built()}
    found = [client for client in clients() if client.walk and client.name in names]
    if not found:
        pytest.skip("no client was built: make conformance")
    return found


async def test_calls_follow_the_hint_to_an_address_that_was_given() -> None:
    for client in walkers():
        async with replicas(3) as found:
            found[0].owner = found[2].address
            await walk(client, found)
            assert [len(replica.calls) for replica in found] == [1, 0, CALLS - 1], client.name
            assert set(found[2].calls) == {"Bearer secret"}, client.name


async def test_no_credential_goes_to_an_address_that_a_server_named() -> None:
    for client in walkers():
        async with replicas(3) as found:
            found[0].owner = found[1].owner = found[2].address
            await walk(client, found[:2])
            assert [len(replica.calls) for replica in found] == [CALLS, 0, 0], client.name


def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()


async def survive(client: Client, target: str) -> None:
    """Run an example through two proxies; the first one dies while the question is open."""
    async with H2Proxy(target) as second, AsyncExitStack() as stack:
        first = H2Proxy(target)
        await first.__aenter__()
        process = await asyncio.create_subprocess_exec(
            *client.example,
            f"{first.address},{second.address}",
            cwd=client.folder,
            env=environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stack.callback(_end, process)
        try:
            assert process.stdout is not None
            out = await process.stdout.readuntil(b"[y/n]")
        finally:
            await first.__aexit__()
        rest, err = await process.communicate(b"y\n")
        said = f"{client.name}:\n{(out + rest).decode()}\n{err.decode()}"
        assert process.returncode == 0, said
        text = (out + rest).decode()
        assert text.count(" ApprovalQuestion ") == text.count(" StopEvent ") == 1, said
        assert second.calls, said


async def test_the_clients_go_on_at_another_address_when_one_dies() -> None:
    examples = walkers()
    async with serving(registry_of(approval=Approval)) as rpc:
        await asyncio.gather(*(survive(client, rpc.server.address) for client in examples))


async def pass_over(client: Client, target: str) -> None:
    """Run an example through two proxies, the first of which cuts every stream."""
    async with H2Proxy(target) as first, H2Proxy(target) as second:
        for method in ("StreamEvents", "Converse"):
            first.cut_next(method, *["tcp"] * 20)
        async with asyncio.timeout(60):
            out, err = await run(client, f"{first.address},{second.address}")
        said = f"{client.name}:\n{out}\n{err}"
        assert out.count(" ApprovalQuestion ") == out.count(" StopEvent ") == 1, said
        assert out.strip().splitlines()[-1].partition(" ")[0].endswith("COMPLETED:"), said


async def test_the_examples_pass_an_address_over_that_cuts_their_streams() -> None:
    examples = built()
    if not examples:
        pytest.skip("no client was built: make conformance")
    async with serving(registry_of(approval=Approval)) as rpc:
        await asyncio.gather(*(pass_over(client, rpc.server.address) for client in examples))
