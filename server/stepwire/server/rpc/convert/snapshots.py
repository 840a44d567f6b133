"""Snapshots between the contract's messages and the parts that the store keeps."""

from __future__ import annotations

import base64
import json
from typing import Any

from stepwire.server.rpc.convert.runs import status_number
from stepwire.server.rpc.convert.times import time_of, timestamp
from stepwire.server.runs.errors import InvalidError
from stepwire.server.runs.requests import SnapshotData
from stepwire.server.store import RunRecord
from stepwire.v1 import types_pb2
from stepwire.workflow.hosting import EFFECT_PAGE_BYTES

FORMAT_VERSION = 1
"""The version of the message's layout that this server writes and reads."""


def snapshot_message(snapshot: SnapshotData, status: str, state_type: str) -> types_pb2.ContextSnapshot:
    """Return a snapshot as a message without a signature."""
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
    """Return the content of a snapshot message. InvalidError (INVALID_SNAPSHOT) if it is malformed."""
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
            for start in range(0, len(delivery.effects), EFFECT_PAGE_BYTES):
                page = base64.b64encode(delivery.effects[start : start + EFFECT_PAGE_BYTES]).decode()
                parts[f"x/{delivery.delivery_id}/{start // EFFECT_PAGE_BYTES}"] = page
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
    # Given bytes, json looks for other encodings and imports their codecs.
    return json.loads(data.decode())


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _event_type(event: Any) -> str:
    """Return the type name of a tagged event."""
    tagged = event.get("$model") if isinstance(event, dict) else None
    return str(tagged[0]) if isinstance(tagged, list) and tagged else ""
