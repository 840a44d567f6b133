"""Between the contract's messages and domain types. Nothing else knows both."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.server.registry import Served
from stepwire.server.rpc.payloads import json_of, payload
from stepwire.server.runs.errors import InvalidError, Violation
from stepwire.server.runs.requests import SnapshotData, StartRequest
from stepwire.server.store import RunRecord
from stepwire.server.telemetry.tracing import CARRIER
from stepwire.v1 import run_service_pb2, types_pb2, workflow_service_pb2

FORMAT_VERSION = 1
_STATUS_PREFIX = "RUN_STATUS_"
_STATUS_NUMBERS: dict[str, types_pb2.RunStatus] = {
    name.removeprefix(_STATUS_PREFIX): number  # type: ignore[misc]
    for name, number in types_pb2.RunStatus.items()
}
_SERVER_PAGE = (1, 1000, 100)


def seconds_of(duration: Duration) -> float:
    """Return a duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def wait_of(request: Any, field: str) -> float | None:
    """Return how long a request wants to wait at most, in seconds; None when it says nothing."""
    if not request.HasField(field):
        return None
    seconds = seconds_of(getattr(request, field))
    if seconds < 0:
        raise InvalidError("INVALID_REQUEST", "The request is not valid", [Violation(field, "must not be negative")])
    return seconds


def duration(seconds: float) -> Duration:
    """Return seconds as a duration."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def time_of(timestamp: Timestamp) -> float:
    """Return a timestamp in seconds since the epoch."""
    return timestamp.seconds + timestamp.nanos / 1e9


def just_before(timestamp: Timestamp) -> float:
    """Return a lower bound as the store takes it: exclusive, while the contract's is inclusive."""
    return math.nextafter(time_of(timestamp), -math.inf)


def timestamp(seconds: float) -> Timestamp:
    """Return seconds since the epoch as a timestamp."""
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))


def status_number(status: str) -> types_pb2.RunStatus:
    """Return the contract's number of a stored status."""
    return _STATUS_NUMBERS[status]


def status_names(numbers: Any) -> list[str]:
    """Return the stored statuses of a filter."""
    names: list[str] = []
    for number in numbers:
        if number == types_pb2.RUN_STATUS_UNSPECIFIED:
            continue
        try:
            names.append(types_pb2.RunStatus.Name(number).removeprefix(_STATUS_PREFIX))
        except ValueError as error:
            raise InvalidError(
                "INVALID_REQUEST", "The request is not valid", [Violation("statuses", "has an unknown status")]
            ) from error
    return names


def page_size(asked: int) -> int:
    """Return the size of a page: 1 to 1000, 100 when nothing was asked for."""
    low, high, default = _SERVER_PAGE
    if asked < 0:
        raise InvalidError(
            "INVALID_REQUEST", "The request is not valid", [Violation("page_size", "must not be negative")]
        )
    return default if asked == 0 else max(low, min(high, asked))


def page_token(place: list[Any], bound: str) -> str:
    """Return an opaque token for a place in a listing; `bound` ties it to the listing's filter."""
    return base64.urlsafe_b64encode(json.dumps([bound, place]).encode()).decode()


def page_place(token: str, bound: str, *kinds: type[Any]) -> list[Any]:
    """Return the place of a token, whose parts are of these kinds.

    InvalidError (INVALID_PAGE_TOKEN) for another filter's, or none of ours.
    """
    try:
        found, place = _load(base64.urlsafe_b64decode(token.encode()))
        fits = [type(part) for part in place] == list(kinds) and all(_storable(part) for part in place)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidError("INVALID_PAGE_TOKEN", "The page_token is not one of this server's") from error
    if found != bound or not fits:
        raise InvalidError("INVALID_PAGE_TOKEN", "The page_token belongs to another filter")
    return list(place)


def _storable(part: Any) -> bool:
    """Tell whether a store can compare with a part of a place; ValueError for text that none can hold."""
    if isinstance(part, str):
        part.encode()
    return not isinstance(part, int) or abs(part) < 1 << 63


# -- runs ---------------------------------------------------------------------------------------------------------


