"""Frames read by columns are what they are entry by entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stepwire.server.web.columns import columns
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import types_pb2

PLAIN = st.tuples(st.integers(1, 2**63 - 1), st.text(min_size=1), st.binary(), st.text(), st.integers(0, 2**31 - 1))


def frame(entries: list[tuple[int, str, bytes, str, int]]) -> pb.StreamEventsResponse:
    made = pb.StreamEventsResponse()
    made.events.from_sequence, made.events.to_sequence = 1, 2
    for sequence, name, data, step, nanos in entries:
        entry = made.events.entries.add(sequence=sequence, type=name, step=step, kind=types_pb2.ENTRY_KIND_STREAM)
        entry.time.nanos = nanos
        entry.payload.json = data
    return made


@given(st.lists(PLAIN, max_size=20))
def test_columns_have_the_values_of_all_entries(entries: list[tuple[int, str, bytes, str, int]]) -> None:
    found = columns(frame(entries).SerializeToString())
    assert found is not None
    wanted = [(sequence, name.encode(), data) for sequence, name, data, _, _ in entries]
    assert list(zip(*found, strict=True)) == wanted


@given(st.lists(PLAIN, max_size=5), st.integers(0, 5))
def test_entries_without_a_type_have_no_columns(entries: list[tuple[int, str, bytes, str, int]], place: int) -> None:
    made = frame(entries)
    attempt = types_pb2.LogEntry(sequence=7, kind=types_pb2.ENTRY_KIND_EXECUTION, step="work")
    made.events.entries.insert(min(place, len(entries)), attempt)
    assert columns(made.SerializeToString()) is None


def test_other_frames_have_no_entries() -> None:
    beat = pb.StreamEventsResponse()
    beat.heartbeat.sequence = 3
    found = columns(beat.SerializeToString())
    assert found is not None
    assert [len(each) for each in found] == [0, 0, 0]
