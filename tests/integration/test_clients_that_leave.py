"""A client that leaves while its stream is written: CANCELLED, and nothing in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from typing import Any

import grpc
import pytest
from tests.integration.rpc_serving import JSON, Rpc, event

from stepwire.v1 import run_service_pb2 as runs

_CANCELLED = grpc.StatusCode.CANCELLED.value[0]
_TIMES = 12


def _stream_events(channel: Any, run_id: str) -> Any:
    request = runs.StreamEventsRequest(run_id=run_id, options=runs.StreamOptions(encoding=JSON))
    return channel.unary_stream("/stepwire.v1.RunService/StreamEvents")(request.SerializeToString())


def _converse(channel: Any, run_id: str) -> Any:
    attach = runs.ConverseAttach(run_id=run_id, options=runs.StreamOptions(encoding=JSON))
    frames = iter([runs.ConverseRequest(attach=attach).SerializeToString()])
    return channel.stream_stream("/stepwire.v1.RunService/Converse")(frames)


async def _leave_while_the_loop_is_busy(rpc: Rpc, begin: Any, run_id: str, *, cancel: bool) -> None:
    """Read one frame, then leave while the server's loop, which is this one, can look at nothing."""
    read, go, gone = threading.Event(), threading.Event(), threading.Event()

    def client() -> None:
        with grpc.insecure_channel(rpc.server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = begin(channel, run_id)
            next(call)
            read.set()
            go.wait(60)
            if cancel:
                call.cancel()
        gone.set()

    thread = threading.Thread(target=client)
    thread.start()
    await asyncio.to_thread(read.wait, 60)
    go.set()
    gone.wait(60)  # blocks the loop
    thread.join()


@pytest.mark.parametrize(("name", "begin"), [("StreamEvents", _stream_events), ("Converse", _converse)])
async def test_a_client_that_leaves_while_its_stream_is_written(
    rpc: Rpc, caplog: pytest.LogCaptureFixture, name: str, begin: Any
) -> None:
    run = await rpc.start("ask", {"item": "tea"})
    # More than gRPC buffers: the server is always in the middle of a write.
    for _ in range(40):
        sent = event("Note", n=1, text="x" * 200_000)
        await rpc.runs.PublishEvent(runs.PublishEventRequest(run_id=run.run_id, event=sent))
    caplog.set_level(logging.WARNING)
    for number in range(_TIMES):
        await _leave_while_the_loop_is_busy(rpc, begin, run.run_id, cancel=number % 2 == 0)
    counted = rpc.server.metrics.rpc(f"/stepwire.v1.RunService/{name}")
    while rpc.server.calls.streams or sum(counted.codes.values()) < _TIMES:
        await rpc.get(run.run_id)  # the server has heard of the last one when it is counted
    assert counted.codes == Counter({_CANCELLED: _TIMES})
    assert [record.getMessage() for record in caplog.records] == []
