"""The reference driver: it runs the table with the stubs of the Python client.

python -m tests.system.conformance.driver TABLE.json
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version as found
from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from tests.system.conformance.matching import Mismatch, at_path, check, substitute

from stepwire.v1 import (
    run_service_pb2,
    snapshot_service_pb2,
    state_service_pb2,
    workflow_service_pb2,
)

_FILES: Final = (run_service_pb2, snapshot_service_pb2, state_service_pb2, workflow_service_pb2)
_CALL_SECONDS: Final = 15.0
_STREAM_SECONDS: Final = 30.0


def main(path: str) -> None:
    """Run every scenario of a table; print one line for each."""
    with open(path, encoding="utf-8") as file:
        table = json.load(file)
    with contextlib.ExitStack() as stack:
        channels = {name: stack.enter_context(_channel(address)) for name, address in table["servers"].items()}
        for scenario in table["scenarios"]:
            result = run_scenario(scenario, channels[scenario.get("server", "main")], table["vars"])
            print(json.dumps(result, ensure_ascii=False), flush=True)  # noqa: T201 - what a driver is for


def run_scenario(scenario: dict[str, Any], channel: grpc.Channel, variables: dict[str, Any]) -> dict[str, Any]:
    """Run one scenario; return its line."""
    run = Run(channel, dict(variables))
    detail = ""
    try:
        for number, step in enumerate(scenario["steps"]):
            try:
                run.step(step)
            except (Mismatch, grpc.RpcError, json_format.ParseError) as error:
                detail = f"step {number}: {_told(error)}"
                break
    finally:
        run.close()
    return {
        "scenario": scenario["name"],
        "ok": not detail,
        "detail": detail,
        "code": run.last_error.get("code", ""),
        "reason": run.last_error.get("reason", ""),
    }


class Run:
    """A scenario under way: its variables and its streams."""

    def __init__(self, channel: grpc.Channel, variables: dict[str, Any]) -> None:
        self._channel = channel
        self._variables = variables
        self._streams: dict[str, Stream] = {}
        self.last_error: dict[str, Any] = {}
        self._verbs: dict[str, Callable[[dict[str, Any]], Any]] = {
            "call": self._call,
            "open": self._open,
            "send": lambda step: self._stream(step).send(step["send"]),
            "receive": self._receive,
            "until": self._until,
            "half_close": lambda step: self._stream(step).half_close(),
            "cut": lambda step: self._stream(step).cut(),
            "end": self._end,
        }

    def step(self, step: dict[str, Any]) -> None:
        """Do one step. Mismatch when it does not hold."""
        step = {"save": {}, **step}
        names = step["save"]
        step = {**substitute({k: v for k, v in step.items() if k != "save"}, self._variables), "save": names}
        verb = next(verb for verb in self._verbs if verb in step)
        document = self._verbs[verb](step)
        for name, path in names.items():
            self._variables[name] = at_path(document, path)

    def close(self) -> None:
        """Cancel the streams that are still open."""
        for stream in self._streams.values():
            stream.cut()

    def _call(self, step: dict[str, Any]) -> Any:
        path, method = _method(step["call"])
        timeout = step.get("deadline_ms", _CALL_SECONDS * 1000) / 1000
        if "raw" in step:
            data = base64.b64decode(step["raw"])
        else:
            data = _message(method.input_type, step.get("request", {})).SerializeToString()
        call: Any = self._channel.unary_unary(path, None, None)
        try:
            answer = call(data, timeout=timeout, metadata=_headers(step))
        except grpc.RpcError as error:
            found = self._met(error_of(error))
            if "error" not in step:
                raise Mismatch(f"the call failed: {found}") from error
            check(step["error"], found, "the error")
            return found
        document = _document(GetMessageClass(method.output_type).FromString(answer))
        if "error" in step:
            raise Mismatch("the call succeeded")
        check(step.get("expect", {}), document, "the response")
        return document

    def _open(self, step: dict[str, Any]) -> None:
        path, method = _method(step["open"])
        request = _message(method.input_type, step.get("request", {}))
        timeout = step.get("deadline_ms", _STREAM_SECONDS * 1000) / 1000
        stream = Stream(self._channel, path, method, request, timeout, _headers(step), self._met)
        self._streams[step.get("stream", "main")] = stream

    def _receive(self, step: dict[str, Any]) -> Any:
        stream, item = self._stream(step), None
        for pattern in step["receive"]:
            item = stream.take()
            check(pattern, item, "the item")
        return item

    def _until(self, step: dict[str, Any]) -> Any:
        stream = self._stream(step)
        while True:
            item = stream.take()
            with contextlib.suppress(Mismatch):
                check(step["until"], item)
                return item

    def _end(self, step: dict[str, Any]) -> None:
        found = self._stream(step).end()
        if found is None:
            if "error" in step:
                raise Mismatch("the stream ended without an error")
        elif "error" not in step:
            raise Mismatch(f"the stream failed: {found}")
        else:
            check(step["error"], found, "the error")

    def _stream(self, step: dict[str, Any]) -> Stream:
        name = step.get("stream", "main")
        if name not in self._streams:
            raise Mismatch(f"no stream {name} is open")
        return self._streams[name]

    def _met(self, error: dict[str, Any]) -> dict[str, Any]:
        self.last_error = error
        return error


class Stream:
    """A stream as items."""

    def __init__(
        self,
        channel: grpc.Channel,
        path: str,
        method: Any,
        request: Message,
        timeout: float,
        headers: list[tuple[str, str]],
        met: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self._met = met
        self._frames: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._request_type = method.input_type
        self._items: list[Any] = []
        if method.name == "Converse":
            kind: Any = channel.stream_stream
            first: Any = self._sent()
            self._frames.put(request)
            self._cursor = int(request.attach.after_sequence)  # type: ignore[attr-defined]
        else:
            kind = channel.unary_stream
            first = request
            self._cursor = int(request.after_sequence)  # type: ignore[attr-defined]
        call = kind(path, lambda message: message.SerializeToString(), GetMessageClass(method.output_type).FromString)
        self._call = call(first, timeout=timeout, metadata=headers)

    def _sent(self) -> Iterator[Message]:
        while (frame := self._frames.get()) is not None:
            yield frame

    def send(self, frame: dict[str, Any]) -> None:
        """Send a frame."""
        self._frames.put(_message(self._request_type, frame))

    def half_close(self) -> None:
        """Send no more frames."""
        self._frames.put(None)

    def cut(self) -> None:
        """Cancel the call."""
        self._call.cancel()
        self._frames.put(None)

    def take(self) -> Any:
        """Return the next item. Mismatch at the stream's end."""
        try:
            while not self._items:
                self._items += self._items_of(next(self._call))
        except StopIteration:
            raise Mismatch("the stream ended") from None
        except grpc.RpcError as error:
            raise Mismatch(f"the stream failed: {self._met(error_of(error))}") from error
        return self._items.pop(0)

    def end(self) -> dict[str, Any] | None:
        """Wait for the stream's end; return its error. Mismatch when an item comes first."""
        try:
            while not self._items:
                self._items += self._items_of(next(self._call))
        except StopIteration:
            return None
        except grpc.RpcError as error:
            return self._met(error_of(error))
        raise Mismatch(f"the stream goes on with {str(self._items[0])[:200]}")

    def _items_of(self, frame: Any) -> list[Any]:
        kind = frame.WhichOneof("frame")
        if kind == "heartbeat":
            return []
        if kind == "events":
            batch = frame.events
            if batch.from_sequence != self._cursor + 1 or batch.to_sequence < batch.from_sequence:
                raise Mismatch(f"a batch covers {batch.from_sequence} to {batch.to_sequence} after {self._cursor}")
            last = batch.from_sequence - 1
            for entry in batch.entries:
                if not last < entry.sequence <= batch.to_sequence:
                    raise Mismatch(f"entry {entry.sequence} is out of order")
                last = entry.sequence
            self._cursor = batch.to_sequence
            return [{"entry": _document(entry)} for entry in batch.entries]
        if kind == "send_result" and frame.send_result.HasField("error"):
            error = self._met(error_object(frame.send_result.error))
            result = type(frame.send_result)()
            result.CopyFrom(frame.send_result)
            result.ClearField("error")
            return [{"sendResult": {**_document(result), "error": error}}]
        return [_document(frame)]


