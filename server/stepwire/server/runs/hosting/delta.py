"""Encode the changes of a snapshot's parts as a delta, and fold the deltas of a stored snapshot into its parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json

from stepwire.server.store import StoreCorruptError, StoredSnapshot

Parts = dict[str, Any]
"""Key to parsed JSON."""


def encode_delta(parts: Mapping[str, bytes], deleted: Iterable[str] = ()) -> bytes:
    """Return changed and deleted parts as one JSON document. The values of `parts` are JSON already."""
    values = b",".join(to_json(key) + b":" + value for key, value in parts.items())
    gone = list(deleted)
    if gone:
        return b'{"set":{%b},"del":%b}' % (values, to_json(gone))
    return b'{"set":{%b}}' % values


def fold(stored: StoredSnapshot) -> Parts:
    """Return the parts of a stored snapshot: its full commit with the deltas applied. StoreCorruptError if damaged."""
    try:
        parts: Parts = dict(json.loads(stored.full)["set"])
        for delta in stored.deltas:
            change = json.loads(delta)
            parts.update(change["set"])
            for key in change.get("del", ()):
                parts.pop(key, None)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorruptError(f"the snapshot at sequence {stored.sequence} cannot be read") from error
    return parts
