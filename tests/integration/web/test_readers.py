"""Readers of streams over HTTP that leave, stall, lose their credential or wait too long: the gate ends their calls."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.system.security.support import Keys, channel_to, serving
from tests.system.security.test_streams import talk

from stepwire.server.app import Server

Headers = Iterable[tuple[str, str]]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the server has counts, no events
        await asyncio.sleep(0.01)


@asynccontextmanager
async def ask(
    server: Server, head: str, headers: Headers = (), body: bytes = b"", **options: Any
) -> AsyncIterator[Any]:
    """Send a request; give what reads the answer, behind its headers, and what closes the connection."""
    assert server.web_address is not None
    host, _, port = server.web_address.rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=connection, **options)
    lines = [head, f"host: {server.web_address}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    try:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        yield reader, writer
    finally:
        writer.transport.abort()


def events_of(run_id: str) -> str:
    return f"GET /v1/runs/{run_id}/events HTTP/1.1"


def enveloped(request: dict[str, Any]) -> bytes:
    body = json.dumps(request).encode()
    return b"\0" + len(body).to_bytes(4, "big") + body


CONNECT: Any = (
    "POST /stepwire.v1.RunService/StreamEvents HTTP/1.1",
    [("content-type", "application/connect+json"), ("connect-protocol-version", "1")],
)


def opened(server: Server, kind: str, run_id: str, **options: Any) -> Any:
    """Follow a run in one of two ways."""
    if kind == "events":
        return ask(server, events_of(run_id), **options)
    head, headers = CONNECT
    return ask(server, head, headers, enveloped({"runId": run_id}), **options)


@pytest.mark.parametrize("kind", ["events", "connect"])
async def test_the_call_of_a_reader_that_leaves_ends(kind: str) -> None:
    async with serving(web_address="127.0.0.1:0") as server, channel_to(server) as channel:
        run_id = await talk(channel, 1, 1)
        async with opened(server, kind, run_id):
            await until(lambda: server.calls.streams == 1)
        await until(lambda: server.calls.streams == 0)


@pytest.mark.parametrize("kind", ["events", "connect"])
async def test_a_reader_that_takes_nothing_is_cut(kind: str) -> None:
    async with serving(web_address="127.0.0.1:0", stalled_after=0.3) as server, channel_to(server) as channel:
        run_id = await talk(channel, 20_000, 1000)
        async with opened(server, kind, run_id, limit=1 << 10) as (_, writer):
            await until(lambda: server.metrics.streams_ended["stalled"] == 1)
            await until(lambda: server.calls.streams == 0)
            # The connection goes too, with what the reader has not taken.
            seen = select.poll()
            seen.register(writer.get_extra_info("socket"), 0)
            await until(lambda: bool(seen.poll(0)))


async def test_a_slow_reader_gets_all() -> None:
    entries = 9_000
    async with serving(web_address="127.0.0.1:0") as server, channel_to(server) as channel:
        run_id = await talk(channel, entries, 1000)
        async with ask(server, events_of(run_id), limit=1 << 12) as (reader, _):
            for sequence in range(1, entries + 1):
                while not (line := await reader.readline()).startswith(b"id: "):
                    pass
                assert int(line[4:]) > sequence


async def test_a_stream_whose_credential_is_taken_back_says_so(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "access.toml")
    headers = keys.add("ann", ["admin"])
    async with serving(web_address="127.0.0.1:0", api_keys=str(keys.path)) as server:
        start = json.dumps({"workflow": "asking", "runId": "one", "input": {"value": {"numbers": [1]}}}).encode()
        kind = ("content-type", "application/json")
        async with ask(server, "POST /stepwire.v1.RunService/StartRun HTTP/1.1", [*headers, kind], start):
            pass
        async with ask(server, events_of("one"), headers) as (reader, _):
            await until(lambda: server.calls.streams == 1)
            keys.drop_all()
            said = await reader.readuntil(b"0\r\n\r\n")  # the server ends the response
    assert b"event: error\n" in said
    assert b'"code":"unauthenticated"' in said


async def test_a_stream_ends_at_its_deadline() -> None:
    async with serving(web_address="127.0.0.1:0") as server, channel_to(server) as channel:
        run_id = await talk(channel, 1, 1)
        head, headers = CONNECT
        late = [*headers, ("connect-timeout-ms", "300")]
        async with ask(server, head, late, enveloped({"runId": run_id})) as (reader, _):
            said = await reader.readuntil(b"0\r\n\r\n")
        assert b"deadline_exceeded" in said
        assert server.calls.streams == 0


async def test_an_endless_body_is_refused_at_the_limit() -> None:
    block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with serving(web_address="127.0.0.1:0", max_message_bytes=1 << 16, max_event_bytes=1 << 15) as server:
        assert server.web_address is not None
        host, _, port = server.web_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /stepwire.v1.RunService/StartRun HTTP/1.1\r\nhost: {server.web_address}\r\n"
            "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        answer = asyncio.ensure_future(reader.readline())
        sent = 0
        with suppress(ConnectionError):
            while not answer.done():
                writer.write(block)
                await writer.drain()
                await asyncio.sleep(0)
                sent += 1
                assert sent < 1000, "the server reads on"
        assert b" 429 " in await answer
        writer.transport.abort()
