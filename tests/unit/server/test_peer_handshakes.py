"""Why replicas do not come to terms over TLS, and what a replica that reaches nobody does about it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from tests.system.security.test_tls import Authority

from stepwire.server.rpc.peers import reach
from stepwire.server.rpc.peers.handshakes import tls_fault
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.identity import Answer
from stepwire.server.rpc.peers.links import Links, LinkSecurity
from stepwire.server.rpc.peers.reach import Reach
from stepwire.server.store import Cluster, Peer, Solo


@contextlib.asynccontextmanager
async def listening(cert: Path, key: Path, client_ca: Path | None = None) -> AsyncIterator[str]:
    """Have a server with a certificate, which demands one of its clients if there is a CA for that."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    context.load_cert_chain(cert, key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"settings")
            await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    async with server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"


async def test_the_reason_is_told(tmp_path: Path) -> None:
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    cert, key = ca.issue("replica", dns="localhost")
    security = LinkSecurity(ca.cert, cert, key)
    async with listening(cert, key, ca.cert) as address:
        assert await tls_fault(address, security) is None
        assert await tls_fault(address, LinkSecurity()) is None, "without TLS"
        fault = await tls_fault(address, LinkSecurity(other.cert, cert, key))
        assert fault is not None
        assert (
            fault.reason == "its certificate is not accepted: no CA that this replica trusts has signed it (--peer-ca)"
        )
        assert not fault.expired
        stranger_cert, stranger_key = other.issue("stranger", dns="localhost")
        fault = await tls_fault(address, LinkSecurity(ca.cert, stranger_cert, stranger_key))
        assert fault is not None
        assert "not accept the certificate of this replica" in fault.reason
    async with listening(*ca.issue("elsewhere", dns="elsewhere")) as address:
        fault = await tls_fault(address, security)
        assert fault is not None
        assert "Hostname mismatch, certificate is not valid for 'localhost'" in fault.reason
    async with listening(*ca.issue("old", dns="localhost", days=(-3.0, -1.0))) as address:
        fault = await tls_fault(address, security)
        assert fault is not None
        assert (fault.reason, fault.expired) == ("its certificate is not accepted: certificate has expired", True)
    assert await tls_fault(address, security) is None, "nobody listens"


class Few(Solo):
    """So many replicas, of which this one is the first."""

    me = 1

    def __init__(self, count: int) -> None:
        self.peers = [Peer(number, f"{number}:1", {}) for number in range(2, count + 1)]


SILENT, UNVERIFIED = Answer(fault="nobody answers"), Answer(fault="not accepted", unverified=True)


@pytest.mark.parametrize(
    ("answers", "taken"),
    [
        ([SILENT], True),
        ([UNVERIFIED], False),
        ([SILENT, Answer(3)], True),
        ([UNVERIFIED, Answer(3)], True),
        ([SILENT, SILENT], False),
        ([UNVERIFIED, UNVERIFIED], False),
    ],
)
async def test_a_replica_that_is_cut_off_itself_takes_no_runs_from_others(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], taken: bool
) -> None:
    told = {f"{number}:1": answer for number, answer in enumerate(answers, 2)}

    async def ask_over(who: str, signer: HopSigner, address: str, security: LinkSecurity) -> Answer:
        return told[address]

    class Named:
        security = LinkSecurity()

        def unary(self, address: str, method: str) -> str:
            return address

    monkeypatch.setattr(reach, "ask_over", ask_over)
    monkeypatch.setattr(reach, "_PAUSE", 0.0)
    watch = Reach(cast(Cluster, Few(len(answers) + 1)), cast(Links, Named()), HopSigner(b"k" * 32), lease=0.1)
    first = await watch.why_not_take(2)
    assert first is None if taken else first == "", "it may be dead, which is known soon"
    await asyncio.sleep(0.2)
    assert (await watch.why_not_take(2) is None) == taken
    assert (watch.own_fault(2) is None) == taken
    assert await watch.why_not_take(9) is None, "it is gone"
    told["2:1"] = Answer(2)
    assert await watch.why_not_take(2) == "", "it is reached"
