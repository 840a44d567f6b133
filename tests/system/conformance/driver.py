"""The reference driver: it runs the table with the stubs of the Python client.

python -m tests.system.conformance.driver TABLE.json
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version as found
from typing import Any, Final, Protocol

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from tests.system.conformance.matching import Mismatch, at_path, check, substitute

from stepwire.v1 import (
    run_service_pb2,
    schedule_service_pb2,
    snapshot_service_pb2,
    state_service_pb2,
    workflow_service_pb2,
)

_FILES: Final = (
    run_service_pb2,
    schedule_service_pb2,
    snapshot_service_pb2,
    state_service_pb2,
    workflow_service_pb2,
)
CALL_SECONDS: Final = 15.0
STREAM_SECONDS: Final = 30.0


class Wire(Protocol):
    """How a driver reaches one server."""

    def call(self, step: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
        """Make a unary call; return the response, or None and the error object."""

    def open(self, step: dict[str, Any]) -> Items:
        """Open a stream."""


class Items(Protocol):
    """A stream as items."""

    @property
    def carried(self) -> Sequence[str] | None:
        """Return the fields of entries that the stream carries; None for all. Patterns are compared in these."""

    def take(self) -> Any:
        """Return the next item. Ended at the stream's end."""

    def send(self, frame: dict[str, Any]) -> None:
        """Send a frame."""

    def half_close(self) -> None:
        """Send no more frames."""

    def cut(self) -> None:
        """Cancel the call."""


class Ended(Exception):
    """A stream came to its end; `error` is its error object, None for OK."""

    def __init__(self, error: dict[str, Any] | None) -> None:
        super().__init__("the stream ended" if error is None else f"the stream failed: {error}")
        self.error = error


def run_table(path: str, addresses: str, connect: Callable[[str], AbstractContextManager[Wire]]) -> None:
    """Run every scenario of a table; print one line for each.

    Args:
        path: The table.
        addresses: Which of its addresses: "servers" or "web".
        connect: Opens the way to an address.
    """
    with open(path, encoding="utf-8") as file:
        table = json.load(file)
    with contextlib.ExitStack() as stack:
        wires = {name: stack.enter_context(connect(address)) for name, address in table[addresses].items()}
        for scenario in table["scenarios"]:
            result = run_scenario(scenario, wires[scenario.get("server", "main")], table["vars"])
            print(json.dumps(result, ensure_ascii=False), flush=True)  # noqa: T201 - what a driver is for


def run_scenario(scenario: dict[str, Any], wire: Wire, variables: dict[str, Any]) -> dict[str, Any]:
    """Run one scenario; return its line."""
    run = Run(wire, dict(variables))
    detail = ""
    try:
        for number, step in enumerate(scenario["steps"]):
            try:
                run.step(step)
            except (Mismatch, Ended, grpc.RpcError, json_format.ParseError) as error:
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

    def __init__(self, wire: Wire, variables: dict[str, Any]) -> None:
        self._wire = wire
        self._variables = variables
        self._streams: dict[str, Items] = {}
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
        document, error = self._wire.call(step)
        if error is not None:
            self.last_error = error
            if "error" not in step:
                raise Mismatch(f"the call failed: {error}")
            check(step["error"], error, "the error")
            return error
        if "error" in step:
            raise Mismatch("the call succeeded")
        check(step.get("expect", {}), document, "the response")
        return document

    def _open(self, step: dict[str, Any]) -> None:
        self._streams[step.get("stream", "main")] = self._wire.open(step)

    def _receive(self, step: dict[str, Any]) -> Any:
        stream, item = self._stream(step), None
        for pattern in step["receive"]:
            item = self._take(stream)
            check(_carried(pattern, stream.carried), item, "the item")
        return item

    def _until(self, step: dict[str, Any]) -> Any:
        stream = self._stream(step)
        pattern = _carried(step["until"], stream.carried)
        while True:
            item = self._take(stream)
            with contextlib.suppress(Mismatch):
                check(pattern, item)
                return item

    def _end(self, step: dict[str, Any]) -> None:
        try:
            item = self._take(self._stream(step))
        except Ended as ended:
            if ended.error is None and "error" in step:
                raise Mismatch("the stream ended without an error") from None
            if ended.error is not None and "error" not in step:
                raise
            if ended.error is not None:
                check(step["error"], ended.error, "the error")
        else:
            raise Mismatch(f"the stream goes on with {str(item)[:200]}")

    def _take(self, stream: Items) -> Any:
        try:
            item = stream.take()
        except Ended as ended:
            self.last_error = ended.error or self.last_error
            raise
        self.last_error = item.get("sendResult", {}).get("error", self.last_error)
        return item

    def _stream(self, step: dict[str, Any]) -> Items:
        name = step.get("stream", "main")
        if name not in self._streams:
            raise Mismatch(f"no stream {name} is open")
        return self._streams[name]


def _carried(pattern: Any, fields: Sequence[str] | None) -> Any:
    """Return a pattern of an item without the fields of entries that the stream does not carry."""
    if fields is None or "entry" not in pattern:
        return pattern
    return {"entry": {name: item for name, item in pattern["entry"].items() if name in fields}}


class GrpcWire:
    """Calls and streams of one server over a channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def call(self, step: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
        """Make a unary call; return the response, or None and the error object."""
        path, method = _method(step["call"])
        timeout = step.get("deadline_ms", CALL_SECONDS * 1000) / 1000
        if "raw" in step:
            data = base64.b64decode(step["raw"])
        else:
            data = _message(method.input_type, step.get("request", {})).SerializeToString()
        call: Any = self._channel.unary_unary(path, None, None)
        try:
            answer = call(data, timeout=timeout, metadata=_headers(step))
        except grpc.RpcError as error:
            return None, error_of(error)
        return _document(GetMessageClass(method.output_type).FromString(answer)), None

    def open(self, step: dict[str, Any]) -> Stream:
        """Open a stream."""
        path, method = _method(step["open"])
        request = _message(method.input_type, step.get("request", {}))
        timeout = step.get("deadline_ms", STREAM_SECONDS * 1000) / 1000
        return Stream(self._channel, path, method, request, timeout, _headers(step))


class Stream:
    """A stream as items."""

    carried = None

    def __init__(
        self,
        channel: grpc.Channel,
        path: str,
        method: Any,
        request: Message,
        timeout: float,
        headers: list[tuple[str, str]],
    ) -> None:
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
        """Return the next item. Ended at the stream's end."""
        try:
            while not self._items:
                self._items += self._items_of(next(self._call))
        except StopIteration:
            raise Ended(None) from None
        except grpc.RpcError as error:
            raise Ended(error_of(error)) from error
        return self._items.pop(0)

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
            error = error_object(frame.send_result.error)
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


@contextlib.contextmanager
def _connect(address: str) -> Iterator[GrpcWire]:
    with grpc.insecure_channel(address) as channel:
        yield GrpcWire(channel)


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
        run_table(sys.argv[1], "servers", _connect)
