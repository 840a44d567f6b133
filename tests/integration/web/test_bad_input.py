"""What browsers and scripts should not send: it is refused by name, and the server goes on."""

from __future__ import annotations

import gzip
import json

import pytest
from tests.integration.web.support import Web, frame, frames, web

JSON = {"content-type": "application/json"}
FORGED = "<script>window.forged=1</script>"


@pytest.fixture(autouse=True)
def goes_on(site: Web) -> object:
    yield
    assert site.call("RunService/ListRuns", {}).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_events_are_only_read(site: Web, method: str) -> None:
    run_id = site.start("ask", item="pen")
    assert site.request(method, f"/v1/runs/{run_id}/events", b"{}", JSON).status == 405


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
@pytest.mark.parametrize("name", ["StartRun", "StreamEvents"])
def test_calls_are_only_posted(site: Web, method: str, name: str) -> None:
    assert site.request(method, f"/stepwire.v1.RunService/{name}", b"", JSON).status == 405


@pytest.mark.parametrize(
    "run_id", ["%3Cscript%3E", "..%2F..%2Fserver", "%00", "a%0d%0ax-injected:%201", "x" * 5000, "%ff%fe", "'%22"]
)
def test_a_run_id_that_is_none_is_refused_without_an_echo(site: Web, run_id: str) -> None:
    answer = site.request("GET", f"/v1/runs/{run_id}/events")
    assert answer.status in (400, 404)
    assert "x-injected" not in answer.headers
    assert b"<script" not in answer.body


def test_a_run_cannot_be_named_as_html(site: Web) -> None:
    start = {"workflow": "ask", "input": {"value": {"item": "pen"}}}
    answer = site.call("RunService/StartRun", {**start, "runId": FORGED})
    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")


def test_texts_are_answered_as_data(site: Web) -> None:
    """No answer with a text of a caller is a page that a browser would show."""
    run_id = site.start("echo", value=FORGED)
    for answer in (
        site.call("RunService/GetRun", {"runId": run_id}),
        site.call("RunService/GetRun", {"runId": FORGED}),
        site.call("WorkflowService/GetWorkflow", {"name": FORGED}),
        site.call(f"RunService/{FORGED}", {}),
        site.request("POST", "/stepwire.v1.RunService/GetRun", f'{{"{FORGED}": 1}}', JSON),
        site.request("GET", f"/v1/runs/{run_id}/events"),
        site.request("GET", f"/{FORGED}"),
    ):
        assert "html" not in answer.headers.get("content-type", "")
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("kind", ["application/json", "application/proto"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "nonsense"])
def test_a_body_that_is_not_what_its_header_says_is_refused(site: Web, kind: str, encoding: str) -> None:
    headers = {"content-type": kind, "content-encoding": encoding}
    answer = site.request("POST", "/stepwire.v1.RunService/GetRun", b'{"runId": "x"}', headers)
    assert 400 <= answer.status < 600
    assert answer.json["code"] in ("invalid_argument", "unimplemented")


def test_a_compressed_body_is_bounded_by_what_it_unpacks_to() -> None:
    packed = gzip.compress(b'{"workflow": "echo", "runId": "' + b"x" * (64 << 20) + b'"}')
    with web(max_message_bytes=1 << 16, max_event_bytes=1 << 15) as small:
        headers = {**JSON, "content-encoding": "gzip"}
        answer = small.request("POST", "/stepwire.v1.RunService/StartRun", packed, headers)
        assert (answer.status, answer.json["code"]) == (429, "resource_exhausted")
        assert small.call("RunService/ListRuns", {}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0",
        frame(b'{"runId": "x"}')[:-1],
        frame(b'{"runId": 7}'),
        frame(b"[]"),
        frame(b'{"noSuchField": 1}'),
        frame(b'{"runId": "x"}') * 2,
        b"\0\xff\xff\xff\xff{}",
    ],
)
def test_a_stream_with_a_wrong_envelope_ends_with_an_error(site: Web, body: bytes) -> None:
    headers = {"content-type": "application/connect+json"}
    answer = site.request("POST", "/stepwire.v1.RunService/StreamEvents", body, headers)
    *_, (flags, end) = frames(answer.body)
    assert flags & 2
    assert json.loads(end)["error"]["code"] != "internal"


def test_an_envelope_that_is_marked_as_compressed_without_a_compression_is_internal_as_the_protocol_says(
    site: Web,
) -> None:
    headers = {"content-type": "application/connect+json"}
    body = frame(b'{"runId": "x"}', flags=1)
    answer = site.request("POST", "/stepwire.v1.RunService/StreamEvents", body, headers)
    assert json.loads(frames(answer.body)[-1][1])["error"]["code"] == "internal"


@pytest.mark.parametrize("depth", [200, 100_000])
def test_json_that_is_nested_deeply_is_refused(site: Web, depth: int) -> None:
    value = "[" * depth + "]" * depth
    body = f'{{"workflow": "echo", "input": {{"value": {{"value": {value}}}}}}}'
    answer = site.request("POST", "/stepwire.v1.RunService/StartRun", body, JSON)
    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")
