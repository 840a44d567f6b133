"""Whatever runs hold, a client with gRPC's defaults can read it: pages, entries and runs fit into 4 MiB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.integration.rpc_serving import JSON, VALUE, Rpc, refused, registry_of, serving

from stepwire.client import Client
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

KIB, MIB = 1 << 10, 1 << 20
LARGEST = 4 * MIB
"""Bytes that a gRPC client accepts by default."""


class Sized(StartEvent):
    size: int
    count: int = 1


class Blob(Event):
    text: str


class Numbers(Event):
    numbers: list[int]


class Asked(InputRequiredEvent):
    text: str


class Big(Workflow):
    """End with a large result."""

    @step
    async def end(self, ev: Sized) -> StopEvent:
        return StopEvent(result="x" * ev.size)


class Writes(Workflow):
    """Write large entries."""

    @step
    async def write(self, ctx: Context, ev: Sized) -> StopEvent:
        for _ in range(ev.count):
            ctx.write_event_to_stream(Blob(text="x" * ev.size))
        return StopEvent(result="ok")


class Counts(Workflow):
    """Write entries that take several times as many bytes as protobuf values."""

    @step
    async def write(self, ctx: Context, ev: Sized) -> StopEvent:
        for _ in range(ev.count):
            ctx.write_event_to_stream(Numbers(numbers=[1] * ev.size))
        return StopEvent(result="ok")


class Asks(Workflow):
    """Ask many large questions at the same time."""

    @step
    async def begin(self, ev: Sized) -> list[Blob]:
        return [Blob(text=f"{number}" + "x" * ev.size) for number in range(ev.count)]

    @step(num_workers=64)
    async def ask(self, ctx: Context, ev: Blob) -> StopEvent:
        question = Asked(text=ev.text)
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=question, waiter_id=ev.text[:8])
        return StopEvent()


@pytest_asyncio.fixture
async def big() -> AsyncIterator[Rpc]:
    registry = registry_of(big=Big(), writes=Writes(), counts=Counts(), asks=Asks(timeout=None))
    async with serving(registry) as rpc, grpc.aio.insecure_channel(rpc.server.address) as channel:
        rpc.runs = run_service_pb2_grpc.RunServiceStub(channel)  # of a channel with gRPC's defaults
        yield rpc


async def listed(rpc: Rpc, **fields: Any) -> list[list[types.Run]]:
    """Return all pages."""
    found: list[list[types.Run]] = []
    token = ""
    while True:
        page = await rpc.runs.ListRuns(runs.ListRunsRequest(page_token=token, **fields))
        assert page.ByteSize() < LARGEST
        found.append(list(page.runs))
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.parametrize("encoding", [JSON, VALUE])
async def test_pages_are_bounded_by_bytes(big: Rpc, encoding: types.PayloadEncoding) -> None:
    wanted = [(await big.start("big", {"size": 60 * KIB})).run_id for _ in range(100)]
    for run_id in wanted:
        await big.ended(run_id)
    for size in (0, 1000, 20):
        # Without results a page is small, and as long as asked for.
        (first, *more) = await listed(big, page_size=size, encoding=encoding)
        assert len(first) == (size if 0 < size < 100 else 100)
        assert not any(run.outcome.HasField("result") for run in first)
        assert all(run.partial for run in first)
        assert len(more) == (4 if size == 20 else 0)
        # With results it ends earlier, and every run comes once.
        full = await listed(big, page_size=size, encoding=encoding, view=runs.RUN_VIEW_FULL)
        assert [run.run_id for page in full for run in page] == wanted[::-1]
        assert len(full) > len(more) + 1 or size == 20
        assert {len(run.outcome.result.json or run.outcome.result.value.string_value) for run in full[0]} <= {
            60 * KIB,
            60 * KIB + 2,
        }


async def test_a_run_larger_than_a_page_has_a_page_of_its_own(big: Rpc) -> None:
    for _ in range(3):
        await big.ended((await big.start("big", {"size": 5 * MIB // 2})).run_id)
    full = await listed(big, encoding=JSON, view=runs.RUN_VIEW_FULL)
    assert [len(page) for page in full] == [1, 1, 1]


async def test_an_unknown_view_is_refused(big: Rpc) -> None:
    refusal = await refused(big.runs.ListRuns(runs.ListRunsRequest(view=7)))  # type: ignore[arg-type]
    assert (refusal.reason, list(refusal.fields)) == ("INVALID_REQUEST", ["view"])


@pytest.mark.parametrize(
    ("workflow", "size", "count"),
    [("writes", 2 * MIB, 3), ("writes", 900 * KIB, 8), ("counts", 90_000, 4), ("writes", 3 * MIB - 100, 1)],
)
@pytest.mark.parametrize("encoding", [JSON, VALUE])
async def test_every_frame_of_a_stream_fits(
    big: Rpc, workflow: str, size: int, count: int, encoding: types.PayloadEncoding
) -> None:
    run = await big.start(workflow, {"size": size, "count": count})
    await big.ended(run.run_id)
    options = runs.StreamOptions(encoding=encoding)
    entries: list[types.LogEntry] = []
    async for frame in big.runs.StreamEvents(runs.StreamEventsRequest(run_id=run.run_id, options=options)):
        assert frame.ByteSize() < LARGEST
        entries += frame.events.entries
    assert len(entries) == count + 1


async def test_an_event_larger_than_an_entry_is_refused_where_it_is_made(big: Rpc) -> None:
    for workflow, where in (("writes", "write"), ("big", "end")):
        run = await big.ended((await big.start(workflow, {"size": 3 * MIB})).run_id)
        assert run.status == types.RUN_STATUS_FAILED
        failure = run.outcome.failure
        assert (failure.step, failure.error_type) == (where, "EventTooLargeError")
        assert "at most 3145728" in failure.message


async def test_the_largest_entry_is_a_setting() -> None:
    async with (
        serving(registry_of(big=Big()), max_entry_bytes=8 * MIB) as rpc,
        Client(rpc.server.address) as client,
    ):
        run = await client.start_run("big", size=7 * MIB)
        assert len(await run.result()) == 7 * MIB
        (info,) = [info async for info in client.list_runs()]
        assert info.partial
        assert info.outcome is not None
        assert info.outcome.result is None
        (info,) = [info async for info in client.list_runs(results=True)]
        assert not info.partial
        assert info.outcome is not None
        assert len(info.outcome.result) == 7 * MIB


async def test_a_run_with_many_large_questions_fits(big: Rpc) -> None:
    run = await big.start("asks", {"size": 100 * KIB, "count": 60})
    while len((found := await big.get(run.run_id)).pending_waiters) < 60:
        assert found.ByteSize() < LARGEST
    assert found.ByteSize() < LARGEST
    assert found.partial
    assert len({waiter.waiter_id for waiter in found.pending_waiters}) == 60  # each can be answered
    assert 0 < sum(waiter.HasField("prompt") for waiter in found.pending_waiters) < 10
    (page,) = await listed(big, encoding=JSON)
    assert page[0].ByteSize() < 128 * KIB
    assert page[0].partial
