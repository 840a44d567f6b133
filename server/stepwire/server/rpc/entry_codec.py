"""Encode log entries once, for the disk, for every live subscriber and for every replay."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache

from google.protobuf.message import DecodeError

from stepwire.server.rpc.convert.times import time_of, timestamp
from stepwire.server.rpc.payloads import is_slow_to_write, payload
from stepwire.server.store import StoreCorruptError
from stepwire.v1 import types_pb2 as pb
from stepwire.workflow.hosting import CHILD, EXECUTION, Attempted, AttemptFailure, ChildNews, LogEntry

_TICKS = 1000
"""Times of entries have whole milliseconds: entries of the same one share a field, which is then encoded once. So the
times of a log never go back, though its public and its internal entries are encoded apart."""
_SHAPES_KEPT = 4096
"""Shapes to cache: more than the event types of a server, and a few MB at most."""


_BELOW = 1 << 14
_MORE = [bytes((low | 0x80, high | 0x80)) for high in range(128) for low in range(128)]
_LAST = [bytes((value,)) if value < 128 else bytes((value & 0x7F | 0x80, value >> 7)) for value in range(_BELOW)]


def varint(value: int) -> bytes:
    """Encode a count as protobuf does, 7 bits a byte with the lowest first. Tables give 14 bits at a time."""
    if value < _BELOW:
        return _LAST[value]
    if value < _BELOW << 14:
        return _MORE[value & 0x3FFF] + _LAST[value >> 14]
    return _MORE[value & 0x3FFF] + varint(value >> 14)


_NANOS = [varint(tick * (1_000_000_000 // _TICKS)) for tick in range(_TICKS)]
"""The nanoseconds of each tick of a second."""


class WireCodec:
    """Encode entries as the `entries` field of an EventBatch: concatenated encodings are one field.

    A batch is then its range and the bytes of its chunks, joined; a frame is a tag, a length and the batch.
    """

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, str, str, int, int, int], tuple[bytes, bytes, int]] = {}
        self._shared = -1, b""
        """The last tick, and its field."""
        self._second = -1, b""
        """The last second, and how the time in it begins."""
        self._heads: dict[str, bytes] = {}
        """Of entries of executions, by step."""

    def encode(self, entries: Sequence[LogEntry]) -> bytes:
        """Encode entries, with times in whole milliseconds.

        Most entries of a log differ only in sequence, time and data. The rest is encoded once for each shape and
        cached, which takes a third of the time of protobuf's Python messages.
        """
        out: list[bytes] = []
        shared_at, time = self._shared
        shapes = self._shapes
        last = _LAST
        for sequence, at, kind, type_name, data, step, delivered, role, delivery, attempted, child in entries:
            tick = int(at * _TICKS)
            if tick != shared_at:
                second, rest = divmod(tick, _TICKS)
                if second != self._second[0]:
                    self._second = second, b"\x08" + varint(second) + b"\x10"
                told = self._second[1] + _NANOS[rest]
                shared_at, time = self._shared = tick, b"\x12" + last[len(told)] + told
            if attempted is not None:
                head = self._heads.get(step) or self._head(step)
                number, told = last[sequence] if sequence < _BELOW else varint(sequence), _execution(attempted)
                size = len(told)
                length = last[size] if size < _BELOW else varint(size)
                size += len(number) + len(time) + len(head) + len(length) + 1
                whole = last[size] if size < _BELOW else varint(size)
                out += (b"\x1a", whole, b"\x08", number, time, head, length, told)
                continue
            if child is not None:
                told = _child_message(sequence, at, step, child).SerializeToString()
                out += (b"\x1a", varint(len(told)), told)
                continue
            shape = shapes.get((kind, type_name, step, delivered, role, len(data)))
            if shape is None:
                shape = self._shape(kind, type_name, step, delivered, role, len(data))
            head, tail, size = shape
            number = last[sequence] if sequence < _BELOW else varint(sequence)
            if delivery:
                told = last[delivery] if delivery < _BELOW else varint(delivery)
                tail += b"\x50" + told
                size += 1 + len(told)
            size += len(number) + len(time)
            whole = last[size] if size < _BELOW else varint(size)
            out += (b"\x1a", whole, b"\x08", number, time, head, data, tail)
        return b"".join(out)

    def _head(self, step: str) -> bytes:
        """Return what follows the time in an entry of an execution, up to the length of the execution."""
        if len(self._heads) >= _SHAPES_KEPT:
            self._heads.clear()
        head = pb.LogEntry(kind=EXECUTION, step=step).SerializeToString() + b"\x4a"  # type: ignore[arg-type]
        self._heads[step] = head
        return head

    def _shape(
        self, kind: int, type_name: str, step: str, delivered: int, role: int, data_size: int
    ) -> tuple[bytes, bytes, int]:
        """Return the bytes of an entry before and after its data, and the entry's size without sequence and time."""
        head = pb.LogEntry(kind=kind, type=type_name).SerializeToString()  # type: ignore[arg-type]  # an int is what it takes
        tail = pb.LogEntry(step=step, delivered=delivered, role=role).SerializeToString()  # type: ignore[arg-type]
        json = b"\x12" + varint(data_size)
        head += b"\x2a" + varint(len(json) + data_size) + json
        if len(self._shapes) >= _SHAPES_KEPT:
            self._shapes.clear()
        shape = head, tail, 1 + len(head) + data_size + len(tail)
        self._shapes[kind, type_name, step, delivered, role, data_size] = shape
        return shape

    def decode(self, data: bytes) -> list[LogEntry]:
        """Decode the result of `encode`, or of several joined. StoreCorruptError for anything else."""
        try:
            batch = pb.EventBatch.FromString(data)
        except DecodeError as error:
            raise StoreCorruptError("a chunk of a log cannot be read") from error
        return [
            LogEntry(
                entry.sequence,
                entry.time.seconds + entry.time.nanos / 1e9,
                entry.kind,
                entry.type,
                entry.payload.json,
                entry.step,
                entry.delivered,
                entry.role,
                entry.delivery_id,
                _attempted(entry.execution) if entry.kind == EXECUTION else None,
                _child(entry) if entry.kind == CHILD else None,
            )
            for entry in batch.entries
        ]


