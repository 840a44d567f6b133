"""Every stream keeps the promised interval, whatever keeps it silent, so that clients notice missed heartbeats."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.rpc_serving import JSON, Rpc, event, serving

from stepwire.server.rpc import log_reader
from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.runs.log.feed import Feeds
from stepwire.v1 import run_service_pb2 as runs

KINDS = ("StreamEvents", "Converse")


async def opened(rpc: Rpc, kind: str, run_id: str, after: int = 0, window: int = 0, **options: Any) -> Any:
    """Follow a run, by a stream or by a conversation."""
    chosen = runs.StreamOptions(encoding=JSON, **options)
    if kind == "StreamEvents":
        return rpc.runs.StreamEvents(
            runs.StreamEventsRequest(run_id=run_id, after_sequence=after, options=chosen), timeout=20
        )
    call = rpc.runs.Converse(timeout=60)
    attach = runs.ConverseAttach(run_id=run_id, after_sequence=after, options=chosen, max_unacked=window)
    await call.write(runs.ConverseRequest(attach=attach))
    assert (await call.read()).WhichOneof("frame") == "opened"
    return call


async def beats(call: Any, number: int = 3) -> list[Any]:
    """Read frames until so many heartbeats came."""
    found: list[Any] = []
    while len(found) < number:
        frame = await call.read()
        if frame.WhichOneof("frame") == "heartbeat":
            found.append(frame.heartbeat)
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_while_nothing_happens(kind: str) -> None:
    async with serving(heartbeat=0.05) as rpc:
        run = await rpc.asking("tea")
        call = await opened(rpc, kind, run.run_id)
        assert {beat.sequence for beat in await beats(call)} == {run.last_sequence}
        call.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_while_the_filter_lets_nothing_through(kind: str) -> None:
    # A range without entries comes in place of a heartbeat: something does in each interval.
    async with serving(heartbeat=0.05) as rpc:
        run = await rpc.asking("tea")
        call = await opened(rpc, kind, run.run_id, event_types=["Pong"])
        covered, told = 0, 0
        for number in range(4):
            frame = await call.read()
            covered = max(covered, frame.events.to_sequence)
            told += frame.HasField("heartbeat")
            await rpc.send(run.run_id, event("Note", n=number))
        assert covered >= run.last_sequence
        assert told
        call.cancel()


async def test_while_the_window_is_full() -> None:
    async with serving(heartbeat=0.05) as rpc:
        run = await rpc.asking("tea")
        for number in range(3):
            await rpc.runs.PublishEvent(runs.PublishEventRequest(run_id=run.run_id, event=event("Note", n=number)))
        call = await opened(rpc, "Converse", run.run_id, window=1)
        assert len({beat.sequence for beat in await beats(call)}) == 1
        call.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_while_the_store_does_not_answer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go, ready = asyncio.Event(), Feeds.ready

    async def slow(*args: Any) -> Any:
        await go.wait()
        return await ready(*args)

    async with serving(heartbeat=0.05) as rpc:
        run = await rpc.asking("tea")
        monkeypatch.setattr(Feeds, "ready", slow)
        call = await opened(rpc, kind, run.run_id)
        assert {beat.sequence for beat in await beats(call)} == {0}
        go.set()
        while not (frame := await call.read()).HasField("events"):
            pass
        assert frame.events.to_sequence == run.last_sequence
        call.cancel()


async def test_while_a_send_holds_up_the_end_of_a_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    go, began, send = asyncio.Event(), asyncio.Event(), RunActions.send

    async def slow(*args: Any) -> Any:
        began.set()
        await go.wait()
        return await send(*args)

    async with serving(heartbeat=0.05) as rpc:
        run = await rpc.asking("tea")
        call = await opened(rpc, "Converse", run.run_id)
        with monkeypatch.context() as patched:
            patched.setattr(RunActions, "send", slow)
            late = runs.ConverseSend(request_id="late", event=event("Note", n=1))
            await call.write(runs.ConverseRequest(send=late))
            await began.wait()
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run.run_id))
        await beats(call, 5)
        go.set()
        while not (frame := await call.read()).HasField("send_result"):
            pass
        assert frame.send_result.error.code
        while not (frame := await call.read()).HasField("finished"):
            pass


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_learns_a_long_interval_while_it_counts_on_the_default(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "DEFAULT_INTERVAL", 0.05)
    async with serving(heartbeat=3600.0) as rpc:
        run = await rpc.asking("tea")
        call = await opened(rpc, kind, run.run_id)
        assert [beat.interval.seconds for beat in await beats(call, 1)] == [3600]
        call.cancel()
