"""Figures of the web beside gRPC on the same server: events sent by the server, unary calls, and what it costs idle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection

from benchmarks.harness import WEB, Bench, Measure, Row, alternate, cost, cpus, row
from benchmarks.load import JSON, Read, h2load, live, replay, saturate
from benchmarks.servers import Side, running, stepwire_server

from stepwire.v1 import state_service_pb2 as state

_BLOCK = 1 << 18
"""Bytes that are read at once: reading in smaller blocks would measure the reader."""


async def web(bench: Bench) -> list[Row]:
    """Measure the web beside gRPC, with runs in memory, so that the store does not hide the difference."""
    servers = {"web": stepwire_server(":memory:", "--web", "127.0.0.1:0"), "no web": stepwire_server(":memory:")}
    async with running(bench, servers) as sides:
        served, plain = sides.values()
        page = served.server.hear(r"console at http://(\S+)")
        return [*await _events(bench, served, page), *await _calls(bench, served, plain, page)]


async def _events(bench: Bench, served: Side, page: str) -> list[Row]:
    """Read the events of one run, by server-sent events and by StreamEvents: of its past, and live."""
    count, caller = bench.scaled(100_000, 50_000), served.caller
    past = await caller.written(count)
    ways: dict[str, Read] = {"server-sent events": partial(_read_sent, page), "StreamEvents": caller.read}
    works = {
        "replay": {way: partial(replay, past, count, read) for way, read in ways.items()},
        "live": {way: partial(live, caller, count, [read]) for way, read in ways.items()},
    }
    rows: list[Row] = []
    for told, work in works.items():
        title = f"server-sent events of one run, {told}"
        measures: dict[str, Measure] = {way: partial(cost, served.server, each) for way, each in work.items()}
        sent, streamed = (await alternate(bench, title, measures)).values()
        both = sent, streamed, streamed
        rows.append(row(f"sse_{told}", title, "events/s", "StreamEvents", *both, target=0.5, group=WEB))
    return rows


def server_sent(page: str, run_id: str) -> Iterator[bytes]:
    """Return the server-sent events of a run to its end, in blocks, the first of which is empty."""
    connection = HTTPConnection(page)
    connection.request("GET", f"/v1/runs/{run_id}/events")
    response = connection.getresponse()
    yield b""
    while block := response.read1(_BLOCK):
        yield block
    connection.close()


async def _read_sent(page: str, run_id: str, count: int) -> int:
    """Read server-sent events to the end of the run; return how many entries came. RuntimeError below `count`."""

    def read() -> int:
        events, tail = 0, b""
        for block in server_sent(page, run_id):
            # An entry may be cut anywhere; what is kept is shorter than what is counted.
            events += (tail + block).count(b"\nid: ")
            tail = block[-4:]
        return events

    if (events := await asyncio.to_thread(read)) < count:
        raise RuntimeError(f"{count} events gave {events}")
    return events


async def _calls(bench: Bench, served: Side, plain: Side, page: str) -> list[Row]:
    """Call GetState by gRPC with and without the web, and over HTTP as protobuf and as JSON: CPU of the server."""

    def by_grpc(side: Side, ids: list[str]) -> Measure:
        return partial(cost, side.server, partial(saturate, side.caller.each("GetState", ids), bench.seconds))

    def over_http(kind: str, message: bytes) -> Measure:
        file = bench.directory / kind
        file.write_bytes(message)
        options = ["--h1", "-c", "64", "-H", f"content-type:application/{kind}"]
        url = f"http://{page}/stepwire.v1.StateService/GetState"
        return partial(cost, served.server, partial(h2load, url, file, bench.scaled(5_000, 1_000), *options))

    ids, others = await served.caller.start_many("Park"), await plain.caller.start_many("Park")
    request = state.GetStateRequest(run_id=ids[0], path="text", encoding=JSON)
    text = b'{"runId": "%s", "path": "text", "encoding": "PAYLOAD_ENCODING_JSON"}' % ids[0].encode()
    measures = {
        "gRPC": by_grpc(served, ids),
        "gRPC, no web": by_grpc(plain, others),
        "protobuf": over_http("proto", request.SerializeToString()),
        "JSON": over_http("json", text),
    }
    samples = await alternate(bench, "unary calls over HTTP", measures)
    grpc, without, protobuf, json = map(cpus, samples.values())
    calls = "GetState, 64 in flight: server CPU"
    return [
        row("http_proto", f"{calls} over HTTP, protobuf", "s", "gRPC", protobuf, grpc, target=2.5, group=WEB),
        row("http_json", f"{calls} over HTTP, JSON", "s", "gRPC", json, grpc, target=2.5, group=WEB),
        row("web_idle", f"{calls} by gRPC while the web is idle", "s", "no web", grpc, without, target=1.05, group=WEB),
    ]
