"""Calls that replicas pass to each other, when none of them will have it."""

from __future__ import annotations

import time
from typing import Any, cast

import grpc
import pytest
from google.rpc.status_pb2 import Status
from tests.unit.server.others import Others

from stepwire.server.principal import ANONYMOUS
from stepwire.server.rpc.errors import PassedOnError, status_of
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.local import RefusedError
from stepwire.server.rpc.peers import forwarding
from stepwire.server.rpc.peers.forwarding import Forwarder
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.relays import Relays
from stepwire.server.runs.errors import RunElsewhereError, RunsError, StoreDownError
from stepwire.server.runs.hosting.replicas.routes import Routes
from stepwire.server.store import Peer, RunKey, StoreUnreadableError
from stepwire.server.telemetry.metrics import Metrics
from stepwire.v1 import run_service_pb2

START = "/stepwire.v1.RunService/StartRun"
SEND = "/stepwire.v1.RunService/SendEvent"
KEY = RunKey("default", "r1")


class Refusing:
    """Calls of replicas that are refused with a status, at once or when their time is over."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self.given: list[float | None] = []

    async def call(self, address: str, method: str, data: bytes, metadata: Any, timeout: float | None) -> bytes:
        self.given.append(timeout)
        raise RefusedError(self._status)


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


async def passed_on(relays: Naming | Refusing, remaining: float | None, method: str = START) -> Any:
    async def elsewhere() -> None:
        raise RunElsewhereError("b")

    forwarder = Forwarder(cast(Routes, None), cast(Relays, relays), HopSigner(b"k" * 32, time.time), Metrics())
    call = Call(method, "unary", ANONYMOUS, cast(Any, None), None)
    request = run_service_pb2.StartRunRequest() if method == START else run_service_pb2.SendEventRequest()
    return await forwarder.carry(call, method, request, elsewhere, remaining)


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


async def test_a_replica_calls_itself_not_when_it_is_named_but_looks_again() -> None:
    relays = Naming(b=["a", None])
    looks: list[str] = []

    async def elsewhere() -> None:
        looks.append("b")
        raise RunElsewhereError("b")

    forwarder = Forwarder(cast(Routes, None), cast(Relays, relays), HopSigner(b"k" * 32, time.time), Metrics())
    forwarder.own = "a"
    call = Call(SEND, "unary", ANONYMOUS, cast(Any, None), None)
    assert await forwarder.carry(call, SEND, run_service_pb2.SendEventRequest(), elsewhere, 10.0) == (b"answer", "b")
    assert relays.asked == looks == ["b", "b"]


async def test_a_replica_looks_the_owner_up_after_it_has_refused_a_call_that_was_passed_on() -> None:
    others = Others()
    others.alive = [Peer(1, "a", {})]
    routes = Routes(others)
    routes.learn(KEY, RunElsewhereError("a", replica=1))

    async def here() -> str:
        routes.follow(KEY)
        return "done"

    forwarder = Forwarder(routes, cast(Relays, None), HopSigner(b"k" * 32, time.time), Metrics())
    call = Call(SEND, "unary", ANONYMOUS, cast(Any, None), None, hop=True)
    request = run_service_pb2.SendEventRequest()
    with pytest.raises(RunElsewhereError):
        await forwarder.carry(call, SEND, request, here, 10.0)
    assert await forwarder.carry(call, SEND, request, here, 10.0) == ("done", "")


LATE = Status(code=grpc.StatusCode.DEADLINE_EXCEEDED.value[0], message="Deadline Exceeded")


@pytest.mark.parametrize("remaining", [None, 100.0])
async def test_a_replica_that_takes_too_long_exceeds_no_deadline_of_the_caller(remaining: float | None) -> None:
    relays = Refusing(LATE)
    with pytest.raises(StoreDownError, match="the outcome is unknown, retry with the same request_id"):
        await passed_on(relays, remaining, SEND)
    assert relays.given == [35.0]  # it may wait for its database for 30, and says so


async def test_the_deadline_of_the_caller_is_exceeded_when_it_is() -> None:
    relays = Refusing(LATE)
    with pytest.raises(PassedOnError) as refused:
        await passed_on(relays, 0.0, SEND)
    assert refused.value.status == LATE


async def test_a_replica_without_its_database_says_itself_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "PATIENCE", 0.2)
    status = status_of(StoreUnreadableError("x"), START, Metrics())
    with pytest.raises(PassedOnError, match="cannot read its database"):
        await passed_on(Refusing(status), 100.0, SEND)
