"""A driver that calls the web with curl: unary calls by the Connect protocol, streams as server-sent events.

python -m tests.system.conformance.curl TABLE.json

A server-sent event carries an entry's sequence, type and payload, so patterns are compared in these (README.md).
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

from google.protobuf.any_pb2 import Any as Packed
from google.rpc import code_pb2, status_pb2
from tests.system.conformance.driver import CALL_SECONDS, STREAM_SECONDS, Ended, error_object, run_table
from tests.system.conformance.matching import Mismatch

_TIMED_OUT: Final = 28
"""curl's exit code for --max-time."""
_SAFE_INTEGER: Final = 1 << 53
_CARRIED: Final = ("sequence", "type", "payload")
_CODES: Final = {"canceled": "CANCELLED"}


class CurlWire:
    """Calls and streams of one server, at its web address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def call(self, step: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
        """Make a unary call; return the response, or None and the error object."""
        milliseconds = step.get("deadline_ms", CALL_SECONDS * 1000)
        service, _, method = step["call"].partition(".")
        raw = "raw" in step
        data = base64.b64decode(step["raw"]) if raw else json.dumps(step.get("request", {})).encode()
        headers = {
            "content-type": "application/proto" if raw else "application/json",
            "connect-timeout-ms": str(int(milliseconds)),
            **step.get("headers", {}),
        }
        url = f"{self._address}/stepwire.v1.{service}/{method}"
        command = _curl(url, headers, milliseconds / 1000 + 5, "--data-binary", "@-", "--write-out", "\n%{http_code}")
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if done.returncode != 0:
            raise Mismatch(f"curl: exit code {done.returncode}: {done.stderr.decode()}")
        body, _, status = done.stdout.rpartition(b"\n")
        if status != b"200":
            return None, _error_of(int(status), body)
        return ({} if raw else json.loads(body)), None

    def open(self, step: dict[str, Any]) -> CurlStream:
        """Follow a run."""
        request = step.get("request", {})
        options = request.get("options", {})
        query: list[tuple[str, Any]] = [("after", request.get("afterSequence", 0))]
        query += [("type", name) for name in options.get("eventTypes", ())]
        if options.get("includeInternal"):
            query.append(("internal", "true"))
        url = f"{self._address}/v1/runs/{request['runId']}/events?{urlencode(query)}"
        seconds = step.get("deadline_ms", STREAM_SECONDS * 1000) / 1000
        return CurlStream(_curl(url, step.get("headers", {}), seconds, "--no-buffer", "--include"))


class CurlStream:
    """Server-sent events as items."""

    carried = _CARRIED

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._items = self._read()

    def take(self) -> Any:
        """Return the next item. Ended at the stream's end."""
        try:
            return next(self._items)
        except StopIteration:
            raise Ended(None) from None

    def send(self, frame: dict[str, Any]) -> None:
        """Not possible."""
        raise Mismatch("server-sent events go one way")

    def half_close(self) -> None:
        """Nothing more was to be sent."""

    def cut(self) -> None:
        """End curl."""
        self._process.kill()
        with contextlib.suppress(Exception):
            self._process.communicate()

    def _read(self) -> Iterator[dict[str, Any]]:
        lines = self._process.stdout
        assert lines is not None
        status = int(lines.readline().split()[1])
        while lines.readline().strip():
            pass
        if status != 200:
            raise Ended(_error_of(status, lines.read()))
        last, fields = 0, dict[str, str]()
        for line in lines:
            name, _, value = line.decode().rstrip("\n").partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            elif fields and not value:
                item, last = _item(fields, last)
                fields = {}
                if item is not None:
                    yield item
        if self._process.wait() == _TIMED_OUT:
            raise Ended(error_object(status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED)))


def _item(fields: dict[str, str], last: int) -> tuple[dict[str, Any] | None, int]:
    """Return an event as an item, and its sequence. Ended for the event that says why a stream ends."""
    data = json.loads(fields["data"])
    if fields["event"] == "error":
        raise Ended(_error_of(0, fields["data"].encode()))
    if fields["event"] == "end":
        outcome = {**data, **({"result": _payload(data["result"])} if "result" in data else {})}
        return {"finished": {"outcome": outcome}}, last
    sequence = int(fields["id"])
    if sequence <= last:
        raise Mismatch(f"entry {sequence} comes after {last}")
    return {"entry": {"sequence": str(sequence), "type": fields["event"], "payload": _payload(data)}}, sequence


def _payload(data: Any) -> dict[str, Any]:
    """Return a document in both encodings of Payload."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return {"value": _as_value(data), "json": base64.b64encode(text.encode()).decode()}


def _as_value(data: Any) -> Any:
    """Return a document as Payload.value has it: large integers are strings."""
    if isinstance(data, dict):
        return {key: _as_value(item) for key, item in data.items()}
    if isinstance(data, list):
        return [_as_value(item) for item in data]
    large = isinstance(data, int) and not isinstance(data, bool) and abs(data) > _SAFE_INTEGER
    return str(data) if large else data


def _error_of(status: int, body: bytes) -> dict[str, Any]:
    """Return the error object of a body in Connect's JSON."""
    try:
        found = json.loads(body)
    except ValueError:
        raise Mismatch(f"HTTP {status} with no JSON: {body[:200]!r}") from None
    code = _CODES.get(found["code"], found["code"].upper())
    details = [
        Packed(type_url=f"type.googleapis.com/{detail['type']}", value=base64.b64decode(detail["value"] + "=="))
        for detail in found.get("details", ())
    ]
    message = found.get("message", "")
    return error_object(status_pb2.Status(code=code_pb2.Code.Value(code), message=message, details=details))


def _curl(url: str, headers: dict[str, str], seconds: float, *options: str) -> list[str]:
    shown = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    return ["curl", "--silent", "--show-error", "--max-time", str(seconds), *options, *shown, url]


def version() -> str:
    """Return what this column of the matrix ran with."""
    done = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split()[:2])


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print(version())  # noqa: T201 - what the option is for
    else:
        run_table(sys.argv[1], "web", lambda address: contextlib.nullcontext(CurlWire(address)))
