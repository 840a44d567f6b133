"""Events that a step keeps no reference to are handed over as they are; others are copied once."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from stepwire.workflow import Context, Event, StartEvent, StopEvent, Workflow, step

COUNTED = sys.implementation.name == "cpython" and sys.version_info < (3, 14)


class Note(Event):
    text: str = ""


def emit(ctx: Context[Any], note: Note) -> None:
    ctx.write_event_to_stream(note)


class Writes(Workflow):
    """Write and send events in each way that keeps a reference, and change them afterwards."""

    @step
    async def work(self, ctx: Context[Any], ev: StartEvent) -> Note | StopEvent:
        kept = [Note(text=f"kept {number}") for number in range(4)]
        ctx.write_event_to_stream(kept[0])
        emit(ctx, kept[1])
        local = Note(text="local")
        ctx.write_event_to_stream(local)
        list(map(ctx.write_event_to_stream, kept[2:3]))
        ctx.write_event_to_stream(Note(text="given away"))
        ctx.send_event(kept[3])
        for note in (*kept, local):
            note.text = "changed"
        return StopEvent(result=None) if ev.get("stop", None) else None  # type: ignore[return-value]

    @step
    async def take(self, ev: Note) -> StopEvent:
        return StopEvent(result=ev.text)


async def test_what_a_step_changes_after_it_wrote_or_sent_an_event_is_not_seen() -> None:
    handler = Writes().run()
    texts = [event.text async for event in handler.stream_events() if isinstance(event, Note)]
    assert texts == ["kept 0", "kept 1", "local", "kept 2", "given away"]
    assert await handler == "kept 3"


async def test_what_one_reader_changes_another_does_not_see() -> None:
    handler = Writes().run()
    await handler
    for _ in range(2):
        found = [event async for event in handler.stream_events() if isinstance(event, Note)]
        assert [event.text for event in found] == ["kept 0", "kept 1", "local", "kept 2", "given away"]
        for event in found:
            event.text = "changed by a reader"


@pytest.mark.skipif(not COUNTED, reason="this interpreter does not count each reference at once")
async def test_an_event_that_nobody_keeps_is_not_copied_on_its_way_to_a_stream() -> None:
    made: list[int] = []

    class Gives(Workflow):
        @step
        async def work(self, ctx: Context[Any], ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(self._make())
            return StopEvent(result=None)

        def _make(self) -> Note:
            note = Note(text="new")
            made.append(id(note))
            return note

    handler = Gives().run()
    await handler
    assert handler.ctx is not None
    assert made == [id(handler.ctx._broker.stream.give(0))]


async def test_a_reader_in_another_thread_and_the_queue_of_1_x_get_objects_of_their_own_too() -> None:
    handler = Writes().run()
    await handler

    async def read() -> list[Note]:
        return [event async for event in handler.stream_events(after=0) if isinstance(event, Note)]

    kept = ["kept 0", "kept 1", "local", "kept 2", "given away"]
    for _ in range(2):
        queue = handler.ctx.streaming_queue
        found = [await asyncio.to_thread(asyncio.run, read()), await read()]
        found.append([await queue.get() for _ in kept])  # type: ignore[misc]
        for notes in found:
            assert [note.text for note in notes] == kept
        for note in (note for notes in found for note in notes):
            note.text = "changed by a reader"
        handler.ctx._streaming = None


async def test_what_a_step_changes_in_an_event_that_it_has_collected_is_not_seen() -> None:
    class Collects(Workflow):
        @step
        async def begin(self, ctx: Context[Any], ev: StartEvent) -> Note | None:
            for text in "ab":
                ctx.send_event(Note(text=text, more=[text]))
            return None

        @step(num_workers=1)
        async def take(self, ctx: Context[Any], ev: Note) -> StopEvent | None:
            found = ctx.collect_events(ev, [Note, Note])
            ev.text = "changed"
            ev.more.append("changed")
            if found is None:
                return None
            return StopEvent(result=[(each.text, each.more) for each in found if isinstance(each, Note)])

    assert await Collects().run() == [("a", ["a"]), ("b", ["b"])]
