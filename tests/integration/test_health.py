"""`stepwire health`: what probes go by is the exit code."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.system.security.test_tls import Authority
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.server.app import Server, Settings
from stepwire.server.registry import Registry


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Server]:
    server = Server(Registry(), Settings.load(None, address="127.0.0.1:0", data=":memory:", grace=0.0, **settings))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def probe(*arguments: str, code: int) -> str:
    """Return what the command wrote: to its output, or else to its errors, where advice goes too."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["health", *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert ("stepwire serve starts a server" in result.stderr) == (result.stdout.strip() == "UNREACHABLE")
    return (result.stdout or result.stderr).strip()


async def test_health_says_whether_a_server_serves():
    async with serving() as server:
        assert await probe("--server", server.address, code=0) == "SERVING"
        arguments = ("--server", server.address, "--service", "stepwire.v1.RunService", "--json")
        assert json.loads(await probe(*arguments, code=0)) == {"status": "SERVING", "service": "stepwire.v1.RunService"}
        assert await probe("--server", server.address, "--service", "nothing", code=1) == "UNKNOWN_SERVICE"
        await server._listener.set_serving(False)  # as it is while it drains
        assert await probe("--server", server.address, code=1) == "NOT_SERVING"


async def test_health_gives_up_on_a_server_that_does_not_answer():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert await probe("--server", address, "--timeout", "0.2", code=1) == "UNREACHABLE"
        silent.listen()  # takes connections and says nothing
        assert await probe("--server", address, "--timeout", "0.2", code=1) == "UNREACHABLE"


async def test_health_waits_for_a_server_that_is_starting():
    with socket.socket() as early:
        early.bind(("127.0.0.1", 0))
        early.listen()
        early.setblocking(False)
        address = f"127.0.0.1:{early.getsockname()[1]}"
        probing = asyncio.create_task(probe("--server", address, "--timeout", "20", code=0))
        tried, _ = await asyncio.get_running_loop().sock_accept(early)  # it has tried before the server is there
        tried.close()
    server = Server(Registry(), Settings.load(None, address=address, data=":memory:", grace=0.0))
    await server.start()
    try:
        assert await probing == "SERVING"
    finally:
        await server.stop()


async def test_health_speaks_tls_and_shows_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    own_cert, own_key = map(str, authority.issue("probe"))
    async with serving(tls_cert=cert, tls_key=key, client_ca=authority.cert) as server:
        base = ("--server", server.address, "--timeout", "5", "--ca", str(authority.cert))
        own = ("--cert", own_cert, "--key", own_key)
        assert await probe(*base, *own, "--server-name", "stepwire.test", code=0) == "SERVING"
        for name, value in (
            ("CA", authority.cert),
            ("CERT", own_cert),
            ("KEY", own_key),
            ("SERVER_NAME", "stepwire.test"),
        ):
            monkeypatch.setenv(f"STEPWIRE_{name}", str(value))
        assert await probe("--server", server.address, code=0) == "SERVING"
        monkeypatch.delenv("STEPWIRE_SERVER_NAME")
        assert await probe(*base, *own, "--timeout", "0.5", code=1) == "UNREACHABLE"  # another name
        monkeypatch.delenv("STEPWIRE_CERT")
        assert await probe(*base, code=1) == "error: TlsConfig needs both cert and key, or neither"
        monkeypatch.delenv("STEPWIRE_KEY")
        named = (*base, "--server-name", "stepwire.test", "--timeout", "0.5")
        assert await probe(*named, code=1) in ("UNREACHABLE", "UNAVAILABLE")  # no certificate of its own
        assert "No such file" in await probe("--server", server.address, "--ca", "/nowhere.pem", code=1)
