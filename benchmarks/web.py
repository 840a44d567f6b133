"""Figures of the web beside gRPC on the same server: events sent by the server, unary calls, and what it costs idle."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.client import HTTPConnection

from benchmarks.harness import Bench, Row, Work, Works, alternate, cpus, row
from benchmarks.load import JSON, Read, h2load, live, replay, saturate
from benchmarks.servers import Server, running, stepwire_server

from stepwire.v1 import state_service_pb2 as state

_BLOCK = 1 << 18
"""Bytes that are read at once: reading in smaller blocks would measure the reader."""
_row = partial(row, group="the web beside gRPC, one server with its runs in memory")


async def web(bench: Bench) -> AsyncIterator[Row]:
    """Measure the web beside gRPC, with runs in memory, so that the store does not hide the difference."""
    servers = {"web": stepwire_server(":memory:", "--web", "127.0.0.1:0"), "no web": stepwire_server(":memory:")}
    async with running(bench, servers):
        served, plain = servers.values()
        page = served.hear(r"console at http://(\S+)")
        for figure in [*await _events(bench, served, page), *await _calls(bench, served, plain, page)]:
            yield figure


async def _events(bench: Bench, served: Server, page: str) -> list[Row]:
    """Read the events of one run, by server-sent events and by StreamEvents: of its past, and live."""
    count, caller = bench.scaled(100_000, 50_000), served.caller
    past = await caller.written(count)
    ways: dict[str, Read] = {
        "server-sent events": lambda run_id: asyncio.to_thread(_count_sent, page, run_id),
        "StreamEvents": caller.read,
    }
    works: dict[str, Works] = {
        "replay": {way: (served.cpu, partial(replay, past, count, read)) for way, read in ways.items()},
        "live": {way: (served.cpu, partial(live, caller, count, [read])) for way, read in ways.items()},
    }
    rows: list[Row] = []
    for told, work in works.items():
        title = f"server-sent events of one run, {told}"
        both = (await alternate(bench, title, work)).values()
        rows.append(_row(f"sse_{told}", title, "events/s", "StreamEvents", *both, target=0.5))
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


def _count_sent(page: str, run_id: str) -> int:
    """Read server-sent events to the end of the run; return how many entries came."""
    events, tail = 0, b""
    for block in server_sent(page, run_id):
        # An entry may be cut anywhere; what is kept is shorter than what is counted.
        events += (tail + block).count(b"\nid: ")
        tail = block[-4:]
    return events


async def _calls(bench: Bench, served: Server, plain: Server, page: str) -> list[Row]:
    """Call GetState by gRPC with and without the web, and over HTTP as protobuf and as JSON: CPU of the server."""

    def over_http(kind: str, message: bytes) -> Work:
        options = ["--h1", "-c", "64", "-H", f"content-type:application/{kind}"]
        url = f"http://{page}/stepwire.v1.StateService/GetState"
        return partial(h2load, url, message, bench.scaled(5_000, 1_000), *options)

    ids, others = await served.caller.start_many("Park"), await plain.caller.start_many("Park")
    request = state.GetStateRequest(run_id=ids[0], path="text", encoding=JSON)
    text = b'{"runId": "%s", "path": "text", "encoding": "PAYLOAD_ENCODING_JSON"}' % ids[0].encode()
    works: Works = {
        "gRPC": (served.cpu, partial(saturate, served.caller.each("GetState", ids), bench.seconds)),
        "gRPC, no web": (plain.cpu, partial(saturate, plain.caller.each("GetState", others), bench.seconds)),
        "protobuf": (served.cpu, over_http("proto", request.SerializeToString())),
        "JSON": (served.cpu, over_http("json", text)),
    }
    grpc, without, protobuf, json = map(cpus, (await alternate(bench, "unary calls over HTTP", works)).values())
    calls = "GetState, 64 in flight: server CPU"
    return [
        _row("http_proto", f"{calls} over HTTP, protobuf", "s", "gRPC", protobuf, grpc, target=2.5),
        _row("http_json", f"{calls} over HTTP, JSON", "s", "gRPC", json, grpc, target=2.5),
        _row("web_idle", f"{calls} by gRPC while the web is idle", "s", "no web", grpc, without, target=1.05),
    ]
