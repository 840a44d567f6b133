"""The contract by Connect and gRPC-Web."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from tests.integration.web.support import Answer, Web, frame, frames, web

from stepwire.server.rpc import RULES
from stepwire.server.web.server import contract_services
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types


def reason(answer: Answer) -> str:
    for detail in answer.json["details"]:
        if detail["type"] == "google.rpc.ErrorInfo":
            data = base64.b64decode(detail["value"] + "==")
            return str(error_details_pb2.ErrorInfo.FromString(data).reason)
    raise AssertionError(answer.body)


def test_a_run_is_started_and_read_with_json(site: Web) -> None:
    answer = site.call(
        "RunService/StartRun", {"workflow": "echo", "input": {"value": {"value": [1, "ä"]}}, "wait": "10s"}
    )
    assert answer.status == 200
    run = answer.json["run"]
    assert run["status"] == "RUN_STATUS_COMPLETED"
    assert run["outcome"]["result"]["value"] == [1, "ä"]
    assert site.call("RunService/GetRun", {"runId": run["runId"]}).json["run"]["runId"] == run["runId"]


def test_a_run_is_started_with_protobuf(site: Web) -> None:
    request = runs.StartRunRequest(
        workflow="echo", input=types.Payload(json=b'{"value": 7}'), encoding=types.PAYLOAD_ENCODING_JSON
    )
    request.wait.FromSeconds(10)
    answer = site.request(
        "POST", "/stepwire.v1.RunService/StartRun", request.SerializeToString(), {"content-type": "application/proto"}
    )
    assert answer.status == 200
    assert runs.StartRunResponse.FromString(answer.body).run.outcome.result.json == b"7"


@pytest.mark.parametrize("kind", ["json", "proto"])
def test_a_stream_by_connect_ends_with_its_status(site: Web, kind: str) -> None:
    run_id = site.start("count", n=3)
    request = runs.StreamEventsRequest(run_id=run_id)
    body = json.dumps({"runId": run_id}).encode() if kind == "json" else request.SerializeToString()
    headers = {"content-type": f"application/connect+{kind}"}
    answer = site.request("POST", "/stepwire.v1.RunService/StreamEvents", frame(body), headers)
    assert answer.status == 200
    *messages, (flags, end) = frames(answer.body)
    assert flags == 2
    assert json.loads(end) == {}
    if kind == "json":
        last: Any = json.loads(messages[-1][1])
        assert last["finished"]["outcome"]["status"] == "RUN_STATUS_COMPLETED"
    else:
        assert (
            runs.StreamEventsResponse.FromString(messages[-1][1]).finished.outcome.status == types.RUN_STATUS_COMPLETED
        )


def test_a_stream_that_is_refused_says_why_at_its_end(site: Web) -> None:
    headers = {"content-type": "application/connect+json"}
    answer = site.request("POST", "/stepwire.v1.RunService/StreamEvents", frame(b'{"runId": "none"}'), headers)
    ((flags, end),) = frames(answer.body)
    assert flags == 2
    assert json.loads(end)["error"]["code"] == "not_found"


def test_grpc_web_gets_message_and_trailers(site: Web) -> None:
    request = runs.StartRunRequest(workflow="echo", input=types.Payload(json=b'{"value": 7}'))
    request.wait.FromSeconds(10)
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    answer = site.request("POST", "/stepwire.v1.RunService/StartRun", frame(request.SerializeToString()), headers)
    (_, message), (flags, trailers) = frames(answer.body)
    assert runs.StartRunResponse.FromString(message).run.outcome.result.value.number_value == 7
    assert flags == 0x80
    assert b"grpc-status: 0" in trailers.lower()


def test_grpc_web_gets_details_of_a_refusal(site: Web) -> None:
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    body = frame(runs.GetRunRequest(run_id="none").SerializeToString())
    answer = site.request("POST", "/stepwire.v1.RunService/GetRun", body, headers)
    found = dict(answer.headers)
    for flags, text in frames(answer.body):
        if flags & 0x80:
            found |= dict(line.split(": ", 1) for line in text.decode().strip().split("\r\n"))
    assert found["grpc-status"] == "5"
    details = base64.b64decode(found["grpc-status-details-bin"] + "==")
    infos = [d for d in status_pb2.Status.FromString(details).details if d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1


def test_errors_carry_the_code_the_reason_and_the_fields(site: Web) -> None:
    answer = site.call("RunService/GetRun", {"runId": "none"})
    assert (answer.status, answer.json["code"], reason(answer)) == (404, "not_found", "RUN_NOT_FOUND")
    answer = site.call("RunService/StartRun", {"workflow": "ask", "input": {"value": {"count": "many"}}})
    assert (answer.status, answer.json["code"], reason(answer)) == (400, "invalid_argument", "INVALID_INPUT")
    (bad,) = [detail for detail in answer.json["details"] if detail["type"] == "google.rpc.BadRequest"]
    violations = error_details_pb2.BadRequest.FromString(base64.b64decode(bad["value"] + "==")).field_violations
    assert {violation.field.rpartition(".")[2] for violation in violations} == {"item", "count"}


@pytest.mark.parametrize(
    ("kind", "body"), [("json", b'{"runId": '), ("json", b'{"run": "x"}'), ("json", b"[]"), ("proto", b"\n\x7fshort")]
)
def test_a_message_that_cannot_be_read_says_so(site: Web, kind: str, body: bytes) -> None:
    answer = site.request("POST", "/stepwire.v1.RunService/GetRun", body, {"content-type": f"application/{kind}"})
    assert (answer.status, answer.json["code"], reason(answer)) == (400, "invalid_argument", "MALFORMED_MESSAGE")


def test_a_method_that_does_not_exist_is_unimplemented(site: Web) -> None:
    answer = site.call("RunService/NoSuchMethod", {})
    assert (answer.status, answer.json["code"]) == (404, "unimplemented")
    assert "NoSuchMethod" in answer.json["message"]


def test_a_deadline_ends_a_wait(site: Web) -> None:
    run_id = site.start("ask", item="pen")
    answer = site.call("RunService/WaitRun", {"runId": run_id}, {"connect-timeout-ms": "200"})
    # The server answers by itself just before the deadline, or the deadline comes first: never later.
    assert (answer.status, answer.json.get("timedOut")) == (200, True) or answer.json["code"] == "deadline_exceeded"


def test_a_request_id_has_one_effect(site: Web) -> None:
    request = {"workflow": "ask", "input": {"value": {"item": "pen"}}, "requestId": "web-1"}
    first, second = site.call("RunService/StartRun", request), site.call("RunService/StartRun", request)
    assert first.json["run"]["runId"] == second.json["run"]["runId"]
    other = site.call("RunService/StartRun", {**request, "workflow": "count"})
    assert (other.status, reason(other)) == (409, "REQUEST_ID_REUSED")


def test_every_rpc_of_the_contract_is_served(site: Web) -> None:
    served = {f"/{s.full_name}/{m.name}" for s in contract_services() for m in s.methods}
    assert {name for name in RULES if name.startswith("/stepwire.v1.")} <= served
    for path in served:
        answer = site.request("POST", path, b"{}", {"content-type": "application/json"})
        assert answer.status not in (404, 405) or answer.json["code"] == "not_found", path


def test_converse_says_what_to_use_instead(site: Web) -> None:
    headers = {"content-type": "application/connect+json"}
    answer = site.request("POST", "/stepwire.v1.RunService/Converse", frame(b"{}"), headers)
    error = json.loads(frames(answer.body)[-1][1])["error"]
    assert error["code"] == "unimplemented"
    assert "StreamEvents" in error["message"]


@pytest.mark.parametrize(
    ("method", "headers", "body", "status"),
    [
        ("POST", {"content-type": "application/json"}, b"{", 400),
        ("POST", {"content-type": "application/json"}, b'{"runId": 7}', 400),
        ("POST", {"content-type": "application/json"}, b'{"noSuchField": 1}', 400),
        ("POST", {"content-type": "application/proto"}, b"\xff\xff", 400),
        ("POST", {"content-type": "text/plain"}, b"{}", 415),
        ("POST", {}, b"{}", 415),
        ("GET", {}, b"", 405),
        ("PUT", {"content-type": "application/json"}, b"{}", 405),
    ],
)
def test_bad_requests_are_refused(site: Web, method: str, headers: dict[str, str], body: bytes, status: int) -> None:
    answer = site.request(method, "/stepwire.v1.RunService/GetRun", body, headers)
    assert answer.status == status, answer.body
    assert answer.json["message"]


def test_a_call_without_a_content_type_or_not_posted_is_told_what_to_do(site: Web) -> None:
    path = "/stepwire.v1.RunService/GetRun"
    bare = site.request("POST", path, b"{}", {"content-type": "application/x-www-form-urlencoded"})
    assert "content-type: application/json" in bare.json["message"]
    got = site.request("GET", path, b"", {})
    assert "POST" in got.json["message"]
    assert got.headers["allow"] == "POST"


def test_a_body_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with web(max_message_bytes=1 << 16, max_event_bytes=1 << 15) as small:
        answer = small.call("RunService/StartRun", {"workflow": "echo", "input": {"value": {"value": "x" * (1 << 19)}}})
        assert (answer.status, answer.json["code"]) == (429, "resource_exhausted")
        # Within the web's limit, beyond gRPC's: the same refusal as any client's, with its reason.
        answer = small.call("RunService/StartRun", {"workflow": "echo", "input": {"value": {"value": "x" * 70_000}}})
        assert (answer.status, reason(answer)) == (429, "LIMIT_EXCEEDED")


def test_an_unknown_path_is_not_found(site: Web) -> None:
    answer = site.call("NoService/NoMethod", {})
    assert answer.status in (404, 405)
