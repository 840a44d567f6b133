"""Serve the commits of a run to the replicas whose callers read it: the internal method Follow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from stepwire.server.rpc.grpc_types import Context
from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.peers.content import json_of, texts
from stepwire.server.rpc.peers.frames import Frame, FrameWriter
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.runs.errors import RunsError, WrongReplicaError
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import TERMINAL, Commit, RunKey

__all__ = ["FOLLOW", "INTERNAL", "add_follow"]

INTERNAL: Final = "/stepwire.internal.Replicas/"
"""What the names of methods for other replicas begin with: nobody else may call them, whatever the credential."""
FOLLOW: Final = INTERNAL + "Follow"

_MOST_BYTES: Final = 8 << 20
"""Bytes that wait for a replica that does not read. Beyond that it begins anew, and reads the store."""


def add_follow(server: Handlers, pool: RunPool, signer: HopSigner) -> None:
    """Serve Follow on a gRPC server that is not started."""

    async def follow(request: bytes, context: Context) -> AsyncIterator[bytes]:
        if signer.verify(context.invocation_metadata() or (), FOLLOW) is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "This method is for replicas")
        try:
            signer.check_addressee(context.invocation_metadata() or ())
        except WrongReplicaError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        try:
            namespace, run_id = texts(json_of(request), 2)
        except ValueError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "This names no run")
        found = False
        async for frame in _commits(pool, RunKey(namespace, run_id)):
            found = True
            yield frame
        if not found:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "This replica does not have the run")

    name = FOLLOW.rpartition("/")[2]
    handlers: dict[str, Any] = {name: grpc.unary_stream_rpc_method_handler(follow)}
    service = INTERNAL.strip("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


async def _commits(pool: RunPool, key: RunKey) -> AsyncIterator[bytes]:
    """Yield a frame with the run's record, then one for each commit, until the run ends or leaves this process."""
    run = pool.in_memory(key)
    if run is None or not run.commits.created or run.gone:
        return
    try:
        feed = await pool.feeds.open(key)
    except RunsError:
        return
    waiting: deque[Commit | None] = deque()
    size = 0
    loop = asyncio.get_running_loop()
    news: asyncio.Future[None] = loop.create_future()

    def heard(commit: Commit | None) -> None:
        nonlocal size
        waiting.append(commit)
        size += 0 if commit is None else sum(chunk.size for chunk in commit.chunks)
        if not news.done():
            news.set_result(None)

    feed.followers.append(heard)
    writer = FrameWriter()
    try:
        if pool.in_memory(key) is not run or run.gone:
            return
        yield writer.write(Frame(run.record))
        while run.record.status not in TERMINAL or waiting:
            if not waiting:
                news = loop.create_future()
                await news
            if size > _MOST_BYTES:
                return
            commit = waiting.popleft()
            if commit is None:
                yield writer.write(Frame(None, left=True))
                return
            size -= sum(chunk.size for chunk in commit.chunks)
            answers = {each.request_id: each.response for each in commit.requests}
            yield writer.write(Frame(commit.record, commit.chunks, answers))
            if commit.record.status in TERMINAL:
                return
    finally:
        feed.followers.remove(heard)
        pool.feeds.close(key, feed)
