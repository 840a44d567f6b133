"""TLS over the wire, with certificates made on the spot."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from tests.unit.client.fake import FakeServer

from stepwire.client import Client, SyncClient, TlsConfig, UnavailableError
from stepwire.v1 import run_service_pb2 as runs

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for the name `stepwire.test`, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=stepwire.test", "-addext", "subjectAltName=DNS:stepwire.test"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", "req", "-x509", *curve, *subject, *files], check=True, capture_output=True)
    return cert, key


@pytest.fixture
async def secured(pems: tuple[Path, Path]) -> AsyncIterator[FakeServer]:
    cert, key = pems[0].read_bytes(), pems[1].read_bytes()
    credentials = grpc.ssl_server_credentials([(key, cert)], cert, require_client_auth=True)
    fake = FakeServer()
    await fake.start(credentials)
    fake.answers("GetRun", runs.GetRunResponse())
    yield fake
    await fake.stop()


async def test_both_sides_show_certificates(secured: FakeServer, pems: tuple[Path, Path]) -> None:
    cert, key = pems
    tls = TlsConfig(ca=cert, cert=str(cert), key=key.read_bytes(), server_name="stepwire.test")
    async with Client(secured.address, tls=tls, token="t") as client:
        await client.get_run("r1")

    def blocking() -> None:
        with SyncClient(secured.address, tls=tls) as client:
            client.get_run("r1")

    await asyncio.to_thread(blocking)
    assert secured.metadata["GetRun"][0]["authorization"] == "Bearer t"
    assert len(secured.seen["GetRun"]) == 2


async def test_a_wrong_name_or_no_certificate_is_refused(secured: FakeServer, pems: tuple[Path, Path]) -> None:
    cert, key = pems
    for tls in (
        TlsConfig(ca=cert, cert=cert, key=key, server_name="other.test"),
        TlsConfig(ca=cert, server_name="stepwire.test"),
        TlsConfig(cert=cert, key=key, server_name="stepwire.test"),
    ):
        async with Client(secured.address, tls=tls, timeout=1) as client:
            with pytest.raises(UnavailableError):
                await client.get_run("r1")
    assert secured.seen["GetRun"] == []
