"""Errors over HTTP have the ErrorInfo that they have over gRPC, also those that the Connect library makes itself."""

from __future__ import annotations

import ast
import base64
import gzip
import http.client
import json
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from google.rpc import error_details_pb2, status_pb2
from tests.integration.web.support import Answer, Web, frame, frames, web

from stepwire.server.rpc.errors import DOMAIN
from stepwire.server.web.codecs import JsonCodec
from stepwire.v1 import run_service_pb2 as runs

LIMIT = 1 << 16
BOMB = gzip.compress(b"x" * (8 << 20))
RUN = runs.GetRunRequest(run_id="x").SerializeToString()
CUT = gzip.compress(RUN)[:-9]
UNARY, STREAM = "RunService/GetRun", "RunService/StreamEvents"
CONNECT, STREAMING, GRPC_WEB = "application/proto", "application/connect+proto", "application/grpc-web+proto"
COMPRESSION = {CONNECT: "content-encoding", STREAMING: "connect-content-encoding", GRPC_WEB: "grpc-encoding"}
TIMEOUT = {CONNECT: "connect-timeout-ms", STREAMING: "connect-timeout-ms", GRPC_WEB: "grpc-timeout"}
TIMEOUTS = {CONNECT: "50", STREAMING: "50", GRPC_WEB: "50m"}
ENVELOPED = (STREAMING, GRPC_WEB)
ALL = (CONNECT, *ENVELOPED)


class Case(NamedTuple):
    """A request that is refused before it is a call.

    Attributes:
        code: What the protocol prescribes.
        reason: The reason in the ErrorInfo.
        body: The body of the request, without an envelope for Connect's unary calls.
        headers: Its headers besides its content type.
        kinds: Content types for which it is refused so.
        sites: What the messages in the library begin with.
        method: The HTTP method.
        path: The path of the method called.
    """

    code: str
    reason: str
    body: bytes = RUN
    headers: Mapping[str, str] = {}
    kinds: tuple[str, ...] = ALL
    sites: tuple[str, ...] = ()
    method: str = "POST"
    path: str = ""


def _timeout(value: str, kinds: tuple[str, ...], *sites: str) -> Case:
    header = {TIMEOUT[kind]: value for kind in kinds}
    return Case("invalid_argument", "INVALID_REQUEST", headers=header, kinds=kinds, sites=sites)


def _compressed(code: str, reason: str, name: str, body: bytes, flags: int, *sites: str) -> dict[str, Case]:
    return {
        kind: Case(
            code,
            reason,
            body if kind == CONNECT else frame(body, flags),
            {COMPRESSION[kind]: name},
            (kind,),
            sites,
        )
        for kind in ALL
    }


