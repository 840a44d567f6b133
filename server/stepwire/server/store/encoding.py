"""Encode records and answered requests for a table, and checksum everything that is written.

The checksums are part of the format of stored data: what they cover must not change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from zlib import crc32

from stepwire.server.store.errors import CommitTooLargeError, StoreCorruptError, StoreError
from stepwire.server.store.limits import MAX_COMMIT_BYTES
from stepwire.server.store.records import Chunk, Commit, RequestRecord, RunKey, RunRecord
from stepwire.server.store.terms import terms_from, terms_text


class RecordRow(NamedTuple):
    """A record as a row of the table of runs; labels, info and terms are JSON."""

    namespace: str
    run_id: str
    workflow: str
    status: str
    created_at: float
    updated_at: float
    ended_at: float | None
    wake_at: float | None
    last_sequence: int
    first_available: int
    labels: str
    start_request_id: str
    start_digest: str
    info: str
    terms: str = "[]"


RECORD_COLUMNS = ", ".join(RecordRow._fields)
"""The columns of a RecordRow, in order."""

CHECKED_COLUMNS = f"{RECORD_COLUMNS}, pk, began, checksum"
"""The columns of a row that its checksums cover, in order."""


def _json_encoder() -> Callable[[Any], str]:
    """Return what encodes values as JSON, without spaces and without NaN.

    `JSONEncoder.encode` makes its encoder of C anew at each call; this one is made once.
    """
    encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    escape = json.encoder.encode_basestring_ascii
    pieces = make(None, encoder.default, escape, None, ":", ",", False, False, False)
    return lambda value: "".join(pieces(value, 0))


_to_json = _json_encoder()


def encode_json(value: dict[str, Any]) -> str:
    """Encode a JSON-able dict.

    Raises:
        TypeError: JSON cannot hold a value's type.
        ValueError: JSON cannot hold a value.
    """
    return _to_json(value) if value else "{}"


def encode_record(record: RunRecord) -> RecordRow:
    """Encode a record.

    Raises:
        TypeError: JSON cannot hold the type of a value in labels or info.
        ValueError: JSON cannot hold a value in labels or info.
    """
    return RecordRow(
        record.key.namespace,
        record.key.run_id,
        record.workflow,
        record.status,
        record.created_at,
        record.updated_at,
        record.ended_at,
        record.wake_at,
        record.last_sequence,
        record.first_available,
        encode_json(record.labels),
        record.start_request_id,
        record.start_digest,
        encode_json(record.info),
        terms_text(record.terms),
    )


def decode_record(row: RecordRow, pending: dict[int, dict[str, Any]]) -> RunRecord:
    """Decode a record with its open questions."""
    info = json.loads(row.info)
    if "pending" in info:  # of a version that kept them there; the next commit writes them apart
        pending = dict(enumerate(info["pending"]))
    return RunRecord(
        key=RunKey(row.namespace, row.run_id),
        workflow=row.workflow,
        status=row.status,
        created_at=row.created_at,
        updated_at=row.updated_at,
        ended_at=row.ended_at,
        wake_at=row.wake_at,
        last_sequence=row.last_sequence,
        first_available=row.first_available,
        labels=json.loads(row.labels),
        start_request_id=row.start_request_id,
        start_digest=row.start_digest,
        info=info,
        pending=pending,
        terms=terms_from(row.terms),
    )


def read_record(values: Sequence[Any]) -> RunRecord:
    """Decode a row of the CHECKED_COLUMNS of a run and its open questions.

    The questions are lines of number, checksum and text, in order; None when there are none.

    Raises:
        StoreCorruptError: They are not as they were written.
    """
    *fields, pk, began, checksum, questions = values
    row = RecordRow(*fields)
    if began != began_checksum(pk, row) or checksum != record_checksum(pk, row):
        raise StoreCorruptError(f"the record of run {row.run_id} is damaged")
    pending: dict[int, dict[str, Any]] = {}
    for line in questions.split("\n") if questions else ():
        number, checksum, text = line.split(" ", 2)
        if int(checksum) != question_checksum(pk, int(number), text):
            raise StoreCorruptError(f"a question of run {row.run_id} is damaged")
        pending[int(number)] = json.loads(text)
    return decode_record(row, pending)


@lru_cache(maxsize=256)
def _time_text(time: float | None) -> str:
    """Return the shortest text of a time, which takes longer to find than all else in a checksum.

    A record has the same time in several fields, and later records have it again.
    """
    return "None" if time is None else repr(float(time))


def began_checksum(run: int, row: RecordRow) -> int:
    """Return the checksum of what no later commit changes: how the run began, and where its log begins."""
    names = f"{row.namespace!r}, {row.run_id!r}, {row.workflow!r}"
    start = f"{_time_text(row.created_at)}, {row.start_request_id!r}, {row.start_digest!r}"
    # Left out at 1: rows from before logs could be trimmed have no such field.
    trimmed = "" if row.first_available == 1 else f", {row.first_available}"
    return crc32(f"({run}, {names}, {start}{trimmed})".encode())


def record_checksum(run: int, row: RecordRow) -> int:
    """Return the checksum of what commits change in a record; it covers the run's pk too."""
    times = f"[{_time_text(row.updated_at)}, {_time_text(row.ended_at)}, {_time_text(row.wake_at)}]"
    # The text is that of a tuple. 1: every log began there when the format was made.
    head = f"({run}, {row.status!r}, {times}, {row.last_sequence}, 1, {row.labels!r})"
    return crc32(row.info.encode(), crc32(head.encode()))


