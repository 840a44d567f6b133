"""What clients of HTTP/2 get from the web: gRPC is told where it is, an offer to go on with HTTP/2 is ignored."""

from __future__ import annotations

import http.client
import socket

import grpc
import pytest
from tests.integration.web.support import Web

from stepwire.client import StepwireError, SyncClient
from stepwire.server.web.http2 import PREFACE
from stepwire.v1 import run_service_pb2, run_service_pb2_grpc

LIST_RUNS = "/stepwire.v1.RunService/ListRuns"


def told(site: Web) -> str:
    return f"gRPC is on port {site.server.address.rpartition(':')[2]}"


def test_a_grpc_client_is_told_where_grpc_is(site: Web) -> None:
    with grpc.insecure_channel(site.host) as channel:
        runs = run_service_pb2_grpc.RunServiceStub(channel)
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as refused:
                runs.ListRuns(run_service_pb2.ListRunsRequest(), timeout=50)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert told(site) in str(refused.value.details())
        with pytest.raises(grpc.RpcError) as refused:
            list(runs.StreamEvents(run_service_pb2.StreamEventsRequest(run_id="x"), timeout=50))
        assert told(site) in str(refused.value.details())


def test_our_client_is_told_too(site: Web) -> None:
    with SyncClient(site.host) as client, pytest.raises(StepwireError) as refused:
        client.start_run("echo", value="x")
    assert told(site) in str(refused.value)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto"])
def test_grpc_over_http_1_is_refused_in_words(site: Web, kind: str) -> None:
    answer = site.request("POST", LIST_RUNS, b"\0\0\0\0\0", {"content-type": kind, "te": "trailers"})
    assert (answer.status, answer.json["code"]) == (415, "unimplemented")
    assert told(site) in answer.json["message"]
    assert (answer.headers["grpc-status"], answer.headers["grpc-message"]) == ("12", answer.json["message"])


def exchange(site: Web, *pieces: bytes, until: bytes) -> bytes:
    """Send pieces, and read until an answer has something or the connection ends."""
    host, _, port = site.host.rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=50) as connection:
        for piece in pieces:
            connection.sendall(piece)
        while until not in received and (more := connection.recv(65536)):
            received += more
    return received


SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HEADERS = b"\0\0\1\1\5\0\0\0\1\x82"
"""A GET without a body."""
BODY = b"\0\0\2\0\1\0\0\0\3{}"


def test_http_2_without_grpc_is_refused_as_http(site: Web) -> None:
    received = exchange(site, PREFACE + SETTINGS, b"\0\0\x08\6\0\0\0\0\0" + b"pingping", HEADERS, until=b"gRPC is on")
    assert received.startswith(SETTINGS)
    assert b"\0\0\x08\6\1\0\0\0\0pingping" in received
    assert b"505" in received
    assert b"grpc-status" not in received


def test_a_request_is_refused_at_its_end(site: Web) -> None:
    post = b"\0\0\1\1\4\0\0\0\3\x83"
    assert told(site).encode() in exchange(site, PREFACE + SETTINGS + post, BODY, until=told(site).encode())


@pytest.mark.parametrize("split", [4, 23, 24, 25, 30, 34])
def test_frames_come_in_any_pieces(site: Web, split: int) -> None:
    sent = PREFACE + SETTINGS + HEADERS
    assert b"505" in exchange(site, sent[:split], sent[split:], until=told(site).encode())


def test_a_frame_that_is_too_long_ends_the_connection(site: Web) -> None:
    received = exchange(site, PREFACE, b"\xff\xff\xff\0\0\0\0\0\1", until=b"not to come")
    assert received.endswith(b"\0\0\0\0\0\0\0\6")  # FRAME_SIZE_ERROR
    connection = http.client.HTTPConnection(site.host, timeout=50)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()


OFFER = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAoAAAAAIAAAAA"}


@pytest.mark.parametrize("offer", [OFFER, {"Connection": "Upgrade", "Upgrade": "websocket"}])
def test_an_offer_of_another_protocol_is_ignored(site: Web, offer: dict[str, str]) -> None:
    text = "\r\n\r\nUpgrade: h2c\r\n" * 20_000  # is data, also where a piece of it comes first
    start = run_service_pb2.StartRunRequest(workflow="echo")
    start.input.value.struct_value.update({"value": text})
    start.wait.seconds = 50
    connection = http.client.HTTPConnection(site.host, timeout=50)
    for _ in range(3):
        headers = {"content-type": "application/proto", **offer}
        connection.request("POST", "/stepwire.v1.RunService/StartRun", start.SerializeToString(), headers)
        response = connection.getresponse()
        assert response.status == 200
        answer = run_service_pb2.StartRunResponse.FromString(response.read())
        assert answer.run.outcome.result.value.string_value == text
    connection.close()
