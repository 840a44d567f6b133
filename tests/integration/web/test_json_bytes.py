"""Bytes in JSON are base64, and nothing else is read as bytes: for each field of bytes that a request may have."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.rpc import error_details_pb2
from tests.integration.web.support import Web

from stepwire.server.web.json_bytes import is_base64
from stepwire.server.web.server import contract_services

GOOD = ["", "QQ==", "QQ", "QUI=", "QUI", "QUJD", "+/+/", "-_-_", "+w==", "-w"]
BAD = [
    "!!!",
    "Q",
    "QUJDR",
    "Q===",
    "QQ=",
    "QQ===",
    "QUI==",
    "QUJD=",
    "=",
    "====",
    "QQ==QQ==",
    "Q Q=",
    "QQ\n",
    "+_+_",
    "Qé==",
]


def fields(descriptor: Descriptor, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the path of each field of bytes below a message, and JSON in which its text is `%`."""
    if descriptor.full_name in seen or descriptor.file.package == "google.protobuf":
        return
    for field in descriptor.fields:
        below: Iterator[tuple[str, Any]] = iter(())
        if field.type == FieldDescriptor.TYPE_BYTES:
            below = iter([("", "%")])
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            if value.type == FieldDescriptor.TYPE_BYTES:
                below = iter([(".key", {"key": "%"})])
            elif value.message_type is not None:
                below = ((f".key.{path}", {"key": found}) for path, found in fields(value.message_type, seen))
        elif field.message_type is not None:
            below = ((f".{path}", found) for path, found in fields(field.message_type, (*seen, descriptor.full_name)))
        for path, found in below:
            if field.is_repeated and not isinstance(found, dict | str):
                raise AssertionError(field.full_name)
            mapped = path.startswith(".key")
            place = ".1" if field.is_repeated and not mapped else ""
            for name in {field.json_name, field.name}:
                yield f"{field.name}{place}{path}", {name: [{}, found] if place else found}


METHODS = [method for service in contract_services() for method in service.methods if not method.client_streaming]
FIELDS = [
    (f"{method.containing_service.full_name}/{method.name}", path, json.dumps(found))
    for method in METHODS
    for path, found in fields(method.input_type)
]


def post(site: Web, method: str, body: str) -> Any:
    return site.request("POST", f"/{method}", body, {"content-type": "application/json"})


def test_the_contract_has_fields_of_bytes() -> None:
    assert {path for _, path, _ in FIELDS} >= {"input.json", "event.payload.json", "values.1.value.json"}
    assert len(FIELDS) > 20


def test_text_that_is_not_base64_is_refused_by_the_path_of_its_field(site: Web) -> None:
    for method, path, body in FIELDS:
        if "StreamEvents" in method:
            continue
        answer = post(site, method, body.replace("%", "!!!"))
        assert (answer.status, answer.json["code"]) == (400, "invalid_argument"), (method, body)
        details = {each["type"]: base64.b64decode(each["value"] + "==") for each in answer.json["details"]}
        info = error_details_pb2.ErrorInfo.FromString(details["google.rpc.ErrorInfo"])
        (violation,) = error_details_pb2.BadRequest.FromString(details["google.rpc.BadRequest"]).field_violations
        assert (info.reason, violation.field) == ("MALFORMED_MESSAGE", path), (method, body)
        assert path in answer.json["message"]


@pytest.mark.parametrize("text", GOOD + BAD)
def test_both_alphabets_are_taken_with_and_without_padding(text: str) -> None:
    assert is_base64(text) == (text in GOOD)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padded", [True, False])
def test_base64_in_any_form_arrives(site: Web, encode: Any, padded: bool) -> None:
    for value in ("", "a", "ab", "abc", "???>>>", "ÿþ~~"):
        text = encode(json.dumps({"value": value}, ensure_ascii=False).encode()).decode()
        request = {"workflow": "echo", "input": {"json": text if padded else text.rstrip("=")}, "wait": "60s"}
        answer = site.call("RunService/StartRun", request)
        assert (answer.status, answer.json["run"]["outcome"]["result"]["value"]) == (200, value)


@pytest.mark.parametrize("value", [7, True, ["QQ=="], {"a": "QQ=="}])
def test_bytes_that_are_no_text_are_refused(site: Web, value: Any) -> None:
    answer = site.call("RunService/StartRun", {"workflow": "echo", "input": {"json": value}})
    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")


def test_a_name_is_given_once(site: Web) -> None:
    answer = post(site, "stepwire.v1.RunService/GetRun", '{"runId": "a", "runId": "b"}')
    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")
    assert "runId" in answer.json["message"]
