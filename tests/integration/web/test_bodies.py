"""How long the body of a request may take: it goes on, or it ends. Responses may take as long as they like."""

from __future__ import annotations

import base64
import json
import select
import socket

import pytest
from google.rpc import error_details_pb2
from tests.integration.web.support import Web
from tests.integration.web.test_heads import answered, connected

from stepwire.server.web import heads

SHORT = 0.02
POST = b"POST /stepwire.v1.RunService/GetRun HTTP/1.1\r\nhost: 127.0.0.1\r\n"
KINDS = ["application/json", "application/connect+json", "application/grpc-web+proto"]


@pytest.fixture(autouse=True)
def goes_on(site: Web) -> object:
    yield
    assert site.call("RunService/ListRuns", {}).status == 200


def reason(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"x-content-type-options: nosniff" in head
    error = json.loads(body)
    assert error["code"] == "resource_exhausted"
    (detail,) = error["details"]
    return str(error_details_pb2.ErrorInfo.FromString(base64.b64decode(detail["value"] + "==")).reason)


def head(kind: str, more: bytes) -> bytes:
    post = POST.replace(b"GetRun", b"StreamEvents") if "connect" in kind else POST
    return post + f"content-type: {kind}\r\n".encode() + more + b"\r\n\r\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [b"content-length: 100000", b"transfer-encoding: chunked"])
@pytest.mark.parametrize("begin", [b"", b"5\r\n{"])
def test_a_body_that_does_not_come_is_not_waited_for(
    site: Web, kind: str, length: bytes, begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "BODY_SECONDS", SHORT)
    with connected(site) as connection:
        connection.sendall(head(kind, length) + begin)
        assert reason(answered(connection)) == "LIMIT_EXCEEDED"


def test_a_body_that_trickles_in_is_not_waited_for(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "BODY_SECONDS", SHORT)
    with connected(site) as connection:
        connection.sendall(head(KINDS[0], b"content-length: 100000000"))
        while not select.select([connection], [], [], 0.001)[0]:
            connection.sendall(b" ")
        assert reason(answered(connection)) == "LIMIT_EXCEEDED"


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "BODY_SECONDS", SHORT)
    monkeypatch.setattr(heads, "BODY_BYTES", 0)
    with connected(site) as connection:
        connection.sendall(head("text/plain", b"content-length: 100000000"))
        answer = answered(connection)
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"408" not in answer


def test_a_deadline_ends_a_body_too(site: Web) -> None:
    with connected(site) as connection:
        connection.sendall(head(KINDS[0], b"content-length: 10\r\nconnect-timeout-ms: 50"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 504 ")


def test_a_body_that_goes_on_has_time(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the server looks whether it goes on."""
    monkeypatch.setattr(heads, "BODY_SECONDS", SHORT)
    monkeypatch.setattr(heads, "BODY_BYTES", 0)
    with connected(site) as connection:
        connection.sendall(head(KINDS[0], b"connection: close\r\ncontent-length: 14"))
        for piece in (b'{"run', b'Id": ', b'"x"}'):
            assert site.call("RunService/ListRuns", {}).status == 200
            connection.sendall(piece)
        assert answered(connection).startswith(b"HTTP/1.1 404 ")


def read_until(connection: socket.socket, text: bytes) -> bytes:
    found = b""
    while text not in found:
        piece = connection.recv(65_536)
        assert piece, found
        found += piece
    return found


def answer_question(site: Web, run_id: str) -> None:
    """Answer the question of a run by a request in one piece: the body of another might come too late."""
    event = {"type": "Answer", "payload": {"value": {"order": "7", "yes": True}}}
    body = json.dumps({"runId": run_id, "event": event}).encode()
    post = head(KINDS[0], b"connection: close\r\ncontent-length: %d" % len(body)).replace(b"GetRun", b"SendEvent")
    with connected(site) as connection:
        connection.sendall(post + body)
        answer = answered(connection)
    assert answer.startswith(b"HTTP/1.1 200 "), answer


def test_a_stream_of_events_is_left_alone(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "BODY_SECONDS", SHORT)
    monkeypatch.setattr(heads, "BODY_BYTES", 0)
    run_id = site.start("ask", item="pen")
    with connected(site) as connection:
        get = f"GET /v1/runs/{run_id}/events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        connection.sendall(get.encode() + b"content-length: 7\r\n\r\n{")
        begun = read_until(connection, b"event: Question")
        monkeypatch.setattr(heads, "BODY_BYTES", 7)
        for _ in range(3):
            assert site.request("GET", "/").status == 200
        answer_question(site, run_id)
        assert b"event: end" in begun + answered(connection)


def test_a_body_behind_another_request_has_time(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "BODY_SECONDS", SHORT)
    run_id = site.start("ask", item="pen")
    wait = json.dumps({"runId": run_id, "timeout": "60s"}).encode()
    first = head(KINDS[0], b"content-length: %d" % len(wait)).replace(b"GetRun", b"WaitRun") + wait
    with connected(site) as connection:
        connection.sendall(first + head(KINDS[0], b"content-length: 100000"))
        for _ in range(3):
            assert site.request("GET", "/").status == 200
        answer_question(site, run_id)
        answer = answered(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"RUN_STATUS_COMPLETED" in answer
    assert b"HTTP/1.1 408 " in answer
