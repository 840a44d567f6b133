"""A server with access control, and callers of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from tests.system.security.support import (
    METHODS,
    Keys,
    call,
    channel_to,
    frames,
    requests_for,
    serving,
    start_run,
    waiting,
)

from stepwire.server.app import Server


class World:
    """A server with access control, a run of the namespace `shop`, and credentials."""

    server: Server
    channel: grpc.aio.Channel

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.admin = keys.add("admin", ["admin"], "shop")
        self.writer = keys.add("writer", ["write"], "shop")
        self.reader = keys.add("reader", ["read"], "shop")
        self.answerer = keys.add("answerer", ["answer"], "shop")
        self.asking_answerer = keys.add("asking-answerer", ["answer:asking", "read:other"], "shop")
        self.nobody = keys.add("nobody", [], "shop")
        self.other_workflow = keys.add("other", ["admin:other"], "shop")
        self.asking_reader = keys.add("asking-reader", ["read:asking"], "shop")
        self.asking_writer = keys.add("asking-writer", ["write:asking"], "shop")
        self.stranger = keys.add("stranger", ["admin"], "elsewhere")
        self.expired = keys.add("expired", ["admin"], "shop", "2020-01-01T00:00:00Z")
        self.run_id = ""

    async def new_run(self) -> None:
        """Start a run and wait until it asks."""
        self.run_id = await start_run(self.channel, metadata=self.admin)
        await waiting(self.channel, self.run_id, self.admin)

    async def call(self, name: str, metadata: Any, run_id: str | None = None) -> Any:
        """Call a method about the run with a credential."""
        request = requests_for(self.run_id if run_id is None else run_id)[name]
        return await call(self.channel, METHODS[name], frames(request), metadata, most=2)


@asynccontextmanager
async def made(folder: Path) -> AsyncIterator[World]:
    found = World(Keys(folder / "access.toml"))
    async with serving(api_keys=found.keys.path) as server, channel_to(server) as channel:
        found.server, found.channel = server, channel
        yield found
