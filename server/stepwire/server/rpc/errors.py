"""The one table from the reasons of domain errors to status codes, and the google.rpc details of each status."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from stepwire.server.auth import CredentialError
from stepwire.server.rpc.grpc_types import Context
from stepwire.server.runs.errors import InvalidError, LimitError, RunsError, UnauthenticatedError, as_runs_error
from stepwire.server.store import StoreError, level_of
from stepwire.server.telemetry.metrics import Metrics

logger = logging.getLogger("stepwire.rpc")

DOMAIN: Final = "stepwire"
MAX_DETAILS_BYTES: Final = 8 * 1024
"""Bytes of a status with its details: HTTP/2 headers beyond that are refused by many clients and proxies."""

CODES: Final[dict[str, grpc.StatusCode]] = {
    "WORKFLOW_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "RUN_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SCHEDULE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "STEP_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "PATH_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SNAPSHOT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "INVALID_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_INPUT": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_EVENT": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_PATH": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_STATE": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_SNAPSHOT": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_PAGE_TOKEN": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_FRAME": grpc.StatusCode.INVALID_ARGUMENT,
    "MALFORMED_MESSAGE": grpc.StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_EVENT_TYPE": grpc.StatusCode.INVALID_ARGUMENT,
    "INTERNAL_EVENT": grpc.StatusCode.INVALID_ARGUMENT,
    "STEP_DOES_NOT_ACCEPT": grpc.StatusCode.INVALID_ARGUMENT,
    "SNAPSHOT_WORKFLOW_MISMATCH": grpc.StatusCode.INVALID_ARGUMENT,
    "RUN_ENDED": grpc.StatusCode.FAILED_PRECONDITION,
    "RUN_BLOCKED": grpc.StatusCode.FAILED_PRECONDITION,
    "RUN_NOT_ENDED": grpc.StatusCode.FAILED_PRECONDITION,
    "RUN_NOT_RETRYABLE": grpc.StatusCode.FAILED_PRECONDITION,
    "RUN_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "SCHEDULE_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "REQUEST_ID_REUSED": grpc.StatusCode.ALREADY_EXISTS,
    "ETAG_MISMATCH": grpc.StatusCode.ABORTED,
    "SEQUENCE_OUT_OF_RANGE": grpc.StatusCode.OUT_OF_RANGE,
    "LIMIT_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "RUN_ELSEWHERE": grpc.StatusCode.UNAVAILABLE,
    "STORE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "DATA_DAMAGED": grpc.StatusCode.DATA_LOSS,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}
"""Reason to code: the error table of the contract. A test goes through every row."""

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


class PassedOnError(Exception):
    """Another replica refused a call that was passed on to it.

    Attributes:
        status: What the client is answered.
    """

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


def reason_of(error: BaseException) -> tuple[int, str]:
    """Return the number of the code and the reason that `status_of` gives an error; counts and logs nothing."""
    if isinstance(error, PassedOnError):
        return error.status.code, ""
    if isinstance(error, StoreError):
        error = as_runs_error(error)
    elif isinstance(error, CredentialError):
        error = UnauthenticatedError(str(error), why=error.why)
    reason = error.code_reason if isinstance(error, RunsError) else "INTERNAL"
    code: int = CODES[reason].value[0]
    return code, reason


def status_of(error: BaseException, method: str, metrics: Metrics) -> status_pb2.Status:
    """Return the status that a client gets for an error, and count a refusal.

    An error that is not in the table is INTERNAL with a reference id; the log has its text under that id.
    """
    if isinstance(error, PassedOnError):
        return error.status
    if isinstance(error, StoreError):
        logger.log(level_of(error, logging.ERROR), "%s: %s", method, error)
        error = as_runs_error(error)
    elif isinstance(error, CredentialError):
        error = UnauthenticatedError(str(error), why=error.why)
    if not isinstance(error, RunsError):
        reference = uuid.uuid4().hex[:16]
        logger.error("%s failed unexpectedly (reference %s)", method, reference, exc_info=error)
        return status_with("INTERNAL", "Internal error", {"reference_id": reference}, [])
    if error.refusal is not None:
        metrics.refused[error.refusal] += 1
    details: list[Message] = []
    if isinstance(error, InvalidError) and error.violations:
        bad = error_details_pb2.BadRequest()
        size = 0
        for field, description in error.violations:
            size += len(field) + len(description) + 16
            if size > MAX_DETAILS_BYTES // 2:
                break
            bad.field_violations.add(field=field[:512], description=description[:512])
        details.append(bad)
    if isinstance(error, LimitError):
        if error.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(int(error.retry_after * 1000))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        else:
            quota = error_details_pb2.QuotaFailure()
            quota.violations.add(subject=error.limit, description=str(error)[:512])
            details.append(quota)
    return status_with(error.code_reason, str(error)[:1024], error.facts, details)


def status_with(
    reason: str, message: str, facts: Mapping[str, str] | None = None, details: Sequence[Message] = ()
) -> status_pb2.Status:
    """Return the status of a reason of the table, with its ErrorInfo.

    Args:
        reason: The reason.
        message: What happened, for people.
        facts: Metadata of the ErrorInfo.
        details: What goes behind the ErrorInfo.
    """
    status = status_pb2.Status(code=CODES[reason].value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    for name, value in (facts or {}).items():
        info.metadata[name] = value[:512]
    for detail in (info, *details):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


async def abort(context: Context, status: status_pb2.Status) -> None:
    """End a call with a status and its details."""
    code = _BY_NUMBER[status.code]
    aborting = context.abort(code, status.message, (("grpc-status-details-bin", status.SerializeToString()),))
    del context  # gRPC keeps the exception that ends a call, and with it this frame
    await aborting