TOO_LONG, PROMISED = "message is larger than configured max", "protocol error: promised"
CASES: dict[str, Case] = {
    "version": Case(
        "invalid_argument",
        "INVALID_REQUEST",
        headers={"connect-protocol-version": "2"},
        kinds=(CONNECT, STREAMING),
        sites=("connect-protocol-version must be",),
    ),
    "timeout": _timeout("soon", (CONNECT, STREAMING), "Invalid timeout header"),
    "long timeout": _timeout("1" * 60_000, (CONNECT, STREAMING), "Invalid timeout header"),
    "grpc timeout": _timeout("1", (GRPC_WEB,), "protocol error: invalid timeout"),
    "grpc timeout unit": _timeout("1x", (GRPC_WEB,), "protocol error: timeout has invalid unit"),
    "grpc timeout digits": _timeout("onceS", (GRPC_WEB,), "protocol error: invalid timeout"),
    "long grpc timeout": _timeout("1" * 60_000 + "S", (GRPC_WEB,), "protocol error: timeout"),
    "too long": Case("resource_exhausted", "LIMIT_EXCEEDED", b"x" * (LIMIT * 9), kinds=(CONNECT,), sites=(TOO_LONG,)),
    "too long envelope": Case(
        "resource_exhausted", "LIMIT_EXCEEDED", b"\0\x7f\xff\xff\xff", kinds=ENVELOPED, sites=(TOO_LONG,)
    ),
    "no protobuf": Case("invalid_argument", "MALFORMED_MESSAGE", b"\n\x7fshort", kinds=(CONNECT,)),
    "no protobuf in an envelope": Case("invalid_argument", "MALFORMED_MESSAGE", frame(b"\n\x7fshort"), kinds=ENVELOPED),
    "flags": Case(
        "invalid_argument",
        "MALFORMED_MESSAGE",
        frame(RUN, 0x40),
        kinds=ENVELOPED,
        sites=("protocol error: invalid envelope flags",),
    ),
    "end of stream": Case("invalid_argument", "MALFORMED_MESSAGE", frame(RUN) + frame(b"{}", 2), kinds=ENVELOPED),
    "trailers": Case("invalid_argument", "MALFORMED_MESSAGE", frame(RUN) + frame(b"x: y", 0x80), kinds=ENVELOPED),
    "part of a message": Case(
        "invalid_argument", "MALFORMED_MESSAGE", frame(RUN)[:-1], kinds=ENVELOPED, sites=(PROMISED,)
    ),
    "part of an envelope": Case(
        "invalid_argument",
        "MALFORMED_MESSAGE",
        frame(RUN) + b"\0\0",
        kinds=ENVELOPED,
        sites=("protocol error: incomplete envelope",),
    ),
    "compressed without a compression": Case(
        "internal",
        "MALFORMED_MESSAGE",
        frame(BOMB, 1),
        kinds=ENVELOPED,
        sites=("protocol error: sent compressed message without",),
    ),
    "no message": Case(
        "unimplemented", "INVALID_REQUEST", b"", kinds=ENVELOPED, sites=("unary request has zero messages",)
    ),
    "two messages": Case(
        "unimplemented", "INVALID_REQUEST", frame(RUN) * 2, kinds=ENVELOPED, sites=("unary request has multiple",)
    ),
    "converse": Case("unimplemented", "INVALID_REQUEST", frame(b""), kinds=ENVELOPED, path="RunService/Converse"),
    "GET": Case("invalid_argument", "INVALID_REQUEST", b"", kinds=ALL, method="GET"),
    "DELETE": Case("invalid_argument", "INVALID_REQUEST", b"", kinds=ALL, method="DELETE"),
    "host": Case("permission_denied", "PERMISSION_DENIED", headers={"host": "example.com"}),
    "origin": Case("permission_denied", "PERMISSION_DENIED", headers={"origin": "https://example.com"}),
    "no run": Case("not_found", "RUN_NOT_FOUND", kinds=(CONNECT,)),
    "no run in an envelope": Case("not_found", "RUN_NOT_FOUND", frame(RUN), kinds=ENVELOPED),
    **{
        f"codec {kind}": Case("invalid_argument", "INVALID_REQUEST", frame(RUN), kinds=(kind,))
        for kind in (
            "application/xml",
            "application/connect+xml",
            "application/grpc-web+thrift",
            "application/grpc-web-text",
            "application/grpc-web-text+proto",
            "text/plain",
            "multipart/form-data",
            "",
        )
    },
    **{
        f"{name} {kind}": found
        for name, cases in {
            "not gzip": _compressed("invalid_argument", "MALFORMED_MESSAGE", "gzip", RUN, 1, "decompress: "),
            "part of gzip": _compressed("invalid_argument", "MALFORMED_MESSAGE", "gzip", CUT, 1, "decompress: "),
            "bomb": _compressed("resource_exhausted", "LIMIT_EXCEEDED", "gzip", BOMB, 1, TOO_LONG),
            "br": _compressed("unimplemented", "INVALID_REQUEST", "br", RUN, 1, "unknown compression: "),
        }.items()
        for kind, found in cases.items()
    },
}

ELSEWHERE = {
    "Request was cancelled": "the task of the request is cancelled: nobody is there to be told",
    "Request was interrupted": "the process ends",
    "Client disconnected": "nobody is there to be told",
    "Client disconnected before request completion": "nobody is there to be told",
    "Unexpected message type": "no ASGI server sends one",
    "Request timed out": "test_a_deadline_has_no_reason_as_over_grpc",
    "'message' parameter is required for GET": "calls are posted",
    "Invalid base64 encoding": "calls are posted",
    "unmarshal message: ": "our codecs raise errors of their own",
    "corrupt response: ": "only clients read an end of a stream",
}
"""Errors of the library that a request cannot make it answer, or that another test has."""


@pytest.fixture(scope="module")
def site() -> Iterator[Web]:
    with web(max_message_bytes=LIMIT, max_event_bytes=LIMIT // 2) as found:
        yield found


def told(answer: Answer) -> tuple[str, list[str]]:
    """Return the code and the reasons that an answer tells, in whichever protocol it is."""
    kind = answer.headers.get("content-type", "")
    if kind.startswith("application/grpc-web"):
        fields = dict(answer.headers)
        for flags, text in frames(answer.body):
            if flags & 0x80:
                fields |= dict(line.split(": ", 1) for line in text.decode().strip().split("\r\n"))
        status = status_pb2.Status.FromString(base64.b64decode(fields["grpc-status-details-bin"] + "=="))
        assert (str(status.code), status.message) == (fields["grpc-status"], unquote(fields["grpc-message"]))
        infos = [each.value for each in status.details if each.type_url.endswith("/google.rpc.ErrorInfo")]
        code = CODES[status.code]
    else:
        error = json.loads(frames(answer.body)[-1][1])["error"] if "connect+" in kind else answer.json
        assert error["message"]
        details = [each for each in error["details"] if each["type"] == "google.rpc.ErrorInfo"]
        infos = [base64.b64decode(each["value"] + "==") for each in details]
        code = error["code"]
    found = [error_details_pb2.ErrorInfo.FromString(each) for each in infos]
    assert {each.domain for each in found} == {DOMAIN}
    return code, [each.reason for each in found]


CODES = {3: "invalid_argument", 5: "not_found", 8: "resource_exhausted", 12: "unimplemented", 13: "internal"}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, case in CASES.items() for kind in case.kinds])
def test_an_error_has_one_reason(site: Web, name: str, kind: str) -> None:
    case = CASES[name]
    path = f"/stepwire.v1.{case.path or (STREAM if kind == STREAMING else UNARY)}"
    body = case.body
    if kind in ENVELOPED and body is RUN:
        body = frame(RUN)
    answer = site.request(case.method, path, body, {"content-type": kind, **case.headers})
    assert told(answer) == (case.code, [case.reason])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.body) + sum(map(len, answer.headers.values())) < 8_192
    if kind.startswith("application/grpc-web"):  # whoever reads no body has it in headers or trailers
        assert answer.status != 200 or "grpc" in answer.headers["content-type"]
        assert "grpc-status" in answer.headers or answer.status == 200