def start_request(request: run_service_pb2.StartRunRequest, snapshot: SnapshotData | None) -> StartRequest:
    """Return a StartRun as the runs take it; `snapshot` is its verified snapshot."""
    source = request.WhichOneof("source")
    policy = request.run_id_conflict_policy
    if policy not in (0, 1, 2):
        raise InvalidError(
            "INVALID_REQUEST",
            "The request is not valid",
            [Violation("run_id_conflict_policy", "is unknown")],
        )
    ref = getattr(request, "from") if source == "from" else None
    return StartRequest(
        workflow=request.workflow,
        input=json_of(request.input, "INVALID_INPUT"),
        run_id=request.run_id,
        use_existing=policy == run_service_pb2.RUN_ID_CONFLICT_POLICY_USE_EXISTING,
        request_id=request.request_id,
        labels=dict(request.labels),
        snapshot=snapshot,
        from_run=None if ref is None else (ref.run_id, ref.sequence),
        timeout=seconds_of(request.timeout) if request.HasField("timeout") else None,
        trace=dict(CARRIER.get()),
    )


def run(record: RunRecord, encoding: int) -> types_pb2.Run:
    """Return a record as a Run."""
    info = record.info
    message = types_pb2.Run(
        run_id=record.key.run_id,
        workflow=record.workflow,
        workflow_version=info.get("version", ""),
        status=status_number(record.status),
        labels=record.labels,
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        ended_at=None if record.ended_at is None else timestamp(record.ended_at),
        timeout_at=None if info.get("timeout_at") is None else timestamp(info["timeout_at"]),
        last_sequence=record.last_sequence,
        first_available=record.first_available,
        blocked_reason=info.get("blocked_reason", ""),
    )
    if (origin := info.get("forked_from")) is not None:
        message.forked_from.run_id = origin["run_id"]
        message.forked_from.sequence = origin["sequence"]
    for waiter in info.get("pending", ()):
        message.pending_waiters.append(pending_waiter(waiter, encoding))
    if (ended := outcome(record, encoding)) is not None:
        message.outcome.CopyFrom(ended)
    return message


def pending_waiter(waiter: Mapping[str, Any], encoding: int) -> types_pb2.PendingWaiter:
    """Return an open question."""
    message = types_pb2.PendingWaiter(
        waiter_id=waiter["waiter_id"],
        event_type=waiter["event_type"],
        requirements=payload(json.dumps(waiter["requirements"], ensure_ascii=False).encode(), encoding),
        step=waiter["step"],
    )
    if waiter["prompt_type"]:
        message.prompt.type = waiter["prompt_type"]
        message.prompt.payload.CopyFrom(payload(waiter["prompt"].encode(), encoding))
    if waiter["deadline"] is not None:
        message.deadline.CopyFrom(timestamp(waiter["deadline"]))
    return message


def outcome(record: RunRecord, encoding: int) -> types_pb2.Outcome | None:
    """Return how a run ended; None while it lives."""
    info = record.info.get("outcome")
    if info is None:
        return None
    message = types_pb2.Outcome(
        status=status_number(info["status"]), event_type=info["event_type"], reason=info.get("reason", "")
    )
    if "result" in info:
        message.result.CopyFrom(payload(info["result"].encode(), encoding))
    if "failure" in info:
        message.failure.CopyFrom(types_pb2.Failure(**info["failure"]))
    return message


# -- snapshots ----------------------------------------------------------------------------------------------------


def snapshot_message(snapshot: SnapshotData, status: str, state_type: str) -> types_pb2.ContextSnapshot:
    """Return a snapshot as a message, unsigned."""
    message = types_pb2.ContextSnapshot(
        format_version=FORMAT_VERSION,
        workflow=snapshot.workflow,
        workflow_version=snapshot.version,
        run_id=snapshot.run_id,
        sequence=snapshot.sequence,
        created_at=timestamp(snapshot.at),
        status=status_number(status),
        state_type=state_type,
    )
    buffers: dict[str, dict[str, Any]] = {}
    pages: dict[str, dict[int, bytes]] = {}
    answers: dict[str, dict[int, Any]] = {}
    for key, part in snapshot.parts.items():
        if key[:2] in ("x/", "a/"):
            kind, number, index = key.split("/")
            if kind == "x":
                pages.setdefault(number, {})[int(index)] = base64.b64decode(part)
            else:
                answers.setdefault(number, {})[int(index)] = part
    for key, part in snapshot.parts.items():
        kind, _, rest = key.partition("/")
        if kind == "h":
            message.head_json = _dump(part)
        elif kind == "s":
            message.state_json[rest] = _dump(part)
        elif kind == "b":
            buffers.setdefault(part["i"], {})[rest] = part["e"]
        elif kind == "w":
            message.waiters.add(number=int(rest), data_json=_dump(part))
        elif kind == "d":
            place = message.queued if part["st"] == "queued" else message.in_progress
            data = {name: value for name, value in part.items() if name not in ("s", "a", "c")}
            ledger: dict[str, Any] = {"c": part["c"]} if "c" in part else {}
            if rest in answers:
                ledger["a"] = [answer for _, answer in sorted(answers[rest].items())]
            effects = b"".join(data for _, data in sorted(pages.get(rest, {}).items()))
            place.add(
                delivery_id=int(rest),
                step=part["s"],
                event_type=_event_type(part["e"]),
                data_json=_dump(data),
                ledger_json=_dump(ledger) if ledger else b"",
                effects=effects,
                attempt=part["a"],
            )
    for buffer_id, events in buffers.items():
        message.buffers.add(buffer_id=buffer_id, events_json=_dump(events))
    return message