def error_of(error: Any) -> dict[str, Any]:
    """Return the error object of a failed call."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return error_object(status_pb2.Status.FromString(value))
    return error_object(status_pb2.Status(code=error.code().value[0], message=error.details() or ""))


def error_object(status: status_pb2.Status) -> dict[str, Any]:
    """Return the error object of a status."""
    found: dict[str, Any] = {"code": code_pb2.Code.Name(status.code), "message": status.message}
    found |= {"reason": "", "domain": "", "metadata": {}, "violations": [], "retryMs": 0}
    for detail in status.details:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            found |= {"reason": info.reason, "domain": info.domain, "metadata": dict(info.metadata)}
        elif detail.Unpack(bad):
            found["violations"] = [violation.field for violation in bad.field_violations]
        elif detail.Unpack(retry):
            found["retryMs"] = retry.retry_delay.ToMilliseconds()
    return found


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address)


def _headers(step: dict[str, Any]) -> list[tuple[str, str]]:
    return list(step.get("headers", {}).items())


def _method(name: str) -> tuple[str, Any]:
    service, _, method = name.partition(".")
    path = f"/stepwire.v1.{service}/{method}"
    for file in _FILES:
        found = file.DESCRIPTOR.services_by_name.get(service)
        if found is not None:
            return path, found.methods_by_name.get(method)
    raise Mismatch(f"there is no {service}")


def _message(descriptor: Any, document: dict[str, Any]) -> Message:
    return json_format.ParseDict(document, GetMessageClass(descriptor)())


def _document(message: Message) -> Any:
    return json_format.MessageToDict(message)


def _told(error: BaseException) -> str:
    return str(error)[:500]


def version() -> str:
    """Return what this column of the matrix ran with."""
    return ", ".join(
        [f"Python {sys.version.split()[0]}", *(f"{name} {found(name)}" for name in ("grpcio", "protobuf"))]
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print(version())  # noqa: T201 - what the option is for
    else:
        main(sys.argv[1])