@lru_cache(maxsize=_SHAPES_KEPT)
def _attempt(delivery: int, status: int, attempt: int, caused_by: int) -> bytes:
    """Return the fields of an Execution that are the same in many runs."""
    return b"\x08%b\x10%c\x18%b\x20%b" % (varint(delivery), status, varint(attempt), varint(caused_by))


def _execution(attempted: Attempted) -> bytes:
    """Return an Execution."""
    delivery, status, attempt, caused_by, seconds, failure, next_at = attempted
    told = _attempt(delivery, status, attempt, caused_by)
    if seconds is not None:
        whole = int(seconds)
        took = b"\x10" + varint(int((seconds - whole) * 1e9))
        if whole:
            took = b"\x08" + varint(whole) + took
        told += b"\x2a" + _LAST[len(took)] + took
    if failure is None and next_at is None:
        return told
    rest = pb.Execution()
    if failure is not None:
        rest.error.CopyFrom(failure_message(failure))
    if next_at is not None:
        rest.next_attempt_at.CopyFrom(timestamp(next_at))
    return told + rest.SerializeToString()


def failure_message(failure: AttemptFailure, step: str = "", attempts: int = 0) -> pb.Failure:
    """Return what an attempt failed with."""
    return pb.Failure(
        step=step,
        error_type=failure.error_type,
        message=failure.message,
        attempts=attempts,
        reference_id=failure.reference,
        traceback=failure.traceback,
    )


def _attempted(told: pb.Execution) -> Attempted:
    """Return what an entry tells of an attempt."""
    error = told.error
    return Attempted(
        told.delivery_id,
        told.status,
        told.attempt,
        told.caused_by,
        told.duration.seconds + told.duration.nanos / 1e9 if told.HasField("duration") else None,
        AttemptFailure(error.error_type, error.message, error.traceback, error.reference_id)
        if told.HasField("error")
        else None,
        time_of(told.next_attempt_at) if told.HasField("next_attempt_at") else None,
    )


def _child_message(sequence: int, at: float, step: str, news: ChildNews) -> pb.LogEntry:
    """Return an entry that tells of a child."""
    status = f"RUN_STATUS_{news.status.upper() or 'RUNNING'}"
    message = pb.LogEntry(sequence=sequence, kind=pb.ENTRY_KIND_CHILD, step=step, delivery_id=news.delivery)
    message.child.CopyFrom(pb.ChildEvent(run_id=news.run_id, workflow=news.workflow, status=status))
    return _timed(message, at)


def _child(entry: pb.LogEntry) -> ChildNews:
    """Return what an entry tells of a child."""
    told = entry.child
    status = pb.RunStatus.Name(told.status).removeprefix("RUN_STATUS_").lower()
    return ChildNews(told.run_id, told.workflow, "" if status == "running" else status, entry.delivery_id)


CODEC = WireCodec()


async def shown_entry(entry: LogEntry, encoding: int) -> pb.LogEntry:
    """Do what `entry_message` does; in a thread if it takes long."""
    slow = is_slow_to_write(len(entry.data), encoding)
    return await asyncio.to_thread(entry_message, entry, encoding) if slow else entry_message(entry, encoding)


def entry_message(entry: LogEntry, encoding: int) -> pb.LogEntry:
    """Return an entry as a message, its payload in the encoding asked for."""
    if entry.attempted is not None:
        message = pb.LogEntry(sequence=entry.sequence, kind=entry.kind, step=entry.step)  # type: ignore[arg-type]
        message.execution.MergeFromString(_execution(entry.attempted))
        return _timed(message, entry.at)
    if entry.child is not None:
        return _child_message(entry.sequence, entry.at, entry.step, entry.child)
    message = pb.LogEntry(
        sequence=entry.sequence,
        kind=entry.kind,  # type: ignore[arg-type]  # an int is what it takes
        type=entry.type,
        step=entry.step,
        delivered=entry.delivered,
        role=entry.role,  # type: ignore[arg-type]
        payload=payload(entry.data, encoding),
        delivery_id=entry.delivery,
    )
    return _timed(message, entry.at)


def _timed(message: pb.LogEntry, at: float) -> pb.LogEntry:
    # Kept entries have whole milliseconds: a float of them is a little more or less.
    seconds, rest = divmod(round(at * _TICKS), _TICKS)
    message.time.seconds = seconds
    message.time.nanos = rest * (1_000_000_000 // _TICKS)
    return message
