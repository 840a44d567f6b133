"""The store of a run from afar."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from pydantic import BaseModel
from tests.unit.client.fake import FakeServer, Fault, unavailable

from stepwire import client as api
from stepwire.client import Client
from stepwire.client.aio import Store
from stepwire.v1 import state_service_pb2 as state
from stepwire.v1 import types_pb2


class Counter(BaseModel):
    n: int = 0


class FakeState:
    """A state with an etag on the fake server; `meddle` holds what others write before the next writes."""

    def __init__(self, server: FakeServer, value: dict[str, Any]) -> None:
        self.value = value
        self.version = 1
        self.writes = 0
        self.meddle: list[dict[str, Any]] = []
        server.on("GetState", self.get)
        server.on("ReplaceState", self.replace)

    async def get(self, _: state.GetStateRequest) -> state.GetStateResponse:
        payload = types_pb2.Payload(json=json.dumps(self.value).encode())
        return state.GetStateResponse(value=payload, etag=str(self.version))

    async def replace(self, request: state.ReplaceStateRequest) -> state.ReplaceStateResponse:
        self.writes += 1
        if self.meddle:
            self.value = self.meddle.pop(0)
            self.version += 1
        if request.etag != str(self.version):
            raise Fault(grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        self.value = json.loads(request.value.json)
        self.version += 1
        return state.ReplaceStateResponse(etag=str(self.version))


@pytest.fixture
def store(client: Client) -> Store:
    return client.run("r1").context.store


async def test_get(store: Store, server: FakeServer) -> None:
    server.answers("GetState", state.GetStateResponse(value=types_pb2.Payload(json=b'{"n":3}')))
    assert await store.get("a.b") == {"n": 3}
    assert await store.get("a.b", as_=Counter) == Counter(n=3)
    assert await store.get_state() == {"n": 3}
    assert [request.path for request in server.seen["GetState"]] == ["a.b", "a.b", ""]


async def test_get_reads_values_too(store: Store, server: FakeServer) -> None:
    payload = types_pb2.Payload()
    payload.value.struct_value.update({"n": 3, "deep": [None, True, "x", 1.5]})
    server.answers("GetState", state.GetStateResponse(value=payload))
    assert await store.get("a") == {"n": 3, "deep": [None, True, "x", 1.5]}


async def test_get_default(store: Store, server: FakeServer) -> None:
    server.answers("GetState", Fault(grpc.StatusCode.NOT_FOUND, "PATH_NOT_FOUND"))
    assert await store.get("a", default=None) is None
    assert await store.get("a", 5) == 5
    with pytest.raises(api.NotFoundError):
        await store.get("a")
    server.answers("GetState", Fault(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"))
    with pytest.raises(api.NotFoundError):
        await store.get("a", default=None)


async def test_writes(store: Store, server: FakeServer) -> None:
    server.answers("SetState", unavailable(), state.SetStateResponse(etag="2"))
    server.answers("UnsetState", unavailable(), state.UnsetStateResponse(etag="3"))
    server.answers("ReplaceState", unavailable(), state.ReplaceStateResponse(etag="4"))
    assert await store.set_many({"a.b": Counter(n=1), "c": [1]}, etag="1") == "2"
    assert await store.unset("a", "b") == "3"
    assert await store.set_state(Counter(n=2)) == "4"
    assert await store.set("d", None) == "2"
    for method in ("SetState", "UnsetState", "ReplaceState"):
        first, second, *_ = server.seen[method]
        assert first == second
        assert len(first.request_id) == 32
    request = server.seen["SetState"][0]
    assert [(item.path, item.value.json) for item in request.values] == [("a.b", b'{"n":1}'), ("c", b"[1]")]
    assert request.etag == "1"
    assert list(server.seen["UnsetState"][0].paths) == ["a", "b"]
    assert server.seen["SetState"][-1].values[0].value.json == b"null"


async def test_edit_state(store: Store, server: FakeServer) -> None:
    fake = FakeState(server, {"n": 1})
    async with store.edit_state() as value:
        value["n"] += 1
    assert fake.value == {"n": 2}
    async with store.edit_state(as_=Counter) as counter:
        counter.n += 1
    assert fake.value == {"n": 3}


async def test_edit_state_writes_only_a_change(store: Store, server: FakeServer) -> None:
    fake = FakeState(server, {"n": 1})
    async with store.edit_state():
        pass
    with pytest.raises(ZeroDivisionError):
        async with store.edit_state() as value:
            value["n"] /= 0
    assert fake.writes == 0


async def test_edit_state_refuses_when_another_wrote(store: Store, server: FakeServer) -> None:
    fake = FakeState(server, {"n": 1})
    fake.meddle = [{"n": 10}]
    with pytest.raises(api.AbortedError):
        async with store.edit_state() as value:
            value["n"] += 1
    assert fake.value == {"n": 10}


async def test_edit_state_is_repeated_when_the_state_is_the_same(store: Store, server: FakeServer) -> None:
    fake = FakeState(server, {"n": 1})
    fake.meddle = [{"n": 1}]
    async with store.edit_state() as value:
        value["n"] += 1
    assert (fake.value, fake.writes) == ({"n": 2}, 2)


async def test_update_state_is_repeated(store: Store, server: FakeServer) -> None:
    fake = FakeState(server, {"n": 1})
    fake.meddle = [{"n": 10}, {"n": 20}]

    def change(value: dict[str, Any]) -> None:
        value["n"] += 1

    assert await store.update_state(change) == {"n": 21}
    assert (fake.value, fake.writes) == ({"n": 21}, 3)
    assert await store.update_state(lambda counter: Counter(n=counter.n * 2), as_=Counter) == Counter(n=42)
    assert fake.value == {"n": 42}
