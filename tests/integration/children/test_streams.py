"""The streams of children as steps read them: from their beginning to their end, whatever becomes of the child."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.children.family import BEGUN, GATE, Given, Inner, Outer, runs_of, until

from stepwire.server.runs.errors import InvalidError, StoreDownError
from stepwire.server.store import RunKey, StoreCorruptError
from stepwire.server.testing import serve
from stepwire.workflow import Context
from stepwire.workflow.errors import ChildRunError, WorkflowError


async def names_of(handler: Any) -> list[str]:
    return [type(event).__name__ async for event in handler.stream_events()]


@pytest.mark.parametrize("first", ["reader", "cancel"])
def test_the_stream_of_a_child_that_is_cancelled_before_its_turn_ends(first: str) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        living = outer.inner.run(text="living", how="hang")
        queued = outer.inner.run(text="queued")
        reading = asyncio.create_task(names_of(queued))
        if first == "reader":
            for _ in range(20):
                await asyncio.sleep(0)
            assert not reading.done()
        await queued.cancel_run()
        told = await reading
        again = await names_of(queued)
        await living.cancel_run()
        return [told, again, BEGUN["inner queued"]]

    with serve(Outer(act), Inner, settings={"max_children": 1}) as server, server.client() as client:
        expected = [["WorkflowCancelledEvent"], ["WorkflowCancelledEvent"], 0]
        assert client.start_run("Outer").result(timeout=60) == expected


def test_the_stream_of_a_child_that_cannot_be_started_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler = outer.inner.run(text="a")
        told = [event async for event in handler.stream_events()]
        with pytest.raises(ChildRunError, match="No"):
            await handler
        return [type(event).__name__ for event in told] + ["No" in told[-1].message]

    async def refuse(*_: Any) -> None:
        raise InvalidError("INVALID_REQUEST", "No")

    with serve(Outer(act), Inner) as server, server.client() as client:
        monkeypatch.setattr(runs_of(server).family.local, "start", refuse)
        assert client.start_run("Outer").result(timeout=60) == ["WorkflowFailedEvent", True]


def test_the_stream_of_a_queued_child_is_read_once_it_has_its_turn() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handlers = [outer.inner.run(text=text, how="note", n=2) for text in "abc"]
        return await asyncio.gather(*map(names_of, handlers))

    with serve(Outer(act), Inner, settings={"max_children": 1}) as server, server.client() as client:
        assert client.start_run("Outer").result(timeout=60) == [["Note", "Note", "StopEvent"]] * 3


def test_a_store_that_fails_for_a_while_does_not_fail_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler = outer.inner.run(text="a", how="note", n=3)
        await handler
        return [event.text if hasattr(event, "text") else "" async for event in handler.stream_events()]

    with serve(Outer(act), Inner) as server, server.client() as client:
        feeds = runs_of(server).pool.feeds
        ready, failures = feeds.ready, [StoreDownError("down"), StoreDownError("down")]

        async def fails(*args: Any) -> Any:
            if failures:
                raise failures.pop()
            return await ready(*args)

        monkeypatch.setattr(feeds, "ready", fails)
        monkeypatch.setattr("stepwire.server.runs.family.backoff._FIRST_SECONDS", 0.01)
        assert client.start_run("Outer").result(timeout=60) == ["a 0", "a 1", "a 2", ""]
        assert not failures


def test_a_damaged_log_of_a_child_is_told_as_an_error_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler = outer.inner.run(text="a", how="note")
        await handler
        with pytest.raises(ChildRunError, match=r"the stream of run .* of Inner is damaged"):
            await names_of(handler)
        return "told"

    async def damaged(*_: Any) -> Any:
        raise StoreCorruptError("a chunk")

    with serve(Outer(act), Inner) as server, server.client() as client:
        monkeypatch.setattr(runs_of(server).pool.feeds, "ready", damaged)
        assert client.start_run("Outer").result(timeout=60) == "told"


def test_the_stream_of_a_child_that_is_deleted_while_it_is_read_ends() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler = outer.inner.run(text="a", how="ask")
        found = []
        async for event in handler.stream_events():
            found.append(type(event).__name__)
            GATE["reads"] = True
        with pytest.raises(WorkflowError):
            await handler
        return found

    with serve(Outer(act), Inner) as server, server.client() as client:
        run = client.start_run("Outer")
        until(lambda: GATE.get("reads"), "the question in the stream")
        child = next(iter(client.list_runs(parent=run.run_id)))
        pool = runs_of(server).pool
        live = pool.in_memory(RunKey("default", child.run_id))

        async def lose() -> None:
            """Have the child gone without a word, as a delete by hand in the database does it."""
            live.vanish()
            pool._live.pop(live.key)
            await pool.store.delete(live.key)

        server._call(lose())
        server._call(runs_of(server).family.ends.take_end(RunKey("default", run.run_id), child.run_id))
        assert run.result(timeout=60) == ["Question", "WorkflowFailedEvent"]
