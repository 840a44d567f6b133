"""Stream a run's events as server-sent events: `GET /v1/runs/{run_id}/events`.

Each entry of the run's stream is one event: `id` is its sequence, `event` its type, `data` its payload as JSON. A
browser that reconnects sends the last id as `Last-Event-ID`, and the stream resumes after it. Heartbeats are comments.
When the run ends, an event called `end` carries the outcome, and the response ends.
See https://html.spec.whatwg.org/multipage/server-sent-events.html for the format.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import JSONResponse

from stepwire.server.rpc import LocalCalls, LocalStream, RefusedError
from stepwire.server.rpc.errors import status_with
from stepwire.server.web.columns import columns
from stepwire.server.web.errors import error_body
from stepwire.server.web.headers import metadata_of
from stepwire.v1 import run_service_pb2, types_pb2
from stepwire.workflow.hosting import start_task

__all__ = ["END", "RunEventsEndpoint", "no_such_path"]

END: Final = "end"
"""The name of the last event. No event type can be called so: types are class names, and the terminal entry has one."""
EXECUTION: Final = "execution"
"""The name of an entry that records an attempt at a step. Only `internal=true` asks for these."""
CHILD: Final = "child"
"""The name of an entry that tells of a run that a step has started. Only `internal=true` asks for these."""
FAILED: Final = "error"
"""The name of the event that says why a stream ends before the run does."""
_EVENT: Final = b"id: %d\nevent: %b\ndata: %b\n\n"
"""An entry, from its sequence, type and JSON: JSON has no line breaks outside strings, and escapes them inside."""

_METHOD: Final = "/stepwire.v1.RunService/StreamEvents"
_MAX_SEQUENCE = (1 << 63) - 1
_HTTP_STATUS: Final = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 14: 503, 16: 401}
"""gRPC code → HTTP status, as the Connect protocol maps them; others are 500."""
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]

Send = Callable[[dict[str, Any]], Awaitable[None]]


class RunEventsEndpoint:
    """The ASGI endpoint of a run's events."""

    def __init__(self, calls: LocalCalls) -> None:
        self._calls = calls

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["method"] not in ("GET", "HEAD"):
            status = status_with("INVALID_REQUEST", "The events of a run are read with GET")
            await JSONResponse(error_body(status), 405, {"allow": "GET, HEAD"})(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            call = self._call(request)
        except ValueError as error:
            await JSONResponse(error_body(status_with("INVALID_REQUEST", str(error))), 400)(scope, receive, send)
            return
        try:
            try:
                await call.accepted()
            except RefusedError as error:
                await _failure(error)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            # A reader that left makes `send` raise or do nothing; its disconnect cancels the call.
            async with _watched(receive, call):
                await _copy(call, send)
        finally:
            call.close()
            await call.closed()

    def _call(self, request: Request) -> LocalStream:
        """Begin the stream that a request asks for. ValueError for a wrong parameter."""
        query = request.query_params
        unknown = sorted(set(query) - {"after", "type", "internal"})
        if unknown:
            raise ValueError(f"unknown parameter {unknown[0]!r}; there are after, type and internal")
        internal = query.get("internal", "false")
        if internal not in ("true", "false"):
            raise ValueError("internal is true or false")
        stream = run_service_pb2.StreamEventsRequest(
            run_id=request.path_params["run_id"],
            after_sequence=_sequence(request),
            options=run_service_pb2.StreamOptions(
                encoding=types_pb2.PAYLOAD_ENCODING_JSON,
                include_internal=internal == "true",
                event_types=query.getlist("type"),
            ),
        )
        return self._calls.stream(_METHOD, stream.SerializeToString(), metadata_of(request.headers))


async def no_such_path(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request for a path below `/v1/` that has nothing."""
    status = status_with("INVALID_REQUEST", "There is only /v1/runs/RUN_ID/events")
    await JSONResponse(error_body(status), 404)(scope, receive, send)


def _sequence(request: Request) -> int:
    """Return the sequence behind which the stream begins: Last-Event-ID, else the parameter `after`, else 0."""
    name, text = "Last-Event-ID", request.headers.get("last-event-id", "")
    if not text:
        name, text = "after", request.query_params.get("after", "0")
    if not (text.isascii() and text.isdigit()) or int(text[:20]) > _MAX_SEQUENCE:
        raise ValueError(f"{name} is a sequence: a whole number from 0")
    return int(text)


async def _copy(call: LocalStream, send: Send) -> None:
    """Write frames as they come until the run or the call ends."""
    try:
        async for response in call:
            await send({"type": "http.response.body", "body": _text(response), "more_body": True})
    except RefusedError as error:
        # EventSource connects again by itself, with the last id.
        await send(
            {"type": "http.response.body", "body": _named(FAILED, _json(error_body(error.status))), "more_body": True}
        )
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _text(response: bytes | Message) -> bytes:
    """Return a response of StreamEvents as server-sent events and comments."""
    if isinstance(response, bytes):
        if (found := columns(response)) is not None and (number := len(found[0])):
            flat: list[Any] = [None] * (3 * number)
            flat[0::3], flat[1::3], flat[2::3] = found
            return _EVENT * number % tuple(flat)
        frame = run_service_pb2.StreamEventsResponse.FromString(response)
    else:
        assert isinstance(response, run_service_pb2.StreamEventsResponse)
        frame = response
    kind = frame.WhichOneof("frame")
    if kind == "heartbeat":
        return b": heartbeat at %d\n\n" % frame.heartbeat.sequence
    if kind == "finished":
        return _named(END, _outcome(frame.finished.outcome))
    return _events(frame.events.entries) or b": at %d\n\n" % frame.events.to_sequence


def _events(entries: Iterable[types_pb2.LogEntry]) -> bytes:
    """Return entries as server-sent events, those without an event among them."""
    return b"".join(
        _EVENT % (entry.sequence, entry.type.encode(), entry.payload.json) if entry.type else _without_event(entry)
        for entry in entries
    )


def _without_event(entry: types_pb2.LogEntry) -> bytes:
    """Return what an entry tells of an attempt at a step or of a child as a server-sent event."""
    name, told = (CHILD, entry.child) if entry.HasField("child") else (EXECUTION, entry.execution)
    data = json.dumps({"step": entry.step, **MessageToDict(told)}, ensure_ascii=False)
    return b"id: %d\n" % entry.sequence + _named(name, data)


def _named(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def _outcome(outcome: types_pb2.Outcome) -> str:
    """Return an outcome as JSON with its result as plain JSON."""
    shown = MessageToDict(outcome)
    if outcome.HasField("result"):
        shown["result"] = json.loads(outcome.result.json)
    return json.dumps(shown, ensure_ascii=False)


def _json(body: dict[str, Any]) -> str:
    return bytes(JSONResponse(body).body).decode()


def _failure(error: RefusedError) -> JSONResponse:
    return JSONResponse(error_body(error.status), status_code=_HTTP_STATUS.get(error.status.code, 500))


@contextlib.asynccontextmanager
async def _watched(receive: Any, call: LocalStream) -> Any:
    """Cancel the call when the reader disconnects."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        call.close()

    task = start_task(watch(), name="stepwire-sse-disconnect")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
