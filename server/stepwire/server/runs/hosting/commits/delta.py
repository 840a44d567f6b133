"""Encode the changes of a snapshot's parts as a delta, and fold the deltas of a stored snapshot into its parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic_core import to_json

from stepwire.server.store import StoreCorruptError, StoredSnapshot
from stepwire.workflow.hosting import parts as keys

Parts = dict[str, Any]
"""Key to parsed JSON."""

_SLICE_BYTES: Final = 128 * 1024
"""Bytes of JSON that are parsed before other work gets its turn: about 2 ms."""
_SET: Final = '{"set":{'
_decode = json.JSONDecoder().raw_decode


def encode_delta(parts: Mapping[str, bytes], deleted: Iterable[str] = ()) -> bytes:
    """Return changed and deleted parts as one JSON document. The values of `parts` are JSON already."""
    values = b",".join([to_json(key) + b":" + value for key, value in parts.items()])
    gone = list(deleted)
    if gone:
        return b'{"set":{%b},"del":%b}' % (values, to_json(gone))
    return b'{"set":{%b}}' % values


def fold(stored: StoredSnapshot) -> Parts:
    """Return the parts of a stored snapshot: its full commit with the deltas applied. StoreCorruptError if damaged."""
    parts: Parts = {}
    for _ in fold_in_slices(stored, parts):
        pass
    return parts


def children_in(parts: Mapping[str, Any], close: str, *states: str) -> list[dict[str, Any]]:
    """Return the parts of the children with one of these states that are closed so when their parent ends, in order."""
    found = (parts[keys.child(number)] for number in keys.numbers_of(parts, keys.CHILD))
    return [
        part
        for part in found
        if isinstance(part, dict) and part.get("st") in states and part.get("p") == close and not part.get("k")
    ]


def fold_in_slices(stored: StoredSnapshot, parts: Parts) -> Iterator[None]:
    """Put the parts of a stored snapshot into `parts`, in slices; contract of `fold`."""
    try:
        for document in (stored.full, *stored.deltas):
            yield from _apply(document, parts)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StoreCorruptError(f"the snapshot at sequence {stored.sequence} cannot be read") from error


def _apply(document: bytes, parts: Parts) -> Iterator[None]:
    """Apply what `encode_delta` returned, a large document part by part."""
    if len(document) <= _SLICE_BYTES:
        change = json.loads(document)
        parts.update(change["set"])
        gone = change.get("del", ())
    else:
        text = document.decode()
        if not text.startswith(_SET):
            raise ValueError("no parts")
        at, last = len(_SET), len(_SET)
        while text[at] != "}":
            key, at = _decode(text, at + (text[at] == ","))
            if text[at] != ":":
                raise ValueError("no value")
            parts[key], at = _decode(text, at + 1)
            if at - last > _SLICE_BYTES:
                last = at
                yield
        rest = text[at + 1 :]
        gone = json.loads("{" + rest.removeprefix(","))["del"] if rest != "}" else ()
    for key in gone:
        parts.pop(key, None)
