//! Error objects, made from statuses.

use std::{error::Error, iter::successors};

use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{RpcStatusExt, pb};

const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Makes the error object of a failed call.
pub fn of_call(status: &Status) -> Value {
    let found = pb::Status::decode(status.details()).unwrap_or_default();
    if found.code != 0 {
        return of_status(&found);
    }
    // tonic's own timer, when it is faster than the server's answer, says CANCELLED: the deadline is what passed.
    let mut causes = successors(status.source(), |&cause| cause.source());
    let expired = causes.any(|cause| cause.is::<TimeoutExpired>());
    let code = if expired { Code::DeadlineExceeded } else { status.code() };
    of_status(&pb::Status { code: code as i32, message: status.message().into(), details: vec![] })
}

/// Makes the error object of a `google.rpc.Status`.
pub fn of_status(status: &pb::Status) -> Value {
    let details = status.get_error_details();
    let info = details.error_info();
    let violations: Vec<_> =
        details.bad_request().iter().flat_map(|bad| &bad.field_violations).map(|one| &one.field).collect();
    let retry = details.retry_info().and_then(|retry| retry.retry_delay);
    json!({
        "code": CODES.get(status.code as usize).unwrap_or(&"UNKNOWN"),
        "message": status.message,
        "reason": info.map_or("", |info| &info.reason),
        "domain": info.map_or("", |info| &info.domain),
        "metadata": info.map(|info| &info.metadata).cloned().unwrap_or_default(),
        "violations": violations,
        "retryMs": retry.map_or(0, |delay| delay.as_millis() as u64),
    })
}
