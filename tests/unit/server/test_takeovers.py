"""What the log tells of runs that are taken over."""

from __future__ import annotations

import asyncio
import contextvars
import logging

import pytest

from stepwire.server.store import RunKey
from stepwire.server.store.postgres import takeovers
from stepwire.server.store.postgres.takeovers import Takeovers

CALL = contextvars.ContextVar("call", default="")


async def test_a_replica_that_died_meanwhile_is_told_of_as_gone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    alive = {7, 8}
    made = Takeovers(alive.__contains__)
    for replica in (7, 8):
        made.note(RunKey("default", "a"), replica, "127.0.0.1:1", lives=True)
    alive.remove(7)  # it was dying when its run was taken
    made.close()
    assert [(each.levelname, each.getMessage().partition(" at ")[2]) for each in caplog.records] == [
        ("INFO", "127.0.0.1:1, which is gone"),
        ("WARNING", "127.0.0.1:1 by force: it beats, but does not answer this replica's calls"),
    ]


async def test_the_log_tells_of_many_runs_outside_the_call_that_took_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeovers, "_FIRST_SECONDS", 0.0)
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def say(self: Takeovers, owner: object) -> bool:
        said.set_result(CALL.get())
        return False

    monkeypatch.setattr(Takeovers, "_say", say)
    CALL.set("SendEvent")
    Takeovers(lambda replica: False).note(RunKey("default", "a"), 7, "", lives=False)
    assert await said == ""
