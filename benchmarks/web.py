"""Figures of the web beside gRPC on the same server: events sent by the server, unary calls, and what it costs idle."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from benchmarks.harness import WEB, Bench, Measure, Row, alternate, cost, row, spent
from benchmarks.load import IN_FLIGHT, JSON, Call, Caller, Read, live, replay, saturate
from benchmarks.processes import Server, stepwire_server

from stepwire.v1 import state_service_pb2 as state

__all__ = ["web"]

_BLOCK: Final = 1 << 18
"""Bytes that asyncio receives at once: reading in smaller blocks would measure the reader."""
_TO_END: Final = b"event: end\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


async def web(bench: Bench) -> list[Row]:
    """Measure the web beside gRPC, with runs in memory, so that the store does not hide the difference."""
    bench.say("starting two servers")
    async with AsyncExitStack() as stack:
        served = stack.enter_context(stepwire_server(":memory:", args=("--web", "127.0.0.1:0")))
        plain = stack.enter_context(stepwire_server(":memory:"))
        page = served.hear(r"console at http://(\S+)")
        caller, other = [await stack.enter_async_context(Caller.open(each.address)) for each in (served, plain)]
        links = [await stack.enter_async_context(_Link.open(page)) for _ in range(IN_FLIGHT)]
        return [*await _events(bench, served, page, caller), *await _calls(bench, served, plain, links, caller, other)]


async def _events(bench: Bench, served: Server, page: str, caller: Caller) -> list[Row]:
    """Read the events of one run, by server-sent events and by StreamEvents: of its past, and live."""
    count = bench.scaled(100_000, 50_000)
    past = await caller.written(count)
    ways: dict[str, Read] = {"server-sent events": partial(_read_sent, page), "StreamEvents": caller.read}
    works = {
        "replay": {way: partial(replay, past, count, read) for way, read in ways.items()},
        "live": {way: partial(live, caller, count, [read]) for way, read in ways.items()},
    }
    rows: list[Row] = []
    for told, work in works.items():
        title = f"server-sent events of one run, {told}"
        measures: dict[str, Measure] = {way: partial(cost, served, each) for way, each in work.items()}
        sent, streamed = (await alternate(bench, title, measures)).values()
        both = sent, streamed, streamed
        rows.append(row(f"sse_{told}", title, "events/s", "StreamEvents", *both, target=0.5, group=WEB))
    return rows


async def _read_sent(page: str, run_id: str, count: int) -> int:
    """Read server-sent events to the end of the run; return how many entries came. RuntimeError below `count`."""
    host, _, port = page.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    try:
        writer.write(f"GET /v1/runs/{run_id}/events HTTP/1.1\r\nhost: {page}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        events, tail = 0, b"\n"
        while _TO_END not in tail and (block := await reader.read(_BLOCK)):
            # An entry may be cut anywhere; what is kept is shorter than what is counted.
            events += (tail + block).count(b"\nid: ") - tail.count(b"\nid: ")
            tail = (tail + block)[-200:]
    finally:
        writer.close()
    if events < count:
        raise RuntimeError(f"{count} events gave {events}")
    return events


async def _calls(
    bench: Bench, served: Server, plain: Server, links: list[_Link], caller: Caller, other: Caller
) -> list[Row]:
    """Call GetState by gRPC with and without the web, and over HTTP as protobuf and as JSON: CPU of the server."""
    ids, others = await caller.parked(), await other.parked()
    messages = [state.GetStateRequest(run_id=run_id, path="text", encoding=JSON).SerializeToString() for run_id in ids]
    texts = [b'{"runId": "%s", "path": "text", "encoding": "PAYLOAD_ENCODING_JSON"}' % each.encode() for each in ids]

    def over_http(kind: str, bodies: list[bytes]) -> Call:
        return lambda number: links[number % IN_FLIGHT].get_state(kind, bodies[number % IN_FLIGHT])

    def measure(process: Server, call: Call) -> Measure:
        return partial(spent, process, partial(saturate, call, bench.seconds))

    measures = {
        "gRPC": measure(served, caller.each("GetState", ids)),
        "gRPC, no web": measure(plain, other.each("GetState", others)),
        "protobuf": measure(served, over_http("proto", messages)),
        "JSON": measure(served, over_http("json", texts)),
    }
    grpc, without, protobuf, json = (await alternate(bench, "unary calls over HTTP", measures)).values()
    calls = "GetState, 64 in flight: server CPU"
    return [
        row("http_proto", f"{calls} over HTTP, protobuf", "s", "gRPC", protobuf, grpc, target=2.5, group=WEB),
        row("http_json", f"{calls} over HTTP, JSON", "s", "gRPC", json, grpc, target=2.5, group=WEB),
        row("web_idle", f"{calls} by gRPC while the web is idle", "s", "no web", grpc, without, target=1.05, group=WEB),
    ]


class _Link:
    """A connection that is kept alive, for one call at a time; cheap, so that the server is what is measured."""

    def __init__(self, page: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._page, self._reader, self._writer = page, reader, writer
        self._lock = asyncio.Lock()

    @staticmethod
    @asynccontextmanager
    async def open(page: str) -> AsyncIterator[_Link]:
        """Connect."""
        host, _, port = page.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield _Link(page, reader, writer)
        finally:
            writer.close()

    async def get_state(self, kind: str, body: bytes) -> None:
        """Call GetState. RuntimeError unless the answer is 200."""
        head = f"POST /stepwire.v1.StateService/GetState HTTP/1.1\r\nhost: {self._page}\r\n"
        head += f"content-type: application/{kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        async with self._lock:
            self._writer.write(head.encode() + body)
            answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            if (length := _LENGTH.search(answer)) is not None:
                await self._reader.readexactly(int(length[1]))
            else:
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    await self._reader.readexactly(size + 2)
                await self._reader.readexactly(2)
        if not answer.startswith(b"http/1.1 200"):
            raise RuntimeError(f"GetState over HTTP: {answer!r}")
