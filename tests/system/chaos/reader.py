"""Reading a run's log: followers under load, and what the healed server holds in the end."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from tests.system.chaos.history import History
from tests.system.chaos.server import CHANNEL_OPTIONS

from stepwire.client._core.reconnect import is_connection_loss
from stepwire.client._core.status import from_rpc_error
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2_grpc, types_pb2
from stepwire.v1 import state_service_pb2 as state

JSON = types_pb2.PAYLOAD_ENCODING_JSON
PUBLIC = (types_pb2.ENTRY_KIND_STREAM, types_pb2.ENTRY_KIND_TERMINAL)


def entry_of(entry: types_pb2.LogEntry) -> list[Any]:
    """Return an entry as the history keeps it: sequence, kind, type, fields."""
    kind = types_pb2.EntryKind.Name(entry.kind).removeprefix("ENTRY_KIND_")
    return [entry.sequence, kind, entry.type, json.loads(entry.payload.json or b"{}")]


async def follow(
    stub: run_service_pb2_grpc.RunServiceStub,
    history: History,
    run: str,
    reader: str,
    *,
    internal: bool,
    on_entry: Callable[[list[Any]], None] | None = None,
    on_cut: Callable[[], None] | None = None,
) -> None:
    """Follow a run from its beginning to its end, over as many calls as it takes; write down each batch.

    What was got is written down as it is: to find gaps and repeats is the checker's work.
    """
    cursor = 0
    while True:
        request = runs.StreamEventsRequest(
            run_id=run,
            after_sequence=cursor,
            options=runs.StreamOptions(encoding=JSON, include_internal=internal),
        )
        try:
            async for frame in stub.StreamEvents(request, wait_for_ready=True):
                if frame.HasField("events"):
                    batch = frame.events
                    entries = [entry_of(entry) for entry in batch.entries]
                    span = {"from": batch.from_sequence, "to": batch.to_sequence}
                    history.add("batch", run=run, reader=reader, internal=internal, entries=entries, **span)
                    cursor = batch.to_sequence
                    if on_entry is not None:
                        for entry in entries:
                            on_entry(entry)
                elif frame.HasField("finished"):
                    history.add("finished", run=run, reader=reader, to=cursor)
                    return
        except grpc.aio.AioRpcError as error:
            if not is_connection_loss(from_rpc_error(error)):
                history.add("refused", run=run, reader=reader, status=error.code().name, after=cursor)
                return
        if on_cut is not None:
            on_cut()
        await asyncio.sleep(random.uniform(0.005, 0.03))


async def finals(address: str, history: History, timeout: float = 120.0) -> int:
    """Write down what the server holds, once no run is at work any more; return the number of runs."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        states = state_service_pb2_grpc.StateServiceStub(channel)
        await _quiet(stub, history, timeout)
        found = await _all_runs(stub)
        for run in found:
            await _final(stub, states, history, run)
        history.add("healed", runs=len(found), start=time.time())
        return len(found)


async def _quiet(stub: run_service_pb2_grpc.RunServiceStub, history: History, timeout: float) -> None:
    """Wait until every run has ended or waits."""
    request = runs.ListRunsRequest(page_size=1000, statuses=[types_pb2.RUN_STATUS_RUNNING, types_pb2.RUN_STATUS_QUEUED])
    deadline = time.monotonic() + timeout
    while busy := (await stub.ListRuns(request, wait_for_ready=True)).runs:
        if time.monotonic() > deadline:
            for run in busy:
                history.add("stuck", run=run.run_id)
            return
        await asyncio.sleep(0.05)


async def _all_runs(stub: run_service_pb2_grpc.RunServiceStub) -> list[types_pb2.Run]:
    found: list[types_pb2.Run] = []
    token = ""
    while True:
        page = await stub.ListRuns(runs.ListRunsRequest(page_size=500, page_token=token, encoding=JSON))
        found += page.runs
        token = page.next_page_token
        if not token:
            return found


async def _final(
    stub: run_service_pb2_grpc.RunServiceStub,
    states: state_service_pb2_grpc.StateServiceStub,
    history: History,
    run: types_pb2.Run,
) -> None:
    entries: list[list[Any]] = []
    request = runs.StreamEventsRequest(
        run_id=run.run_id, options=runs.StreamOptions(encoding=JSON, include_internal=True), no_follow=True
    )
    async for frame in stub.StreamEvents(request):
        entries += [entry_of(entry) for entry in frame.events.entries]
    answer = await states.GetState(state.GetStateRequest(run_id=run.run_id, path="", encoding=JSON))
    failure = run.outcome.failure
    history.add(
        "final",
        run=run.run_id,
        request=run.labels.get("request", ""),
        status=types_pb2.RunStatus.Name(run.status).removeprefix("RUN_STATUS_"),
        failure=f"{failure.step} {failure.error_type} {failure.message}".strip(),
        last=run.last_sequence,
        pending=sorted(waiter.waiter_id for waiter in run.pending_waiters),
        entries=entries,
        state=json.loads(answer.value.json),
    )