class EncodedCommit(NamedTuple):
    """What a store writes of a commit beside its delta, chunks and answers.

    Attributes:
        row: Its record.
        pending: Its changes of the open questions; None for those that are closed.
        size: About how many bytes the whole commit has.
    """

    row: RecordRow
    pending: Mapping[int, str | None]
    size: int


def encode_commit(commit: Commit) -> EncodedCommit:
    """Encode a commit, so that its record may change.

    Raises:
        CommitTooLargeError: It has more than MAX_COMMIT_BYTES.
        StoreError: JSON cannot hold its record or a question.
    """
    run_id = commit.record.key.run_id
    pending: dict[int, str | None] = {}
    try:
        row = encode_record(commit.record)
        for number, question in commit.pending.items():
            pending[number] = None if question is None else _to_json(question)
    except (TypeError, ValueError) as error:
        raise StoreError(f"the record of run {run_id} is not JSON-able") from error
    size = len(commit.delta) + len(row.info)
    for chunk in commit.chunks:
        size += len(chunk.public or b"") + len(chunk.internal or b"")
    for text in pending.values():
        size += len(text or "")
    if size > MAX_COMMIT_BYTES:
        raise CommitTooLargeError(
            f"the commit of run {run_id} has {size} bytes, but at most {MAX_COMMIT_BYTES} are taken"
        )
    return EncodedCommit(row, pending, size)


def encode_request(request: RequestRecord) -> str:
    """Encode an answered request as a JSON array."""
    return _to_json(list(request))


def decode_requests(text: str) -> list[RequestRecord]:
    """Decode a JSON array of answered requests."""
    return [RequestRecord(*fields) for fields in json.loads(text)]


def question_checksum(run: int, number: int, question: str) -> int:
    """Return the checksum of an encoded question; it covers the run's pk and the number too."""
    return crc32(question.encode(), crc32(b"%d %d" % (run, number)))


def request_checksum(run: int, request: str) -> int:
    """Return the checksum of an encoded request; it covers the run's pk too."""
    return crc32(request.encode(), run)


def delta_checksum(run: int, sequence: int, full: bool, delta: bytes) -> int:
    """Return the checksum of a delta; it covers its run and sequence too."""
    return crc32(delta, crc32(b"%d %d %d" % (run, sequence, full)))


def chunk_checksum(run: int, chunk: Chunk) -> int:
    """Return the checksum of a chunk's entries; it covers its run and range too."""
    public, internal = chunk.public, chunk.internal
    head = b"%d %d %d %d %d" % (
        run,
        chunk.first,
        chunk.last,
        -1 if public is None else len(public),
        -1 if internal is None else len(internal),
    )
    return crc32(internal or b"", crc32(public or b"", crc32(head)))
