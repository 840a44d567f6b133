"""Snapshots between the contract's messages and the parts that the store keeps."""

from __future__ import annotations

import base64
import json
from typing import Any

from stepwire.server.rpc.convert.runs import status_number
from stepwire.server.rpc.convert.times import time_of, timestamp
from stepwire.server.runs.active import event_type_of
from stepwire.server.runs.errors import InvalidError
from stepwire.server.runs.requests import SnapshotData
from stepwire.server.store import RunRecord
from stepwire.v1 import types_pb2
from stepwire.workflow.hosting import parts as keys

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
    pages: dict[int, dict[int, bytes]] = {}
    answers: dict[int, dict[int, Any]] = {}
    for key, part in snapshot.parts.items():
        kind, _, number, item = keys.parse(key)
        if kind == keys.EFFECTS:
            pages.setdefault(number, {})[item] = base64.b64decode(part)
        elif kind == keys.ANSWER:
            answers.setdefault(number, {})[item] = part
    for key, part in snapshot.parts.items():
        kind, name, number, _ = keys.parse(key)
        if kind == keys.HEAD:
            message.head_json = _dump(part)
        elif kind == keys.STATE:
            message.state_json[name] = _dump(part)
        elif kind == keys.BUFFERED:
            buffers.setdefault(part["i"], {})[str(number)] = part["e"]
        elif kind == keys.WAITER:
            message.waiters.add(number=number, data_json=_dump(part))
        elif kind == keys.CHILD:
            message.children.add(number=number, data_json=_dump(part))
        elif kind == keys.DELIVERY:
            place = message.queued if part["st"] == "queued" else message.in_progress
            data = {name: value for name, value in part.items() if name not in ("s", "a", "c")}
            ledger: dict[str, Any] = {"c": part["c"]} if "c" in part else {}
            if number in answers:
                ledger["a"] = [answer for _, answer in sorted(answers[number].items())]
            effects = b"".join(data for _, data in sorted(pages.get(number, {}).items()))
            place.add(
                delivery_id=number,
                step=part["s"],
                event_type=event_type_of(part["e"]),
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
    head = snapshot.parts.get(keys.HEAD, {})
    if "outcome" in head:
        return str(head["outcome"]).upper()
    deliveries = [part for key, part in snapshot.parts.items() if keys.parse(key).kind == keys.DELIVERY]
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
        parts: dict[str, Any] = {keys.HEAD: head}
        for key, value in message.state_json.items():
            parts[keys.state(key)] = _load(value)
        for buffer in message.buffers:
            for number, event in _load(buffer.events_json).items():
                parts[keys.buffered(int(number))] = {"i": buffer.buffer_id, "e": event}
        for waiter in message.waiters:
            parts[keys.waiter(waiter.number)] = _load(waiter.data_json)
        for child in message.children:
            parts[keys.child(child.number)] = _load(child.data_json)
        for delivery in (*message.queued, *message.in_progress):
            part = {**_load(delivery.data_json), "s": delivery.step, "a": delivery.attempt}
            if delivery.ledger_json:
                ledger = _load(delivery.ledger_json)
                if "c" in ledger:
                    part["c"] = ledger["c"]
                for number, answer in enumerate(ledger.get("a", ())):
                    parts[keys.answer(delivery.delivery_id, number)] = answer
            parts[keys.delivery(delivery.delivery_id)] = part
            for page, digests in enumerate(keys.paged(delivery.effects)):
                parts[keys.effects(delivery.delivery_id, page)] = base64.b64encode(digests).decode()
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
