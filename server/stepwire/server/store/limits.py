"""The limits that every store keeps to, each defined here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

from stepwire.server.store.records import Chunk

KEPT_REQUESTS = 10_000
"""Answered requests of a run that are kept at most: they are in memory while the run is."""

KEPT_OLD_REQUESTS = 1_000
"""Of these, how many are kept whatever their age."""

REQUEST_AGE = 24 * 3600.0
"""Seconds that a request_id holds at least; the contract promises them.

Older answers beyond `KEPT_OLD_REQUESTS` are dropped, and so is what is kept of the start of a pruned run.
"""

MAX_COMMIT_BYTES = 256 << 20
"""Bytes of a commit that every store takes if it has the space; larger ones are refused at once."""

LONG_LOG = 1000
"""Entries that a log has at least before `RunStore.long_logs` finds it: it has an index of its own."""

LIST_BYTES = 8 << 20
"""`RunStore.list` returns no further record once their `info` has so many characters: results can be megabytes."""

ENTRIES_BYTES = 512 * 1024
"""`RunStore.entries` returns no further chunk once it has as many bytes: it bounds what a slow reader holds."""


def first_chunks(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Return the first of these chunks: at least one, and no further ones once they have ENTRIES_BYTES bytes."""
    found: list[Chunk] = []
    size = 0
    for chunk in chunks:
        found.append(chunk)
        size += chunk.size
        if size >= ENTRIES_BYTES:
            break
    return found
