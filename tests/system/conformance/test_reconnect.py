"""The example clients of all languages behind a proxy that ends their stream: the run is answered and told to its end.

Only clients that were built (`make conformance`) take part.
"""

from __future__ import annotations

import asyncio

import pytest
from examples.approval import Approval
from tests.integration.h2_proxy import H2Proxy
from tests.integration.rpc_serving import registry_of, serving
from tests.system.conformance.clients import Client, clients, environment

from stepwire.v1 import run_service_pb2 as runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KINDS = ["rst:2", "rst:11", "status:2", "status:13", "eof", "tcp", "silent"]


def built() -> list[Client]:
    found = []
    for client in clients():
        program = next((part for part in client.example if "/" in part), "")
        if program and (client.folder / program.partition(":")[0]).exists() and not client.missing():
            found.append(client)
    return found


async def run(client: Client, address: str) -> tuple[str, str]:
    """Run an example with `y` as the person's answer; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *client.example,
        address,
        cwd=client.folder,
        env=environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate(b"y\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode(), err.decode()


async def check(client: Client, target: str, kind: str) -> None:
    async with H2Proxy(target) as proxy:
        for method in ("StreamEvents", "Converse"):
            proxy.cut_next(method, kind)
        out, err = await run(client, proxy.address)
        said = f"{client.name}, {kind}:\n{out}\n{err}"
        assert err.count("connection lost") == 1, said
        assert out.count(" ApprovalQuestion ") == out.count(" StopEvent ") == 1, said
        assert out.strip().splitlines()[-1].partition(" ")[0].endswith("COMPLETED:"), said
        streams = proxy.calls.count("StreamEvents") + proxy.calls.count("Converse")
        assert streams == 2, said


@pytest.mark.parametrize("kind", KINDS)
async def test_the_examples_go_on_where_they_were(kind: str) -> None:
    examples = built()
    if not examples:
        pytest.skip("no client was built: make conformance")
    async with serving(registry_of(approval=Approval)) as rpc:
        await asyncio.gather(*(check(client, rpc.server.address, kind) for client in examples))
        # Each start counted once, though some were sent twice.
        found = await rpc.runs.ListRuns(runs.ListRunsRequest(page_size=100))
        assert len(found.runs) == len(examples)
