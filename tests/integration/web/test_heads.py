"""What a connection may send before its request can be answered: a head that ends, in time, and with a credential."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.integration.web.support import Web, web

from stepwire.server.web import heads
from stepwire.server.web.browsers import ONCE

JSON = {"content-type": "application/json"}
GET_RUN = b"POST /stepwire.v1.RunService/GetRun HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
CHUNKED = GET_RUN + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
PIECE = 8_000
MUCH = 32 << 20
"""Bytes that no server should take for a head: far more than it may read, and the kernel may buffer."""


@contextmanager
def connected(site: Web) -> Iterator[socket.socket]:
    host, _, port = site.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        yield connection


def send_much(connection: socket.socket, begin: bytes, piece: bytes) -> None:
    connection.sendall(begin)
    for _ in range(MUCH // len(piece)):
        connection.sendall(piece)


def answered(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    answer = b""
    try:
        while piece := connection.recv(65_536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


@pytest.fixture(autouse=True)
def goes_on(site: Web) -> Iterator[None]:
    yield
    assert site.call("RunService/ListRuns", {}).status == 200


@pytest.mark.parametrize(
    ("begin", "rest"),
    [
        (b"GET /", b"a"),
        (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ", b"a"),
        (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n", b"x: y\r\n"),
        (CHUNKED + b"x: ", b"a"),
        (CHUNKED, b"x: y\r\n"),
    ],
    ids=["line", "header", "headers", "trailer", "trailers"],
)
def test_a_head_without_end_is_cut(site: Web, begin: bytes, rest: bytes) -> None:
    with connected(site) as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
        send_much(connection, begin, rest * PIECE)


def test_a_head_has_so_many_headers(site: Web) -> None:
    many = {f"x-{number}": "y" for number in range(heads.MAX_HEADERS)}
    assert site.request("GET", "/", headers={f"x-{n}": "y" for n in range(100)}).status == 200
    assert site.request("GET", "/", headers=many).status == 400


@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\nhost: ", b"\r\n"], ids=["nothing", "part", "line"])
def test_a_head_that_does_not_come_is_not_waited_for(site: Web, begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.05)
    with connected(site) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):  # it may be cut by now
            connection.sendall(begin)
        assert answered(connection) == b""


def test_a_second_head_is_bounded_too(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(site) as connection:
        connection.sendall(b"GET /styles HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 404")
        monkeypatch.setattr(heads, "HEAD_SECONDS", 0.05)
        connection.sendall(b"GET / HTTP/1.1\r\nho")
        assert b"200 OK" not in answered(connection)


def test_a_body_in_small_chunks_is_no_head(site: Web) -> None:
    text = json.dumps({"workflow": "echo", "input": {"value": {"value": "x" * 200_000}}}).encode()
    chunks = b"".join(b"10\r\n" + text[at : at + 16] + b"\r\n" for at in range(0, len(text) - 16, 16))
    rest = text[len(chunks) // 22 * 16 :]
    start = GET_RUN.replace(b"GetRun", b"StartRun") + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    with connected(site) as connection:
        connection.sendall(start + chunks + b"%x\r\n%b\r\n0\r\nx-trailer: y\r\n\r\n" % (len(rest), rest))
        assert answered(connection).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_answered(site: Web) -> None:
    one = GET_RUN + b"content-length: 2\r\n\r\n{}"
    last = GET_RUN + b"connection: close\r\ncontent-length: 2\r\n\r\n{}"
    with connected(site) as connection:
        connection.sendall(one * 3 + last)
        assert answered(connection).count(b"HTTP/1.1 404") == 4


@pytest.mark.parametrize("bad", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nno header\r\n\r\n"])
def test_what_is_no_http_gets_no_answer_of_another_request(site: Web, bad: bytes) -> None:
    with connected(site) as connection:
        connection.sendall(bad)
        answer = answered(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"google.rpc.ErrorInfo" in answer
        assert b"content-security-policy: " in answer
    with connected(site) as connection:
        connection.sendall((GET_RUN + b"content-length: 2\r\n\r\n{}") * 2 + bad)
        assert b"HTTP/1.1 400 " not in answered(connection)


@pytest.mark.parametrize("name", sorted(ONCE))
def test_a_header_that_decides_something_is_given_once(site: Web, name: str) -> None:
    line = name.encode() + b": 127.0.0.1\r\n"
    lines = line if name in ("host", "content-type") else line * 2
    with connected(site) as connection:
        connection.sendall(GET_RUN + lines + b"connection: close\r\ncontent-length: 2\r\n\r\n{}")
        answer = answered(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert f"The header {name} is given more than once".encode() in answer
    assert b"google.rpc.ErrorInfo" in answer


def test_trailers_are_no_headers(site: Web) -> None:
    with connected(site) as connection:
        head = GET_RUN + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        trailers = b"host: evil.example\r\norigin: http://evil.example\r\ncontent-type: text/plain\r\n"
        connection.sendall(head + b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n")
        assert answered(connection).startswith(b"HTTP/1.1 404 ")


def test_a_caller_without_a_credential_is_refused_before_its_body_comes(tmp_path: Path) -> None:
    access = tmp_path / "access.toml"
    access.write_text("")
    with web(api_keys=access) as site:
        for kind, status in (("json", b"401"), ("connect+json", b"200"), ("grpc-web+proto", b"200")):
            method = "StreamEvents" if kind == "connect+json" else "GetRun"
            head = (
                f"POST /stepwire.v1.RunService/{method} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                f"content-type: application/{kind}\r\ncontent-length: 10000000\r\n\r\n"
            )
            with connected(site) as connection:
                connection.sendall(head.encode())
                answer = b""
                while b"credential" not in answer:
                    answer += connection.recv(65_536)
                assert answer.split(b" ", 2)[1] == status
        bomb = gzip.compress(b'{"runId": "' + b"x" * 1_000_000 + b'"}')
        answered_bomb = site.request(
            "POST", "/stepwire.v1.RunService/GetRun", bomb, {**JSON, "content-encoding": "gzip"}
        )
        assert (answered_bomb.status, answered_bomb.json["code"]) == (401, "unauthenticated")


def test_text_of_another_encoding_in_a_header_harms_no_call(site: Web, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("authorization", "x-user"):
        with connected(site) as connection:
            connection.sendall(
                GET_RUN + name.encode() + b": J\xfcrgen\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
            )
            answer = answered(connection)
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"RUN_NOT_FOUND" in answer or b"not_found" in answer
    assert "Exception" not in caplog.text
