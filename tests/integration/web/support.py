"""A server with the web, and requests to it as a browser or curl makes them."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.rpc_flows import Ask, Count, Echo, Fail, Shop

from stepwire.server.testing import RunningServer, serve

FLOWS: dict[str, Any] = {"ask": Ask, "count": Count, "echo": Echo, "fail": Fail, "shop": Shop}


def frame(body: bytes, flags: int = 0) -> bytes:
    """Return an envelope of the Connect protocol and of gRPC-Web."""
    return struct.pack(">BI", flags, len(body)) + body


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """Return the envelopes of a body: flags and content."""
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


@dataclass
class Answer:
    """An HTTP response, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """The web of a running server."""

    def __init__(self, server: RunningServer) -> None:
        assert server.web_address is not None
        self.server = server
        self.host = server.web_address

    def request(
        self, method: str, path: str, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def call(self, method: str, request: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Make a unary call of the Connect protocol with JSON."""
        kind = {"content-type": "application/json"}
        return self.request("POST", f"/stepwire.v1.{method}", json.dumps(request), {**kind, **(headers or {})})

    def start(self, workflow: str, run_id: str = "", **fields: Any) -> str:
        answer = self.call("RunService/StartRun", {"workflow": workflow, "runId": run_id, "input": {"value": fields}})
        assert answer.status == 200, answer.body
        return str(answer.json["run"]["runId"])

    @contextmanager
    def events(
        self, run_id: str, query: str = "", headers: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[Sent]]:
        """Follow a run's server-sent events."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request("GET", f"/v1/runs/{run_id}/events{query}", headers=dict(headers or {}))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            yield read_events(response)
        finally:
            connection.close()


@dataclass
class Sent:
    """A server-sent event; a comment has only `comment`."""

    id: str = ""
    event: str = ""
    data: str = ""
    comment: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def read_events(response: Any) -> Iterator[Sent]:
    """Parse server-sent events, as the standard says."""
    sent = Sent()
    for raw in response:
        line = raw.decode().rstrip("\n")
        if not line:
            yield sent
            sent = Sent()
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            sent.comment = value
        else:
            assert name in ("id", "event", "data"), line
            setattr(sent, name, value)


@contextmanager
def web(data: str | Path = ":memory:", **settings: Any) -> Iterator[Web]:
    """Serve the tests' workflows, with the web on a free port."""
    with serve(data=data, settings={"web_address": "127.0.0.1:0", **settings}, **FLOWS) as server:
        yield Web(server)
