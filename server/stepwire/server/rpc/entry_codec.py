"""Log entries on the wire: encoded once, for the disk, every live subscriber and every replay."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from stepwire.server.rpc.payloads import payload
from stepwire.server.runs.log.chunks import portions
from stepwire.server.store import Chunk, StoreCorruptError
from stepwire.v1 import types_pb2 as pb
from stepwire.workflow.hosting import LogEntry

_MAX_FRAME_BYTES = 256 * 1024
_SAME_TIME_SECONDS = 0.001
_SHAPES_KEPT = 4096


_BELOW = 1 << 14
_MORE = [bytes((low | 0x80, high | 0x80)) for high in range(128) for low in range(128)]
_LAST = [bytes((value,)) if value < 128 else bytes((value & 0x7F | 0x80, value >> 7)) for value in range(_BELOW)]


def _varint(value: int) -> bytes:
    """Encode a count as protobuf does: 7 bits a byte, the lowest first; 14 bits at a time from tables."""
    if value < _BELOW:
        return _LAST[value]
    return _MORE[value & 0x3FFF] + _varint(value >> 14)


class WireCodec:
    """Encode entries as the `entries` field of an EventBatch: concatenated encodings are one field.

    A batch is then its range and the bytes of its chunks, joined; a frame is a tag, a length and the batch.
    """

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, str, str, int, int, int], tuple[bytes, bytes, int]] = {}

    def encode(self, entries: Sequence[LogEntry]) -> bytes:
        """Encode entries; those within a millisecond have the time of the first of them.

        Most entries of a log differ in sequence, time and data only: the rest is encoded once for each shape, and the
        bytes are put together here (a third of what protobuf's Python messages take).
        """
        out: list[bytes] = []
        shared_at, time = -1.0, b""
        shapes = self._shapes
        for sequence, at, kind, type_name, data, step, delivered, role in entries:
            if not 0 <= at - shared_at < _SAME_TIME_SECONDS:
                shared_at, time = at, _time_field(at)
            shape = shapes.get((kind, type_name, step, delivered, role, len(data)))
            if shape is None:
                shape = self._shape(kind, type_name, step, delivered, role, len(data))
            head, tail, size = shape
            number = _varint(sequence)
            out += (b"\x1a", _varint(size + len(number) + len(time)), b"\x08", number, time, head, data, tail)
        return b"".join(out)

    def _shape(
        self, kind: int, type_name: str, step: str, delivered: int, role: int, data_size: int
    ) -> tuple[bytes, bytes, int]:
        """Return the bytes of an entry before and after its data, and the entry's size without sequence and time."""
        head = pb.LogEntry(kind=kind, type=type_name).SerializeToString()  # type: ignore[arg-type]  # an int is what it takes
        tail = pb.LogEntry(step=step, delivered=delivered, role=role).SerializeToString()  # type: ignore[arg-type]
        json = b"\x12" + _varint(data_size)
        head += b"\x2a" + _varint(len(json) + data_size) + json
        if len(self._shapes) >= _SHAPES_KEPT:
            self._shapes.clear()
        shape = head, tail, 1 + len(head) + data_size + len(tail)
        self._shapes[kind, type_name, step, delivered, role, data_size] = shape
        return shape

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


def _time_field(at: float) -> bytes:
    """Return the field `time` of an entry."""
    seconds = int(at)
    time = b"\x08" + _varint(seconds) + b"\x10" + _varint(int((at - seconds) * 1e9))
    return b"\x12" + _varint(len(time)) + time


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


_NONE: deque[int] = deque()
"""Nothing unacknowledged, for all who have no window: an empty deque has 600 bytes."""


class Framer:
    """Cut the chunks of a log into frames of a stream: contiguous ranges, filtered and encoded as its options ask.

    `field` is the number of the EventBatch in the frame's message. `window` bounds the entries given out and not
    acknowledged; 0 is no bound. `position` is the last sequence covered by a frame given out or by a range that the
    filter emptied; `sent` only by frames.
    """

    # Many streams say nothing for long: what each holds is what they cost.
    __slots__ = ("_encoding", "_internal", "_raw", "_tag", "_types", "_unacked", "_window", "position", "sent")

    def __init__(
        self, field: int, after: int, *, encoding: int, internal: bool, types: Sequence[str], window: int = 0
    ) -> None:
        self._tag = bytes([field << 3 | 2])
        self._encoding = encoding
        self._internal = internal
        self._types = frozenset(types)
        self._raw = encoding == pb.PAYLOAD_ENCODING_JSON and not internal and not types
        self._window = window
        self._unacked = deque() if window else _NONE
        self.position = after
        self.sent = after

    @property
    def full(self) -> bool:
        """Whether the window is full: nothing goes out before an acknowledgement."""
        return 0 < self._window <= len(self._unacked)

    def ack(self, sequence: int) -> None:
        """Take in that the client has got everything up to a sequence."""
        while self._unacked and self._unacked[0] <= sequence:
            self._unacked.popleft()

    def portions(self, chunks: list[Chunk]) -> Iterator[list[Chunk]]:
        """Give chunks that go on at `position` for `frames`, in portions after which others shall have a turn.

        Each is to be framed before the next is asked for. `chunks` is emptied, as by `frames`.
        """
        if self._raw:  # nothing is decoded
            yield chunks
            return
        rest = portions(chunks.copy())
        chunks.clear()
        for portion in rest:
            if portion[0].first > self.position + 1:  # the window let only a part of the last one through
                return
            yield portion

    def frames(self, chunks: list[Chunk]) -> Iterator[bytes]:
        """Give the frames of chunks that go on at `position`, as far as the window allows.

        `chunks` is emptied: while a client does not read, its stream holds no chunk that was framed already.
        """
        batch: list[bytes] = []
        size = 0
        ahead = deque(chunks)
        chunks.clear()
        while ahead:
            chunk = ahead.popleft()
            if chunk.last <= self.position:
                continue
            if self.full:
                break
            last, part = self._part(chunk)
            if batch and size + len(part) > _MAX_FRAME_BYTES:
                frame = self._frame(batch)
                batch, size = [], 0
                yield frame
            self.position = last
            if part:
                batch.append(part)
                size += len(part)
        if batch:
            frame = self._frame(batch)
            del chunk, part, batch
            yield frame

    def rest(self) -> bytes | None:
        """Return a frame without entries for what the filter emptied since the last frame; None when nothing was."""
        return self._frame([]) if self.position > self.sent else None

    def _part(self, chunk: Chunk) -> tuple[int, bytes]:
        """Return up to where the window lets a chunk through, and its entries as bytes of an EventBatch."""
        if self._raw and chunk.first > self.position:
            public = chunk.public or b""
            if not self._window:
                return chunk.last, public
            sequences = [entry.sequence for entry in pb.EventBatch.FromString(public).entries]
            if len(self._unacked) + len(sequences) <= self._window:
                self._unacked += sequences
                return chunk.last, public
        entries = CODEC.decode(chunk.public) if chunk.public else []
        if self._internal and chunk.internal:
            entries = sorted(entries + CODEC.decode(chunk.internal))
        batch = pb.EventBatch()
        for entry in entries:
            if entry.sequence <= self.position:
                continue
            if self._types and entry.type not in self._types and entry.kind != pb.ENTRY_KIND_TERMINAL:
                continue
            if self.full:
                return self._unacked[-1], batch.SerializeToString()
            if self._window:
                self._unacked.append(entry.sequence)
            batch.entries.append(entry_message(entry, self._encoding))
        return chunk.last, batch.SerializeToString()

    def _frame(self, parts: list[bytes]) -> bytes:
        head = b"\x08" + _varint(self.sent + 1) + b"\x10" + _varint(self.position)
        length = len(head) + sum(len(part) for part in parts)
        self.sent = self.position
        return b"".join((self._tag, _varint(length), head, *parts))
