"""Cut the chunks of a log into the frames of one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from stepwire.server.rpc.entry_codec import CODEC, entry_message, varint
from stepwire.server.runs.log.chunks import portions
from stepwire.server.store import Chunk
from stepwire.v1 import types_pb2 as pb

_MAX_FRAME_BYTES = 256 * 1024
"""Bytes of entries after which a frame is sent: large enough to amortize its cost, far below 4 MiB, the largest message
that gRPC clients take by default."""

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
        head = b"\x08" + varint(self.sent + 1) + b"\x10" + varint(self.position)
        length = len(head) + sum(len(part) for part in parts)
        self.sent = self.position
        return b"".join((self._tag, varint(length), head, *parts))