@pytest.mark.parametrize("kind", ALL)
def test_a_deadline_has_no_reason_as_over_grpc(site: Web, kind: str) -> None:
    connection = http.client.HTTPConnection(site.host, timeout=60)
    connection.putrequest("POST", f"/stepwire.v1.{STREAM if kind == STREAMING else UNARY}")
    for name, value in {"content-type": kind, "content-length": "7", TIMEOUT[kind]: TIMEOUTS[kind]}.items():
        connection.putheader(name, value)
    connection.endheaders()  # and no body, so that only the deadline can come
    body = connection.getresponse().read()
    connection.close()
    assert b"ErrorInfo" not in body
    assert (b"grpc-status: 4\r\n" if kind == GRPC_WEB else b'"code": "deadline_exceeded"') in body


@pytest.mark.parametrize("kind", ALL)
def test_a_method_that_does_not_exist_has_no_reason_as_over_grpc(site: Web, kind: str) -> None:
    answer = site.request("POST", "/stepwire.v1.RunService/NoSuchMethod", RUN, {"content-type": kind})
    assert (answer.status, answer.json["code"]) == (404, "unimplemented")
    assert "details" not in answer.json
    assert answer.headers.get("grpc-status") == ("12" if kind == GRPC_WEB else None)


@pytest.mark.parametrize("headers", [{"last-event-id": "x"}, {"host": "example.com"}, {"origin": "null"}, {}])
def test_events_that_are_refused_have_a_reason(site: Web, headers: dict[str, str]) -> None:
    query = "" if headers else "?before=7"
    code, reasons = told(site.request("GET", f"/v1/runs/x/events{query}", headers=headers))
    assert (code, reasons) in (
        ("invalid_argument", ["INVALID_REQUEST"]),
        ("permission_denied", ["PERMISSION_DENIED"]),
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [(method, "runs/x/events", 405) for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")]
    + [("GET", path, 404) for path in ("", "runs", "runs//events", "runs/x/events/", "runs/a%2fb/events", "x")],
)
def test_what_is_not_served_below_v1_has_a_reason(site: Web, method: str, path: str, status: int) -> None:
    answer = site.request(method, f"/v1/{path}")
    assert (answer.status, told(answer)[1]) == (status, ["INVALID_REQUEST"])


def test_what_nobody_expects_is_internal_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: JsonCodec, message: object) -> bytes:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("google.protobuf.json_format.MessageToJson", fail)
    with web() as other:
        answer = other.call("RunService/ListRuns", {})
        assert told(answer) == ("internal", ["INTERNAL"])
        streamed = other.request(
            "POST",
            f"/stepwire.v1.{STREAM}",
            frame(b'{"runId": "x", "options": {"eventTypes": []}}'),
            {"content-type": "application/connect+json"},
        )
        assert told(streamed)[1] in (["INTERNAL"], ["RUN_NOT_FOUND"])
        assert b"secret" not in answer.body + streamed.body


def _sites() -> Iterator[str]:
    """Yield what the messages of the library's errors begin with, clients' left out."""
    found = find_spec("connectrpc")
    assert found is not None
    assert found.origin is not None
    for name in ("_server_async", "_envelope", "_shared", "_compression", "_protocol_connect", "_protocol_grpc"):
        tree = ast.parse((Path(found.origin).parent / f"{name}.py").read_text("utf-8"))
        for part in tree.body:
            if not (isinstance(part, ast.ClassDef) and re.search("Client|.EnvelopeReader", part.name)):
                yield from _messages(part)


def _messages(part: ast.AST) -> Iterator[str]:
    texts = {}
    for node in ast.walk(part):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            texts[node.targets[0].id] = node.value
    for node in ast.walk(part):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ConnectError":
            text = node.args[1]
            if isinstance(text, ast.Name):
                text = texts[text.id]
            first = text.values[0] if isinstance(text, ast.JoinedStr) else text
            assert isinstance(first, ast.Constant), ast.unparse(node)
            yield str(first.value)


def test_every_error_that_the_library_makes_has_a_case() -> None:
    known = {site for case in CASES.values() for site in case.sites} | set(ELSEWHERE)
    found = set(_sites())
    assert len(found) > 15
    assert not [text for text in found if not any(text.startswith(each) for each in known)]
    assert not [each for each in known if not any(text.startswith(each) for text in found)]
