"""Cut the log of a run into chunks. Each chunk is encoded once, for the disk and for every reader."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from stepwire.server.store import Chunk
from stepwire.workflow.hosting import STREAM, TERMINAL, LogEntry

MAX_ENTRIES = 256
"""Entries of a chunk: decoding one must not starve the event loop."""

MAX_BYTES = 1 << 20
"""Bytes of events after which a chunk is closed: what one read from the store holds in memory is bounded."""


_FEW = 16
"""Entries that are one chunk unless they are large, as those of most commits."""

_PUBLIC = frozenset({STREAM, TERMINAL})


class EntryCodec(Protocol):
    """Encode and decode log entries.

    The concatenation of two encodings must be the encoding of both lists.
    """

    def encode(self, entries: Sequence[LogEntry]) -> bytes:
        """Encode entries."""

    def decode(self, data: bytes) -> list[LogEntry]:
        """Decode what `encode` returned.

        Raises:
            StoreCorruptError: The bytes are damaged.
        """


def chunks_of(entries: Sequence[LogEntry], codec: EntryCodec) -> list[Chunk]:
    """Cut entries into chunks of at most MAX_ENTRIES entries and MAX_BYTES bytes; a larger entry has its own chunk."""
    if len(entries) <= _FEW and sum([len(entry.data) for entry in entries]) <= MAX_BYTES:
        return [_chunk(entries, codec)] if entries else []
    chunks: list[Chunk] = []
    part: list[LogEntry] = []
    size = 0
    for entry in entries:
        if part and (len(part) >= MAX_ENTRIES or size + len(entry.data) > MAX_BYTES):
            chunks.append(_chunk(part, codec))
            part, size = [], 0
        part.append(entry)
        size += len(entry.data)
    if part:
        chunks.append(_chunk(part, codec))
    return chunks


def portions(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Yield chunks in portions of about 256 entries, so that decoding them does not starve the event loop."""
    rest = deque(chunks)  # a chunk that was yielded is not kept in memory
    del chunks
    while rest:
        portion: list[Chunk] = []
        entries = 0
        while rest and entries < MAX_ENTRIES:
            portion.append(rest.popleft())
            entries += portion[-1].last - portion[-1].first + 1
        yield portion


def is_public(entry: LogEntry) -> bool:
    """Tell whether an entry is part of the stream; the others are internal."""
    return entry.kind in _PUBLIC


def _chunk(entries: Sequence[LogEntry], codec: EntryCodec) -> Chunk:
    internal = [entry for entry in entries if entry.kind not in _PUBLIC]
    public = entries
    if internal:
        public = [entry for entry in entries if entry.kind in _PUBLIC] if len(internal) < len(entries) else []
    return Chunk(
        entries[0].sequence,
        entries[-1].sequence,
        codec.encode(public) if public else None,
        codec.encode(internal) if internal else None,
    )
