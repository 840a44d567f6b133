from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from pydantic import ValidationError, field_validator

from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.broker.log.received import INLINE_VALUES, receive, values_in
from stepwire.workflow.codec.decoder import decode
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.events import Event, event_to_json

threads: list[threading.Thread] = []


class Rows(Event):
    rows: list[Any]

    @field_validator("rows")
    @classmethod
    def _note(cls, rows: list[Any]) -> list[Any]:
        threads.append(threading.current_thread())
        return rows


NAMES = TypeRegistry([Rows])


@pytest.mark.parametrize("value", [1, [], {}, [[]], [1, {"a": [2, 3]}], {"a": 1, "b": []}, ["a,b"]])
def test_values_are_counted_without_parsing(value: Any) -> None:
    def count(value: Any) -> int:
        if isinstance(value, dict):
            value = list(value.values())
        return 1 + sum(map(count, value)) if isinstance(value, list) else 1

    assert count(value) <= values_in(json.dumps(value).encode()) <= 2 * count(value)


async def test_a_large_event_is_made_and_encoded_off_the_loop() -> None:
    threads.clear()
    small = await receive(Rows, b'{"rows":[1,2]}', NAMES)
    assert (small.wire, small.saved) == (None, None)
    data = json.dumps({"rows": [[]] * INLINE_VALUES}).encode()
    large = await receive(Rows, data, NAMES)
    assert large.saved is not None
    assert large.wire == event_to_json(large.event)
    assert decode(large.saved, NAMES) == large.event
    here = threading.current_thread()
    assert [thread is here for thread in threads] == [True, False]


async def test_other_tasks_go_on_while_it_is_made() -> None:
    entered, left = threading.Event(), threading.Event()

    class Slow(Event):
        rows: list[Any]

        @field_validator("rows")
        @classmethod
        def _wait(cls, rows: list[Any]) -> list[Any]:
            entered.set()
            assert left.wait(60)
            return rows

    async def other() -> None:
        await asyncio.to_thread(entered.wait, 60)
        left.set()

    data = json.dumps({"rows": [1] * INLINE_VALUES}).encode()
    received, _ = await asyncio.gather(receive(Slow, data, TypeRegistry([Slow])), other())
    assert len(received.event.rows) == INLINE_VALUES


@pytest.mark.parametrize("times", [1, INLINE_VALUES])
async def test_what_does_not_fit_is_refused_whatever_its_size(times: int) -> None:
    for data in ({"rows": 1, "more": [1] * times}, {"other": [1] * times}):
        with pytest.raises(ValidationError, match="rows"):
            await receive(Rows, json.dumps(data).encode(), NAMES)


async def test_a_large_event_that_cannot_be_saved_is_refused() -> None:
    with pytest.raises(SerializationError):
        await receive(Rows, json.dumps({"rows": [1] * INLINE_VALUES}).encode(), TypeRegistry([]))


async def test_the_journal_takes_what_was_made() -> None:
    journal = Journal(NAMES)
    large = await receive(Rows, json.dumps({"rows": [1] * INLINE_VALUES}).encode(), NAMES)
    journal.received = large
    assert journal.wire(large.event) is large.wire
    assert journal.encode(large.event) is large.saved
    other = Rows(rows=[1])
    assert journal.wire(other) == b'{"rows":[1]}'
    journal.take()
    assert journal.received is None
