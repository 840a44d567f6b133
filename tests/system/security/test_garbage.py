"""A call that is over leaves nothing behind: its message and credential would stay in memory for so long."""

from __future__ import annotations

import asyncio
import gc
import types
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.durability.support import until
from tests.system.security.flows import HELD
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

from stepwire.server.rpc.gate.call import Call


def left() -> list[Any]:
    """Return what of the server's calls is garbage now and was not freed yet."""
    gc.collect()
    found = [
        item
        for item in gc.garbage
        if isinstance(item, Call)
        or (isinstance(item, types.FrameType) and "stepwire/server" in item.f_code.co_filename)
    ]
    gc.garbage.clear()
    return found


@pytest.mark.parametrize("name", METHODS)
async def test_no_call_leaves_its_message_to_the_garbage_collector(name: str, tmp_path: Path):
    keys = Keys(tmp_path / "access.toml")
    admin, reader = keys.add("one", ["admin"]), keys.add("two", ["read:other"])
    async with (
        serving(max_message_bytes="64KiB", api_keys=keys.path) as server,
        channel_to(server) as channel,
    ):
        run_id = await start_run(channel, metadata=admin)
        await waiting(channel, run_id, admin)
        good = frames(requests_for(run_id)[name])
        calls = {
            "answered": (good, admin),
            "nobody's": (good, []),
            "not allowed": (good, reader),
            "not found": (frames(requests_for("never", "never")[name]), admin),
            "too long": ([good[0] + b"x" * (100 << 10)], admin),
            "malformed": ([b"\xff" * 2000], admin),
        }
        for requests, metadata in calls.values():  # what the first call of a kind makes stays
            await call(channel, METHODS[name], requests, metadata, timeout=60, most=1)
        await until_over(server)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for requests, metadata in calls.values():
                for _ in range(3):
                    await call(channel, METHODS[name], requests, metadata, timeout=60, most=1)
            await until_over(server)
            assert left() == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


async def test_a_run_keeps_nothing_of_the_call_that_started_it(tmp_path: Path):
    keys = Keys(tmp_path / "access.toml")
    admin = keys.add("one", ["admin"])
    others = {id(item) for item in gc.get_objects() if isinstance(item, Call)}  # of tests before this one
    async with serving(api_keys=keys.path, idle_after=3600) as server, channel_to(server) as channel:
        await waiting(channel, await start_run(channel, metadata=admin), admin)
        HELD.clear()
        try:
            # Its own timeout is a timer that the start sets.
            await start_run(channel, "blocking", admin, timeout=Duration(seconds=60))
            await until_over(server)
            gc.collect()
            calls = [item for item in gc.get_objects() if isinstance(item, Call) and id(item) not in others]
            assert [item.method for item in calls] == []
        finally:
            HELD.set()


async def until_over(server: Any) -> None:
    """Wait until no call is under way."""
    await until(lambda: not sum(server.calls.open().values()))
    for _ in range(20):
        await asyncio.sleep(0)
