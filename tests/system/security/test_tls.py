"""TLS: certificates that change while the server runs, and clients that show theirs."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.system.security.support import METHODS, Keys, call, channel_to, frames, requests_for, serving

from stepwire.cli._hints import hint
from stepwire.client import Client, StepwireError, TlsConfig
from stepwire.server.app import Server
from stepwire.server.config import Settings
from stepwire.server.config_errors import ConfigError
from stepwire.server.doctor.network import tls
from stepwire.server.rpc import Certificates

LISTED = frames(requests_for("")["ListWorkflows"])


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._serials: Iterator[int] = iter(range(100, 200))
        self.cert = folder / f"{name}.pem"
        self.cert.write_bytes(self._signed(self._name, self._key, ca=True))

    def issue(
        self, name: str, files: str = "", dns: str = "stepwire.test", days: tuple[float, float] = (-0.004, 30.0)
    ) -> tuple[Path, Path]:
        """Make a certificate and its key; it is valid from the first of these days from now to the second."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert_path, key_path = self.folder / f"{files or name}.crt", self.folder / f"{files or name}.key"
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        cert_path.write_bytes(self._signed(subject, key, dns=dns, days=days))
        return cert_path, key_path

    def _signed(
        self,
        subject: x509.Name,
        key: Any,
        *,
        ca: bool = False,
        dns: str = "",
        days: tuple[float, float] = (-0.004, 30.0),
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(next(self._serials))
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if dns:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trusting(authority: Authority, pair: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
    cert, key = (pair[0].read_bytes(), pair[1].read_bytes()) if pair else (None, None)
    return grpc.ssl_channel_credentials(authority.cert.read_bytes(), key, cert)


async def shown_serial(server: Server) -> int:
    """Return the serial number of the certificate that a new connection sees."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(found).serial_number


async def test_a_renewed_certificate_serves_new_connections_without_a_restart(
    authority: Authority, caplog: pytest.LogCaptureFixture
):
    cert, key = authority.issue("server")
    async with serving(tls_cert=cert, tls_key=key) as server, channel_to(server, trusting(authority)) as old:
        assert (await call(old, METHODS["ListWorkflows"], LISTED)).code is grpc.StatusCode.OK
        first = await shown_serial(server)
        good = key.read_bytes()
        # A renewal that is half done is not used.
        key.write_bytes(b"nonsense")
        assert await shown_serial(server) == first
        assert "are not used" in caplog.text
        key.write_bytes(good)
        authority.issue("server")
        second = await shown_serial(server)
        assert second != first
        async with channel_to(server, trusting(authority)) as new:
            assert (await call(new, METHODS["ListWorkflows"], LISTED)).code is grpc.StatusCode.OK
        # The connection that was there is not disturbed.
        assert (await call(old, METHODS["ListWorkflows"], LISTED)).code is grpc.StatusCode.OK


@asynccontextmanager
async def web_of(server: Server, authority: Authority) -> AsyncIterator[tuple[asyncio.StreamReader, Any]]:
    """Connect to the web of a server, as a browser that knows the authority does."""
    assert server.web_address is not None
    context = ssl.create_default_context(cafile=str(authority.cert))
    host, _, port = server.web_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="stepwire.test")
    try:
        yield reader, writer
    finally:
        writer.close()


def serial(writer: Any) -> int:
    return x509.load_der_x509_certificate(
        writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    ).serial_number


async def asked(link: tuple[asyncio.StreamReader, Any], headers: str = "") -> bytes:
    """Make a call over a connection that is kept; return the line of its status."""
    reader, writer = link
    writer.write(
        b"POST /stepwire.v1.WorkflowService/ListWorkflows HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: 2\r\n" + headers.encode() + b"\r\n{}"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if length := head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]:
        await reader.readexactly(int(length))
    else:
        await reader.readuntil(b"0\r\n\r\n")
    return head.partition(b"\r\n")[0]


async def test_a_renewed_certificate_serves_new_connections_to_the_web(
    authority: Authority, caplog: pytest.LogCaptureFixture
):
    cert, key = authority.issue("server")
    async with serving(tls_cert=cert, tls_key=key, web_address="127.0.0.1:0") as server, AsyncExitStack() as stack:

        async def connect() -> tuple[asyncio.StreamReader, Any]:
            return await stack.enter_async_context(web_of(server, authority))

        old = await connect()
        assert b" 200 " in await asked(old)
        first, good = serial(old[1]), key.read_bytes()
        # Halves of a renewal are not used.
        for half in (b"nonsense", authority.issue("stranger")[1].read_bytes()):
            key.write_bytes(half)
            assert serial((await connect())[1]) == first
            assert "are not used" in caplog.text
            caplog.clear()
        key.write_bytes(good)
        assert serial((await connect())[1]) == first
        authority.issue("server")
        new = await connect()
        assert serial(new[1]) != first
        assert b" 200 " in await asked(new)
        # The connection that was there is not disturbed.
        assert b" 200 " in await asked(old)


async def test_the_web_needs_tls_and_a_credential_where_grpc_does(authority: Authority, tmp_path: Path):
    cert, key = authority.issue("server")
    keys = Keys(tmp_path / "access.toml")
    ((_, credential),) = keys.add("ann", ["read"])
    for settings in ({}, {"tls_cert": cert, "tls_key": key}, {"api_keys": keys.path}):
        with pytest.raises(ConfigError, match="web_address"):
            Settings.load(None, web_address="0.0.0.0:0", **settings)
    async with serving(tls_cert=cert, tls_key=key, api_keys=keys.path, web_address="127.0.0.1:0") as server:
        async with web_of(server, authority) as link:
            assert b" 401 " in await asked(link)
            assert b" 200 " in await asked(link, f"authorization: {credential}\r\n")
        assert server.web_address is not None
        host, _, port = server.web_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert await reader.read() == b""  # plain text gets nothing
        writer.close()


async def test_plain_text_gets_nothing_from_a_tls_port(authority: Authority):
    cert, key = authority.issue("server")
    async with serving(tls_cert=cert, tls_key=key) as server, channel_to(server) as plain:
        answer = await call(plain, METHODS["ListWorkflows"], LISTED, timeout=2)
        assert answer.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_the_command_line_says_what_is_wrong_with_tls(authority: Authority, tmp_path: Path):
    cert, key = authority.issue("server")
    access = tmp_path / "access.toml"
    access.write_text("")
    stranger = Authority(tmp_path, "other-ca")

    async def told(server: Server, tls: TlsConfig | None) -> str | None:
        async with Client(f"127.0.0.1:{server.port}", timeout=2, tls=tls) as client:
            with pytest.raises(StepwireError) as caught:
                [_ async for _ in client.workflows()]
        return hint(caught.value, "HERE", tls=tls is not None, token=False)

    async with serving(tls_cert=cert, tls_key=key, api_keys=access) as server, serving() as plain:
        found = await asyncio.gather(
            told(server, None),
            told(server, TlsConfig(ca=stranger.cert, server_name="stepwire.test")),
            told(server, TlsConfig(ca=authority.cert)),
            told(plain, TlsConfig(ca=authority.cert)),
            told(server, TlsConfig(ca=authority.cert, server_name="stepwire.test")),
        )
    assert list(found) == [
        "HERE closed the connection: if it speaks TLS, set STEPWIRE_CA to the file with its roots",
        "the certificate of HERE is not trusted: set STEPWIRE_CA to the file with its roots",
        "the certificate of HERE is for another name: call it by that name, or set STEPWIRE_SERVER_NAME",
        "HERE does not speak TLS: unset STEPWIRE_CA and STEPWIRE_TLS",
        "set STEPWIRE_TOKEN to an API key or a token",
    ]


async def test_clients_certificates_are_principals(authority: Authority, tmp_path: Path):
    cert, key = authority.issue("server")
    access = tmp_path / "access.toml"
    access.write_text(
        '[[certificates]]\nsubject = "orders"\nnamespace = "shop"\nscopes = ["write"]\n'
        '[[certificates]]\nsubject = "viewer.internal"\nname = "viewer"\nscopes = ["read"]\n'
    )
    stranger = Authority(tmp_path, "other-ca")
    settings = {"tls_cert": cert, "tls_key": key, "client_ca": authority.cert, "api_keys": access}
    start = frames(requests_for("")["StartRun"])
    async with serving(**settings) as server:
        for pair, read, write in (
            (authority.issue("orders"), "OK", "OK"),
            (authority.issue("someone", dns="viewer.internal"), "OK", "PERMISSION_DENIED"),
            (authority.issue("unlisted"), "UNAUTHENTICATED", "UNAUTHENTICATED"),
            (stranger.issue("orders", "forged"), "UNAVAILABLE", "UNAVAILABLE"),
            (None, "UNAVAILABLE", "UNAVAILABLE"),
        ):
            async with channel_to(server, trusting(authority, pair)) as channel:
                assert (await call(channel, METHODS["ListWorkflows"], LISTED, timeout=3)).code.name == read, pair
                assert (await call(channel, METHODS["StartRun"], start, timeout=3)).code.name == write, pair


async def test_a_client_ca_alone_names_principals_by_their_subject(authority: Authority):
    cert, key = authority.issue("server")
    async with serving(tls_cert=cert, tls_key=key, client_ca=authority.cert) as server:
        pair = authority.issue("anyone")
        tls = TlsConfig(ca=authority.cert, cert=pair[0], key=pair[1], server_name="stepwire.test")
        async with Client(server.address, tls=tls) as client:
            run = await client.start_run("asking", text="t")
            assert (await run.info()).run_id == run.run_id


async def test_other_roots_for_clients_hold_without_a_restart(authority: Authority):
    cert, key = authority.issue("server")
    other = Authority(authority.folder, "other")
    roots = authority.folder / "roots.pem"
    roots.write_bytes(authority.cert.read_bytes())
    mine, theirs = authority.issue("mine"), other.issue("theirs")
    async with serving(tls_cert=cert, tls_key=key, client_ca=roots) as server:

        async def code(pair: tuple[Path, Path]) -> grpc.StatusCode:
            async with channel_to(server, trusting(authority, pair)) as channel:
                return (await call(channel, METHODS["ListWorkflows"], LISTED)).code

        assert [await code(mine), await code(theirs)] == [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE]
        roots.write_bytes(other.cert.read_bytes())
        assert [await code(mine), await code(theirs)] == [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK]


async def test_our_client_with_tls_and_a_key(authority: Authority, tmp_path: Path):
    cert, key = authority.issue("server")
    keys = Keys(tmp_path / "access.toml")
    bearer = keys.add("ann", ["write"])[0][1].removeprefix("Bearer ")
    async with serving(tls_cert=cert, tls_key=key, api_keys=keys.path) as server:
        tls = TlsConfig(ca=authority.cert, server_name="stepwire.test")
        async with Client(server.address, tls=tls, token=bearer) as client:
            run = await client.start_run("asking", text="t")
            async with run.converse() as talk:
                assert (await anext(talk)).text == "t"


@pytest.mark.parametrize("what", ["key of another", "nonsense", "encrypted key", "bad roots", "bad access", "bad jwks"])
async def test_files_that_cannot_be_used_stop_the_start(authority: Authority, tmp_path: Path, what: str):
    cert, key = authority.issue("server")
    settings: dict[str, Any] = {"tls_cert": cert, "tls_key": key}
    bad = tmp_path / "bad"
    bad.write_text("hunter2 [")
    if what == "key of another":
        settings["tls_key"] = authority.issue("other")[1]
        named = "tls_key"
    elif what == "nonsense":
        settings["tls_cert"] = bad
        named = "tls_cert"
    elif what == "encrypted key":
        encrypted = serialization.BestAvailableEncryption(b"p")
        bad.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted
            )
        )
        settings["tls_key"] = bad
        named = "tls_key"
    elif what == "bad roots":
        settings["client_ca"] = bad
        named = "client_ca"
    elif what == "bad access":
        settings["api_keys"] = bad
        named = str(bad)
    else:
        settings.update(jwks=bad, jwt_audience="a")
        named = str(bad)
    with pytest.raises(ConfigError) as caught:
        async with serving(**settings):
            pass
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_listening_openly_says_so_in_the_log(caplog: pytest.LogCaptureFixture):
    async with serving(address="0.0.0.0:0", insecure=True) as server:
        assert "listens beyond loopback without TLS" in caplog.text
        assert "listens beyond loopback without authentication" in caplog.text
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        info = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        assert await info(iter([])).code() is grpc.StatusCode.UNIMPLEMENTED
        await channel.close()


@pytest.mark.parametrize(
    ("days", "level", "told"),
    [
        ((-2.0, -1.0), "ERROR", "has expired, on 2"),
        ((1.0, 30.0), "ERROR", "is not valid before 2"),
        ((-1.0, 3.0), "WARNING", "expires soon, on 2"),
        ((-1.0, 30.0), "", ""),
    ],
)
async def test_a_certificate_that_clients_refuse_is_told_at_the_start_and_by_doctor(
    authority: Authority, caplog: pytest.LogCaptureFixture, days: tuple[float, float], level: str, told: str
):
    cert, key = authority.issue("server", days=days)
    async with serving(tls_cert=cert, tls_key=key):
        found = [record for record in caplog.records if record.name == "stepwire.tls"]
    assert [record.levelname for record in found] == ([level] if level else [])
    assert all(told in record.getMessage() and str(cert) in record.getMessage() for record in found)
    (check, *_) = tls(Settings(tls_cert=cert, tls_key=key))
    assert check.status == {"ERROR": "problem", "WARNING": "warning", "": "ok"}[level]
    assert told in check.message


async def test_a_certificate_that_expires_while_the_server_runs_is_told(
    authority: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    cert, key = authority.issue("server", days=(-1.0, 30.0))
    certificates = Certificates(cert, key)
    certificates.credentials()
    assert caplog.records == []
    later = time.time() + 31 * 86400
    monkeypatch.setattr("stepwire.server.rpc.tls.time.time", lambda: later)
    for _ in range(3):  # before each handshake
        certificates._fetch()
    assert [record.getMessage().partition(str(cert))[2][:12] for record in caplog.records] == [" has expired"]
