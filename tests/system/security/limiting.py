"""A server with limits, and what the refusal of a limit looks like."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2
from tests.system.security import support
from tests.system.security.support import (
    METHODS,
    call,
    channel_to,
    frames,
    start_run,
    waiting,
)

from stepwire.server.app import Server
from stepwire.server.telemetry.metrics import Metrics
from stepwire.v1 import run_service_pb2 as runs

Code = grpc.StatusCode

metrics = Metrics()
"""The metrics of the running test's server."""


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Server]:
    global metrics
    async with support.serving(**settings) as server:
        metrics = server.metrics
        yield server


@asynccontextmanager
async def limited(**settings: Any) -> AsyncIterator[tuple[grpc.aio.Channel, str]]:
    async with serving(**settings) as server, channel_to(server) as channel:
        run_id = await start_run(channel)
        await waiting(channel, run_id)
        yield channel, run_id


def counted(limit: str) -> float:
    """Return how often the running test's server has refused for a limit."""
    return metrics.refused["limit", limit]


def refused(answer: Any, limit: str, *, retry: bool = False) -> None:
    """Check that an answer is the refusal of a limit."""
    assert (answer.code, answer.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"), answer
    assert answer.info().metadata["limit"] == limit
    again, quota = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
    if retry:
        assert answer.unpack(again)
        assert again.retry_delay.ToMilliseconds() > 0
    else:
        assert answer.unpack(quota)
        assert [item.subject for item in quota.violations] == [limit]
    assert counted(limit) > 0


async def ask(channel: grpc.aio.Channel, name: str, request: Any, **options: Any) -> Any:
    return await call(channel, METHODS[name], frames(request), **options)


def event(run_id: str, text: str) -> runs.SendEventRequest:
    request = runs.SendEventRequest(run_id=run_id)
    request.event.type = "Note"
    request.event.payload.json = f'{{"text": "{text}"}}'.encode()
    return request