def snapshot_status(snapshot: SnapshotData, record: RunRecord) -> str:
    """Return the status of a run at the moment of a snapshot."""
    if snapshot.sequence == record.last_sequence:
        return record.status
    head = snapshot.parts.get("h", {})
    if "outcome" in head:
        return str(head["outcome"]).upper()
    deliveries = [part for key, part in snapshot.parts.items() if key.startswith("d/")]
    return "WAITING" if all(part["st"] == "parked" for part in deliveries) else "RUNNING"


def snapshot_data(message: types_pb2.ContextSnapshot) -> SnapshotData:
    """Return a snapshot message's content. InvalidError (INVALID_SNAPSHOT) when it is malformed."""
    if message.format_version != FORMAT_VERSION:
        raise InvalidError(
            "INVALID_SNAPSHOT", f"The snapshot has format version {message.format_version}; this is {FORMAT_VERSION}"
        )
    try:
        head = _load(message.head_json)
        if not isinstance(head, dict):
            raise TypeError
        parts: dict[str, Any] = {"h": head}
        for key, value in message.state_json.items():
            parts[f"s/{key}"] = _load(value)
        for buffer in message.buffers:
            for number, event in _load(buffer.events_json).items():
                parts[f"b/{int(number)}"] = {"i": buffer.buffer_id, "e": event}
        for waiter in message.waiters:
            parts[f"w/{waiter.number}"] = _load(waiter.data_json)
        for delivery in (*message.queued, *message.in_progress):
            part = {**_load(delivery.data_json), "s": delivery.step, "a": delivery.attempt}
            if delivery.ledger_json:
                ledger = _load(delivery.ledger_json)
                if "c" in ledger:
                    part["c"] = ledger["c"]
                for number, answer in enumerate(ledger.get("a", ())):
                    parts[f"a/{delivery.delivery_id}/{number}"] = answer
            parts[f"d/{delivery.delivery_id}"] = part
            for start in range(0, len(delivery.effects), 4096):
                page = base64.b64encode(delivery.effects[start : start + 4096]).decode()
                parts[f"x/{delivery.delivery_id}/{start // 4096}"] = page
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidError("INVALID_SNAPSHOT", "The snapshot is malformed") from error
    return SnapshotData(
        message.workflow,
        message.workflow_version,
        message.run_id,
        message.sequence,
        time_of(message.created_at),
        parts,
    )


def _load(data: bytes) -> Any:
    # Bytes as they are would be looked at for other encodings, and their codecs imported.
    return json.loads(data.decode())


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _event_type(event: Any) -> str:
    """Return the type name of a tagged event."""
    tagged = event.get("$model") if isinstance(event, dict) else None
    return str(tagged[0]) if isinstance(tagged, list) and tagged else ""


# -- workflows ----------------------------------------------------------------------------------------------------


def workflow(served: Served) -> workflow_service_pb2.Workflow:
    """Return a served workflow."""
    description = served.description
    message = workflow_service_pb2.Workflow(
        name=served.name,
        version=served.version,
        description=served.doc,
        start_event=served.workflow.start_event_class.__name__,
        stop_event=served.workflow.stop_event_class.__name__,
        state_type=served.state_type,
        mermaid=served.workflow.draw(),
    )
    for step in description.steps:
        message.steps.add(
            name=step.name,
            accepts=step.accepts,
            returns=step.returns,
            num_workers=step.num_workers,
            description=step.doc,
        )
    events = served.names.events()
    for name, cls in served.names.items():
        role = served.role(cls)
        message.types.add(
            name=name,
            role=types_pb2.EventRole.Value(f"EVENT_ROLE_{role}") if role else types_pb2.EVENT_ROLE_UNSPECIFIED,
            is_event=name in events,
            sendable=name in served.sendable,
            json_schema=json.dumps(served.names.json_schema(name), ensure_ascii=False),
        )
    for edge in description.edges:
        message.edges.add(source=edge.source, event_type=edge.event, target=edge.target)
    if served.timeout is not None:
        message.timeout.CopyFrom(duration(served.timeout))
    return message
