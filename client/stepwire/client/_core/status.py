"""From gRPC's errors to those of `stepwire.client.errors`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from stepwire.client import errors

DOMAIN = "stepwire"

_TOO_LARGE = "message larger than max"
_ADVICE = (
    ": the server takes no request of that size (--max-message-bytes), or the channel that this client was given"
    " takes no answer of that size (grpc.max_receive_message_length)"
)

_NO_CONNECTION = re.compile(
    r"failed to connect to all addresses; last error: (?:[A-Z_]+: )?(?:(.*?): Failed to connect to remote host)?"
)
"""What gRPC puts before the reason for which it has no connection; the address may be in it."""
_CANNOT_CONNECT = "cannot connect"
_NO_NAME = "DNS resolution failed"

_CLASSES: Mapping[grpc.StatusCode, type[errors.StepwireError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPreconditionError,
    grpc.StatusCode.ABORTED: errors.AbortedError,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRangeError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhaustedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnimplementedError,
    grpc.StatusCode.INTERNAL: errors.InternalServerError,
    grpc.StatusCode.UNKNOWN: errors.InternalServerError,
    grpc.StatusCode.DATA_LOSS: errors.InternalServerError,
}
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS: Mapping[str, type[Message]] = {
    descriptor.full_name: getattr(error_details_pb2, name)
    for name, descriptor in error_details_pb2.DESCRIPTOR.message_types_by_name.items()
}


def from_rpc_error(error: grpc.RpcError) -> errors.StepwireError:
    """Return the client's error for an error that a call of grpc or grpc.aio raised."""
    call: Any = error  # both kinds of RpcError have the methods of a finished Call
    try:
        rich = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        rich = None  # the details contradict the status: ignore them
    if rich is not None:
        return from_status(rich)
    message = call.details() or ""
    if _TOO_LARGE in message:
        message += _ADVICE
    message = _NO_CONNECTION.sub(
        lambda found: f"{_CANNOT_CONNECT} to {found[1]}" if found[1] else f"{_CANNOT_CONNECT}: ", message
    )
    return _build(call.code() or grpc.StatusCode.UNKNOWN, message, ())


def says_no_connection(error: errors.StepwireError) -> bool:
    """Tell whether gRPC says by an error that it has no connection, so that it has sent nothing."""
    return isinstance(error, errors.UnavailableError) and error.message.startswith((_CANNOT_CONNECT, _NO_NAME))


def from_status(status: status_pb2.Status) -> errors.StepwireError:
    """Return the client's error for a google.rpc.Status."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _build(code, status.message, status.details)


def _build(code: grpc.StatusCode, message: str, packed: Iterable[AnyMessage]) -> errors.StepwireError:
    details = [_unpack(item) for item in packed]
    reason, reference, retry_after = "", "", None
    metadata: dict[str, str] = {}
    violations: list[errors.FieldViolation] = []
    for detail in details:
        if isinstance(detail, error_details_pb2.ErrorInfo) and detail.domain == DOMAIN:
            reason, metadata = detail.reason, dict(detail.metadata)
            reference = metadata.get("reference_id", reference)
        elif isinstance(detail, error_details_pb2.BadRequest):
            violations += [
                errors.FieldViolation(item.field, item.description, item.reason) for item in detail.field_violations
            ]
        elif isinstance(detail, error_details_pb2.RetryInfo):
            retry_after = detail.retry_delay.ToTimedelta().total_seconds()
        elif isinstance(detail, error_details_pb2.RequestInfo):
            reference = reference or detail.request_id
    return _CLASSES.get(code, errors.StepwireError)(
        message or code.name,
        code=code,
        reason=reason,
        details=details,
        field_violations=violations,
        retry_after=retry_after,
        reference_id=reference,
        metadata=metadata,
    )


def _unpack(packed: AnyMessage) -> Message:
    """Return the google.rpc message inside, or the Any itself when it holds another type."""
    known = _DETAILS.get(packed.TypeName())
    if known is None:
        return packed
    try:
        return known.FromString(packed.value)
    except DecodeError:
        return packed
