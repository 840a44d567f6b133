"""Tell errors over HTTP: each has the code, the message and the details that a gRPC client would get.

The Connect library has errors of its own, for requests that are wrong before they are a call: they get the reason here.
The code is the one that the protocol prescribes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.interceptor import MetadataInterceptor
from connectrpc.request import RequestContext
from google.rpc.status_pb2 import Status
from protobuf.wkt import Any as PackedAny
from starlette.responses import JSONResponse

from stepwire.server.rpc import LocalCalls
from stepwire.server.rpc.errors import status_with
from stepwire.server.runs.errors import LimitError

__all__ = ["Explain", "Explained", "code_of", "connect_error", "error_answer", "error_body"]

_CODES: Final[Mapping[int, Code]] = {
    1: Code.CANCELED,
    2: Code.UNKNOWN,
    3: Code.INVALID_ARGUMENT,
    4: Code.DEADLINE_EXCEEDED,
    5: Code.NOT_FOUND,
    6: Code.ALREADY_EXISTS,
    7: Code.PERMISSION_DENIED,
    8: Code.RESOURCE_EXHAUSTED,
    9: Code.FAILED_PRECONDITION,
    10: Code.ABORTED,
    11: Code.OUT_OF_RANGE,
    12: Code.UNIMPLEMENTED,
    13: Code.INTERNAL,
    14: Code.UNAVAILABLE,
    15: Code.DATA_LOSS,
    16: Code.UNAUTHENTICATED,
}
_NUMBERS: Final = {code: number for number, code in _CODES.items()}

_REASONS: Final[Mapping[Code, str]] = {
    Code.INVALID_ARGUMENT: "MALFORMED_MESSAGE",  # flags or length of an envelope, what cannot be unpacked
    Code.INTERNAL: "MALFORMED_MESSAGE",  # an envelope that is marked as compressed in a request that is not
    Code.UNIMPLEMENTED: "INVALID_REQUEST",  # an unknown compression, no message or several, Converse
}
"""Reasons of the library's errors once it knows the method. RESOURCE_EXHAUSTED is LIMIT_EXCEEDED, see `Explain`."""

_TRANSPORT: Final = frozenset({Code.CANCELED, Code.DEADLINE_EXCEEDED})
"""What has no reason over gRPC either: the caller has left, or its deadline came."""

_STATUS_WORDS: Final[Mapping[int, str]] = {
    405: "This is a method of the contract: call it with POST",
    415: "Say what the body is, as with curl -H 'content-type: application/json'",
}
"""What is wrong with a request that is not one of Connect, by the status that it gets."""

_DETAILS: Final = "grpc-status-details-bin"
_REFUSED: Final = "3"
"""INVALID_ARGUMENT, as gRPC writes it in headers."""
_MESSAGE: Final = 1024
"""Characters of a message. Those of the library quote headers, which may have 64 KiB."""


class _ToldError(ConnectError):
    """A status of a call, with the details that it has over gRPC."""


def code_of(status: Status) -> Code:
    """Return Connect's code of a status."""
    return _CODES.get(status.code, Code.UNKNOWN)


def connect_error(status: Status) -> ConnectError:
    """Return a gRPC status as Connect's error, with the same details."""
    details = [ErrorDetail(PackedAny(type_url=each.type_url, value=each.value)) for each in status.details]
    return _ToldError(code_of(status), status.message, details)


def error_body(status: Status) -> dict[str, Any]:
    """Return a status as Connect writes it in JSON: code, message, details."""
    details = [{"type": each.type_url.rpartition("/")[2], "value": _base64(each.value)} for each in status.details]
    return {"code": code_of(status).value, "message": status.message, **({"details": details} if details else {})}


def error_answer(
    scope: Any, http_status: int, status: Status, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return a response that tells an error in JSON, and to clients of gRPC and gRPC-Web in headers as well."""
    told = dict(headers or {})
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if kind.startswith(b"application/grpc"):
        told |= _grpc_headers(status)
    return JSONResponse(error_body(status), status_code=http_status, headers=told)


def _grpc_headers(status: Status) -> dict[str, str]:
    return {
        "grpc-status": str(status.code),
        "grpc-message": quote(status.message, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~"),
        _DETAILS: _base64(status.SerializeToString()),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


class Explain(MetadataInterceptor[None]):
    """Give the errors that the library makes, once it knows the method, a reason; hide what nobody expects.

    Args:
        calls: Logs and counts as for calls over gRPC.
        max_bytes: The longest request.
    """

    def __init__(self, calls: LocalCalls, max_bytes: int) -> None:
        self._calls = calls
        self._max_bytes = max_bytes

    async def on_start(self, ctx: RequestContext[Any, Any]) -> None:
        """Let the call begin."""

    async def on_end(self, token: None, ctx: RequestContext[Any, Any], error: Exception | None, /) -> None:
        """Raise an error with a reason in the place of one that has none."""
        if error is None or isinstance(error, _ToldError):
            return
        if isinstance(error, ConnectError) and error.code in _TRANSPORT:
            return
        status: Status
        if isinstance(error, ConnectError) and (reason := _REASONS.get(error.code)):
            status = status_with(reason, error.message[:_MESSAGE])
            status.code = _NUMBERS[error.code]
        else:
            found: Exception = error
            if isinstance(error, ConnectError) and error.code is Code.RESOURCE_EXHAUSTED:
                found = LimitError(
                    f"A message may have at most {self._max_bytes} bytes (max_message_bytes)", limit="message_bytes"
                )
            status = self._calls.status_of(found, f"/{ctx.method.service_name}/{ctx.method.name}")
        raise connect_error(status) from None


class Explained:
    """Send a response of the library; give a reason and words to errors that come before it knows the method.

    These are statuses without a body, and refusals of headers.
    """

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._held: Any = None
        """The start of an error in JSON, until its body is known."""
        self._replaced = False

    async def __call__(self, message: Any) -> None:
        """Take a message of the application."""
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            await self._begin(message)
            return
        if self._held is not None:
            start, self._held = self._held, None
            body = json.loads(message["body"])
            if "details" not in body:
                await self._replace(400, body["message"], {})
                return
            await self._send(start)
        await self._send(message)

    async def _begin(self, message: Any) -> None:
        status, written = message["status"], message.get("headers", ())
        if status == 200 and not any(name == b"grpc-status" for name, _ in written):
            await self._send(message)
            return
        headers = {name.decode().lower(): value.decode() for name, value in written}
        if told := _STATUS_WORDS.get(status):
            kept = {name: value for name, value in headers.items() if not name.startswith("content-")}
            await self._replace(status, told, kept)
        elif status == 400:
            self._held = message
        elif headers.get("grpc-status") == _REFUSED and _DETAILS not in headers:
            headers |= _grpc_headers(_refused(unquote(headers.get("grpc-message", ""))))
            written = [(name.encode(), value.encode()) for name, value in headers.items()]
            await self._send({**message, "headers": written})
        else:
            await self._send(message)

    async def _replace(self, http_status: int, told: str, headers: Mapping[str, str]) -> None:
        self._replaced = True
        answer = error_answer(self._scope, http_status, _refused(told), headers)
        await answer(self._scope, self._receive, self._send)


def _refused(told: str) -> Status:
    return status_with("INVALID_REQUEST", told[:_MESSAGE])
