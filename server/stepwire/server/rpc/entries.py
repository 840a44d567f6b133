"""Log entries on the wire: encoded once, for the disk, every live subscriber and every replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from stepwire.server.rpc.payloads import payload
from stepwire.server.store import Chunk, StoreCorruptError
from stepwire.v1 import types_pb2 as pb
from stepwire.workflow._journal import LogEntry

_MAX_FRAME_BYTES = 1 << 20


class WireCodec:
    """Encode entries as the `entries` field of an EventBatch: concatenated encodings are one field.

    A batch is then its range and the bytes of its chunks, joined; a frame is a tag, a length and the batch.
    """

    def encode(self, entries: Sequence[LogEntry]) -> bytes:
        """Encode entries."""
        batch = pb.EventBatch()
        for sequence, at, kind, type_name, data, step, delivered, role in entries:
            entry = batch.entries.add(
                sequence=sequence, kind=kind, type=type_name, step=step, delivered=delivered, role=role
            )
            seconds = int(at)
            entry.time.seconds = seconds
            entry.time.nanos = int((at - seconds) * 1e9)
            entry.payload.json = data
        return batch.SerializeToString()

    def decode(self, data: bytes) -> list[LogEntry]:
        """Decode what `encode` gave."""
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
            )
            for entry in batch.entries
        ]


CODEC = WireCodec()


def entry_message(entry: LogEntry, encoding: int) -> pb.LogEntry:
    """Return an entry as a message, its payload in the encoding asked for."""
    message = pb.LogEntry(
        sequence=entry.sequence,
        kind=entry.kind,  # type: ignore[arg-type]  # an int is what it takes
        type=entry.type,
        step=entry.step,
        delivered=entry.delivered,
        role=entry.role,  # type: ignore[arg-type]
        payload=payload(entry.data, encoding),
    )
    seconds = int(entry.at)
    message.time.seconds = seconds
    message.time.nanos = int((entry.at - seconds) * 1e9)
    return message


class Framer:
    """Cut the chunks of a log into frames of a stream: contiguous ranges, filtered and encoded as its options ask.

    `field` is the number of the EventBatch in the frame's message. `position` is the last sequence covered by a
    frame given out or by a range that the filter emptied; `sent` only by frames.
    """

    def __init__(
        self, field: int, after: int, *, encoding: int, internal: bool, types: Sequence[str], first_available: int = 1
    ) -> None:
        self._tag = bytes([field << 3 | 2])
        self._encoding = encoding
        self._internal = internal
        self._types = frozenset(types)
        self._raw = encoding == pb.PAYLOAD_ENCODING_JSON and not internal and not types
        self.position = after
        self.sent = after

    def frames(self, chunks: Sequence[Chunk], up_to: int | None = None) -> Iterator[bytes]:
        """Give the frames of chunks that go on at `position`, not beyond sequence `up_to`."""
        batch: list[bytes] = []
        size = 0
        for chunk in chunks:
            if chunk.last <= self.position:
                continue
            if up_to is not None and self.position >= up_to:
                break
            last = chunk.last if up_to is None else min(chunk.last, up_to)
            if self._raw and chunk.first > self.position and last == chunk.last:
                part = chunk.public or b""
            else:
                part = self._part(chunk, last)
            if batch and size + len(part) > _MAX_FRAME_BYTES:
                yield self._frame(batch)
                batch, size = [], 0
            self.position = last
            if part:
                batch.append(part)
                size += len(part)
        if batch:
            yield self._frame(batch)

    def _part(self, chunk: Chunk, last: int) -> bytes:
        entries = CODEC.decode(chunk.public) if chunk.public else []
        if self._internal and chunk.internal:
            entries = sorted(entries + CODEC.decode(chunk.internal))
        batch = pb.EventBatch()
        for entry in entries:
            if not self.position < entry.sequence <= last:
                continue
            if self._types and entry.type not in self._types and entry.kind != pb.ENTRY_KIND_TERMINAL:
                continue
            batch.entries.append(entry_message(entry, self._encoding))
        return batch.SerializeToString()

    def _frame(self, parts: list[bytes]) -> bytes:
        head = b"\x08" + _varint(self.sent + 1) + b"\x10" + _varint(self.position)
        length = len(head) + sum(len(part) for part in parts)
        self.sent = self.position
        return b"".join((self._tag, _varint(length), head, *parts))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
