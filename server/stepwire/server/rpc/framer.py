"""Cut the chunks of a log into the frames of one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter

from stepwire.server.rpc.entry_codec import CODEC, entry_message, varint
from stepwire.server.rpc.payloads import is_slow_to_write
from stepwire.server.runs.log.chunks import portions
from stepwire.server.store import Chunk
from stepwire.v1 import types_pb2 as pb

_MAX_FRAME_BYTES = 256 * 1024
"""Bytes of entries after which a frame is sent: large enough to amortize its cost, far below 4 MiB, the largest message
that gRPC clients take by default."""

_sequence = attrgetter("sequence")
_NONE: deque[int] = deque()
"""Shared by all streams without a window, because an empty deque takes 600 bytes."""


class Framer:
    """Cut the chunks of a log into the frames of one stream: contiguous ranges, filtered and encoded by its options.

    Args:
        field: The number of the EventBatch field in the frame's message.
        after: The cursor: the first frame begins at the next sequence.
        encoding: How to encode payloads.
        internal: Whether internal entries are included.
        types: The event types to include, and always the terminal entry; empty for all.
        window: How many entries may be sent beyond the last acknowledged one; 0 for no bound.

    Attributes:
        position: The last sequence that was framed, or dropped by the filter.
        sent: The last sequence that a frame covered.
    """

    # A server holds many idle streams: their cost is the memory that each holds.
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
        """Whether the window is full. No entry may be sent until the client acknowledges some."""
        return 0 < self._window <= len(self._unacked)

    def ack(self, sequence: int) -> None:
        """Note that the client has received everything up to a sequence."""
        while self._unacked and self._unacked[0] <= sequence:
            self._unacked.popleft()

    def portions(self, chunks: list[Chunk]) -> Iterator[list[Chunk]]:
        """Cut chunks that follow `position` into portions; yield to the event loop after each.

        Pass each portion to `frames` before asking for the next. `chunks` is emptied, as by `frames`.
        """
        if self._raw:  # nothing is decoded
            yield chunks
            return
        rest = portions(chunks.copy())
        chunks.clear()
        for portion in rest:
            if portion[0].first > self.position + 1:  # the window admitted only a part of the last one
                return
            yield portion

    def is_slow(self, chunks: list[Chunk]) -> bool:
        """Tell whether framing chunks would hold the event loop for more than a few milliseconds."""
        return is_slow_to_write(sum(chunk.size for chunk in chunks), self._encoding)

    def frames(self, chunks: list[Chunk]) -> Iterator[bytes]:
        """Yield the frames of chunks that follow `position`, as far as the window allows.

        `chunks` is emptied, so that a stream whose client does not read holds no chunk that was framed already.
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
            for last, part in self._parts(chunk):
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
        """Return a frame without entries for the range that the filter dropped since the last frame, or None."""
        return self._frame([]) if self.position > self.sent else None

    def _parts(self, chunk: Chunk) -> Iterator[tuple[int, bytes]]:
        """Yield a chunk in parts that fit into a frame: the last sequence of each, and its entries as an EventBatch.

        The last part ends where the window is full, or with the chunk.
        """
        if self._raw and chunk.first > self.position:
            public = chunk.public or b""
            sequences: list[int] = []
            if self._window:
                sequences += [entry.sequence for entry in pb.EventBatch.FromString(public).entries]
            if len(self._unacked) + len(sequences) <= self._window or not self._window:
                self._unacked += sequences
                yield chunk.last, public
                return
        entries = CODEC.decode(chunk.public) if chunk.public else []
        if self._internal and chunk.internal:
            entries = sorted(entries + CODEC.decode(chunk.internal), key=_sequence)
        batch, size, plain = pb.EventBatch(), 0, self._encoding == pb.PAYLOAD_ENCODING_JSON
        for entry in entries:
            if entry.sequence <= self.position:
                continue
            if self._types and entry.type not in self._types and entry.kind != pb.ENTRY_KIND_TERMINAL:
                continue
            if self.full:
                yield self._unacked[-1], batch.SerializeToString()
                return
            message = entry_message(entry, self._encoding)
            # As JSON an entry takes little more than its data; protobuf must count the rest.
            length = len(entry.data) if plain and entry.attempted is None else message.ByteSize()
            if size and size + length > _MAX_FRAME_BYTES:  # another encoding may take several times as many bytes
                yield entry.sequence - 1, batch.SerializeToString()
                batch, size = pb.EventBatch(), 0
            if self._window:
                self._unacked.append(entry.sequence)
            batch.entries.append(message)
            size += length
        yield chunk.last, batch.SerializeToString()

    def _frame(self, parts: list[bytes]) -> bytes:
        head = b"\x08" + varint(self.sent + 1) + b"\x10" + varint(self.position)
        length = len(head) + sum(len(part) for part in parts)
        self.sent = self.position
        return b"".join((self._tag, varint(length), head, *parts))
