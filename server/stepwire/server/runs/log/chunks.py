"""The log of a run in chunks, each encoded once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from stepwire.server.store import Chunk
from stepwire.workflow.hosting import STREAM, TERMINAL, LogEntry

MAX_ENTRIES = 256
MAX_BYTES = 1 << 20


class EntryCodec(Protocol):
    """How log entries are encoded: for the disk, every live subscriber and every replay alike.

    Encodings can be joined: the concatenation of two is the encoding of both lists.
    """

    def encode(self, entries: Sequence[LogEntry]) -> bytes:
        """Encode entries."""

    def decode(self, data: bytes) -> list[LogEntry]:
        """Decode what `encode` gave; StoreCorruptError for anything else."""


def chunks_of(entries: Sequence[LogEntry], codec: EntryCodec) -> list[Chunk]:
    """Cut entries into chunks of at most 256 entries and about 1 MiB."""
    chunks: list[Chunk] = []
    part: list[LogEntry] = []
    size = 0
    for entry in entries:
        part.append(entry)
        size += len(entry.data)
        if len(part) >= MAX_ENTRIES or size >= MAX_BYTES:
            chunks.append(_chunk(part, codec))
            part, size = [], 0
    if part:
        chunks.append(_chunk(part, codec))
    return chunks


def portions(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Give chunks in portions of about 256 entries: who decodes them lets others work in between."""
    rest = deque(chunks)  # nothing is held that was given out
    del chunks
    while rest:
        portion: list[Chunk] = []
        entries = 0
        while rest and entries < MAX_ENTRIES:
            portion.append(rest.popleft())
            entries += portion[-1].last - portion[-1].first + 1
        yield portion


def is_public(entry: LogEntry) -> bool:
    """Tell whether an entry belongs to the stream."""
    return entry.kind in (STREAM, TERMINAL)


def _chunk(entries: list[LogEntry], codec: EntryCodec) -> Chunk:
    internal = [entry for entry in entries if not is_public(entry)]
    public = [entry for entry in entries if is_public(entry)] if internal else entries
    return Chunk(
        entries[0].sequence,
        entries[-1].sequence,
        codec.encode(public) if public else None,
        codec.encode(internal) if internal else None,
    )
