"""Calls that replicas pass to each other, when none of them will have it."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from stepwire.server.principal import ANONYMOUS
from stepwire.server.rpc.errors import status_of
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.local import RefusedError
from stepwire.server.rpc.peers.forwarding import Forwarder
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.relays import Relays
from stepwire.server.runs.errors import RunElsewhereError, RunsError
from stepwire.server.runs.hosting.replicas.routes import Routes
from stepwire.server.telemetry.metrics import Metrics
from stepwire.v1 import run_service_pb2

START = "/stepwire.v1.RunService/StartRun"


class Naming:
    """Calls of replicas that name other ones, the next time perhaps another one; None for one that answers."""

    def __init__(self, **named: list[str | None]) -> None:
        self._named = named
        self.asked: list[str] = []

    async def call(self, address: str, method: str, data: bytes, metadata: Any, timeout: float | None) -> bytes:
        self.asked.append(address)
        names = self._named[address]
        name = names.pop(0) if len(names) > 1 else names[0]
        if name is None:
            return b"answer"
        raise RefusedError(status_of(RunElsewhereError(name), method, Metrics()))


async def passed_on(relays: Naming, remaining: float) -> Any:
    async def elsewhere() -> None:
        raise RunElsewhereError("b")

    forwarder = Forwarder(cast(Routes, None), cast(Relays, relays), HopSigner(b"k" * 32, time.time), Metrics())
    call = Call(START, "unary", ANONYMOUS, cast(Any, None), None)
    return await forwarder.carry(call, START, run_service_pb2.StartRunRequest(), elsewhere, remaining)


async def test_replicas_that_name_each_other_are_asked_with_pauses_until_the_deadline() -> None:
    relays = Naming(b=["c"], c=["b"])
    began = time.monotonic()
    with pytest.raises(RunsError):
        await passed_on(relays, 0.5)
    assert time.monotonic() - began >= 0.5
    assert len(relays.asked) <= 2 + 0.5 / 0.05 + 1


async def test_a_named_replica_is_asked_at_once_and_again_after_a_pause() -> None:
    relays = Naming(b=["c", None], c=["b"])
    assert await passed_on(relays, 10.0) == (b"answer", "b")
    assert relays.asked == ["b", "c", "b"]
