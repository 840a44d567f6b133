"""The frames in which one replica sends the commits of a run to another.

A frame is the length of its head (4 bytes), the head as JSON, and the bytes of the chunks. What a later version adds to
the head an earlier one ignores: replicas of two versions run side by side while they are updated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from stepwire.server.store import Chunk, RunRecord
from stepwire.server.store.encoding import RecordRow, decode_record, encode_record

__all__ = ["Frame", "FrameReader", "FrameWriter"]


class Frame(NamedTuple):
    """A commit as another replica sends it.

    Attributes:
        record: The record after the commit; None in a frame that only says that the run left.
        chunks: The entries of the commit.
        answers: The requests that it answers, by request_id.
        left: Whether the run left the memory of the replica.
    """

    record: RunRecord | None
    chunks: Sequence[Chunk] = ()
    answers: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - never changed
    left: bool = False


class FrameWriter:
    """Write the frames of one stream. What a record has as before is left out."""

    def __init__(self) -> None:
        self._info = ""
        self._pending: dict[int, dict[str, Any]] | None = None

    def write(self, frame: Frame) -> bytes:
        """Return the bytes of a frame."""
        head: dict[str, Any] = {}
        blobs: list[bytes] = []
        if frame.record is not None:
            row = encode_record(frame.record)
            pending = frame.record.pending
            head["record"] = row if row.info != self._info else row._replace(info="")
            if pending is not self._pending and pending != self._pending:
                head["pending"] = list(pending.items())
            self._info, self._pending = row.info, pending
        if frame.chunks:
            head["chunks"] = [
                (chunk.first, chunk.last, _size(chunk.public), _size(chunk.internal)) for chunk in frame.chunks
            ]
            for chunk in frame.chunks:
                blobs += (chunk.public or b"", chunk.internal or b"")
        if frame.answers:
            head["answers"] = frame.answers
        if frame.left:
            head["left"] = True
        text = json.dumps(head, separators=(",", ":")).encode()
        return b"".join((len(text).to_bytes(4, "big"), text, *blobs))


class FrameReader:
    """Read the frames of one stream."""

    def __init__(self) -> None:
        self._info = "{}"
        self._pending: dict[int, dict[str, Any]] = {}

    def read(self, data: bytes) -> Frame:
        """Return the frame. ValueError, KeyError or TypeError if the bytes are none."""
        end = 4 + int.from_bytes(data[:4], "big")
        head = json.loads(data[4:end])
        record = None
        if "record" in head:
            row = RecordRow(*head["record"])
            self._info = row.info or self._info
            if "pending" in head:
                self._pending = {int(number): question for number, question in head["pending"]}
            record = decode_record(row._replace(info=self._info), self._pending)
        chunks = []
        for first, last, public, internal in head.get("chunks", ()):
            middle = end + max(0, public)
            after = middle + max(0, internal)
            chunks.append(
                Chunk(
                    first,
                    last,
                    data[end:middle] if public >= 0 else None,
                    data[middle:after] if internal >= 0 else None,
                )
            )
            end = after
        return Frame(record, tuple(chunks), head.get("answers", {}), bool(head.get("left")))


def _size(part: bytes | None) -> int:
    return -1 if part is None else len(part)
