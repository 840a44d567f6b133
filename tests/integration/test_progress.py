"""The clients show a run's progress: a line for each event."""

from __future__ import annotations

import io
import re

import pytest
from pydantic import BaseModel

from stepwire.client import Client, RunFailedError, SyncClient
from stepwire.server.testing import serve
from stepwire.workflow import Context, Event, StartEvent, StopEvent, Workflow, step


class Part(Event):
    number: int
    text: str = ""


class Parts(Workflow):
    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Part(number=1, text="a\n\x1b[2J\u202eb"))
        ctx.write_event_to_stream(Part(number=2, text="x" * 1000))
        if ev.get("fails"):
            raise ValueError
        return StopEvent(result="done")


def checked(text: str, last: str) -> None:
    first, second, third = text.splitlines()
    assert re.match(r" +\d+\.\d\d s  Part  ", first)
    assert first.endswith(r' {"number": 1, "text": "a\n\u001b[2J\u202eb"}')
    assert second.endswith("xxx...")
    assert len(second) < 150
    assert f"  {last}" in third
    assert text.isascii()


def test_the_blocking_client_shows_progress_and_returns_the_result() -> None:
    class Typed(BaseModel):
        number: int
        text: str

    Typed.__name__ = "Part"
    for events in ([], [Typed]):
        shown = io.StringIO()
        with serve(Parts) as server, SyncClient(server.address, events=events) as client:
            assert client.start_run("Parts").show(shown) == "done"
        checked(shown.getvalue(), "StopEvent")


async def test_the_asyncio_client_shows_progress_and_raises_as_result_does() -> None:
    shown = io.StringIO()
    with serve(Parts) as server:
        async with Client(server.address) as client:
            run = await client.start_run("Parts", fails=True)
            with pytest.raises(RunFailedError):
                await run.show(shown)
    checked(shown.getvalue(), "WorkflowFailedEvent")
