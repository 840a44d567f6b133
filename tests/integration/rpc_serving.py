"""A server in this process with stubs to it, and what its refusals say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc
from tests.integration.rpc_flows import SECRET, Ask, Count, Echo, Fail, Gate, Hold, Picky, Shop

from stepwire.server.app import Server, Settings
from stepwire.server.registry import Registry
from stepwire.server.rpc.errors import CODES, DOMAIN
from stepwire.server.rpc.signing import Signer
from stepwire.server.runs import ANONYMOUS
from stepwire.server.runs.hosting.keeper import PoolKeeper
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.store import RunStore
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc as runs_grpc
from stepwire.v1 import (
    schedule_service_pb2_grpc,
    snapshot_service_pb2_grpc,
    state_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from stepwire.v1 import types_pb2 as types

JSON = types.PAYLOAD_ENCODING_JSON
VALUE = types.PAYLOAD_ENCODING_VALUE


def registry_of(**workflows: Any) -> Registry:
    """Serve these workflows."""
    registry = Registry()
    for name, workflow in workflows.items():
        registry.add(name, workflow)
    return registry


@cache
def _everything() -> Registry:
    hold = Hold(Gate(), timeout=None)
    return registry_of(ask=Ask, count=Count, echo=Echo, fail=Fail, hold=hold, picky=Picky, shop=Shop)


def everything(gate: Gate | None = None) -> Registry:
    """Serve all workflows of the tests; the registry is made once, which takes longest of a server's start."""
    registry = _everything()
    hold = registry.get("hold")
    assert hold is not None
    assert isinstance(hold.workflow, Hold)
    hold.workflow.gate = gate or Gate()
    return registry


def payload(value: Any) -> types.Payload:
    """Return a JSON payload."""
    return types.Payload(json=json.dumps(value).encode())


def raw(data: bytes) -> types.Payload:
    """Return a JSON payload as it is."""
    return types.Payload(json=data)


def value(number: float) -> types.Payload:
    """Return a payload that is a protobuf value with a number."""
    return types.Payload(value=struct_pb2.Value(number_value=number))


def plain(found: types.Payload) -> Any:
    """Return what a JSON payload holds."""
    assert found.WhichOneof("encoding") == "json"
    return json.loads(found.json)


def event(name: str, /, **fields: Any) -> types.Event:
    """Return an event to send."""
    return types.Event(type=name, payload=payload(fields))


@dataclass
class Refusal:
    """What a client is told when a call fails."""

    code: grpc.StatusCode
    message: str
    reason: str
    facts: dict[str, str]
    fields: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    status: status_pb2.Status = field(default_factory=status_pb2.Status)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Read the status of a failed call: it has exactly one ErrorInfo of Stepwire, and leaks nothing."""
    trailing = dict(error.trailing_metadata() or ())
    assert "grpc-status-details-bin" in trailing, f"no details: {error.code()} {error.details()}"
    data = trailing["grpc-status-details-bin"]
    assert isinstance(data, bytes)
    assert len(data) < 8 * 1024
    refusal = refusal_of_status(status_pb2.Status.FromString(data))
    assert refusal.code == error.code()
    assert refusal.message == error.details()
    return refusal


def refusal_of_status(status: status_pb2.Status) -> Refusal:
    """Read a status with our details."""
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    infos = []
    refusal = Refusal(code, status.message, "", {}, status=status)
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            infos.append(info)
        elif detail.Unpack(bad):
            refusal.fields = {violation.field: violation.description for violation in bad.field_violations}
        elif detail.Unpack(retry):
            refusal.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    assert len(infos) == 1
    assert infos[0].domain == DOMAIN
    refusal.reason = infos[0].reason
    refusal.facts = dict(infos[0].metadata)
    assert CODES[refusal.reason] == code
    text = str(status)
    for leak in (SECRET, "Traceback", "Exception", ".py"):
        assert leak not in text
    return refusal


async def refused(call: Awaitable[Any]) -> Refusal:
    """Await a call that must fail, and say how."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError(f"the call was answered: {answer}")


class Rpc:
    """A server and stubs to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.channel: Any = grpc.aio.insecure_channel(server.address)
        self.workflows: Any = workflow_service_pb2_grpc.WorkflowServiceStub(self.channel)
        self.runs: Any = runs_grpc.RunServiceStub(self.channel)
        self.states: Any = state_service_pb2_grpc.StateServiceStub(self.channel)
        self.snapshots: Any = snapshot_service_pb2_grpc.SnapshotServiceStub(self.channel)
        self.schedules: Any = schedule_service_pb2_grpc.ScheduleServiceStub(self.channel)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    @property
    def pool(self) -> RunPool:
        """The server's runs in memory."""
        assert self.server.runs is not None
        return self.server.runs.pool

    @property
    def keeper(self) -> PoolKeeper:
        """The background tasks of the server's runs."""
        assert self.server.runs is not None
        return self.server.runs.keeper

    @property
    def store(self) -> RunStore:
        """Where the server keeps them."""
        return self.server._store

    @property
    def signer(self) -> Signer:
        """Signs as the server does, which must have a data directory."""
        return Signer.of_directory(Path(self.server.settings.data))

    async def start(self, workflow: str, /, input: Any = None, **fields: Any) -> types.Run:
        """Start a run."""
        given: dict[str, Any] = {} if input is None else {"input": payload(input)}
        request = runs.StartRunRequest(workflow=workflow, encoding=JSON, **given, **fields)
        answer: runs.StartRunResponse = await self.runs.StartRun(request)
        return answer.run

    async def get(self, run_id: str) -> types.Run:
        """Return a run."""
        answer: runs.GetRunResponse = await self.runs.GetRun(runs.GetRunRequest(run_id=run_id, encoding=JSON))
        return answer.run

    async def ended(self, run_id: str) -> types.Run:
        """Return a run once it has ended."""
        request = runs.WaitRunRequest(run_id=run_id, encoding=JSON)
        answer: runs.WaitRunResponse = await self.runs.WaitRun(request, timeout=60)
        return answer.run

    async def status(self, run_id: str, status: str) -> types.Run:
        """Return a run once it has this status."""
        key = ANONYMOUS.key(run_id)
        feeds = self.pool.feeds
        feed = await feeds.open(key)
        try:
            while feeds.record(key, feed).status != status:
                await feed.changed()
        finally:
            feeds.close(key, feed)
        return await self.get(run_id)

    async def asking(self, item: str = "tea", **fields: Any) -> types.Run:
        """Start a run of `ask` and return it once its question is open."""
        run = await self.start("ask", {"item": item}, **fields)
        return await self.asked(run.run_id)

    async def asked(self, run_id: str) -> types.Run:
        """Return a run once it has written its question: its waiter is open in the same commit."""
        request = runs.StreamEventsRequest(run_id=run_id, options=runs.StreamOptions(event_types=["Question"]))
        call = self.runs.StreamEvents(request, timeout=60)
        async for frame in call:
            if frame.WhichOneof("frame") == "events" and frame.events.entries:
                break
        call.cancel()
        return await self.get(run_id)

    async def send(self, run_id: str, sent: types.Event, **fields: Any) -> runs.SendEventResponse:
        """Send an event."""
        answer: runs.SendEventResponse = await self.runs.SendEvent(
            runs.SendEventRequest(run_id=run_id, event=sent, **fields)
        )
        return answer

    async def answer(self, run_id: str, *, yes: bool = True) -> types.Run:
        """Answer the question of a run of `ask`, and return it ended."""
        await self.send(run_id, event("Answer", order="7", yes=yes))
        return await self.ended(run_id)

    async def listed(self, **fields: Any) -> list[types.Run]:
        """Return a page of the list of runs."""
        return list((await self.runs.ListRuns(runs.ListRunsRequest(encoding=JSON, **fields))).runs)

    async def logged(self, run_id: str, **fields: Any) -> list[types.LogEntry]:
        """Return the events in the log as far as it is, internal ones too, without the entries of executions."""
        return [entry for entry in await self.log(run_id, **fields) if entry.kind != types.ENTRY_KIND_EXECUTION]

    async def executions(self, run_id: str) -> list[types.LogEntry]:
        """Return the entries of executions in the log as far as it is."""
        return [each for each in await self.log(run_id) if each.kind == types.ENTRY_KIND_EXECUTION]

    async def log(self, run_id: str, **fields: Any) -> list[types.LogEntry]:
        """Return the log as far as it is, internal entries too."""
        options = runs.StreamOptions(include_internal=True, encoding=JSON)
        request = runs.StreamEventsRequest(run_id=run_id, options=options, no_follow=True, **fields)
        entries: list[types.LogEntry] = []
        async for frame in self.runs.StreamEvents(request, timeout=60):
            entries += frame.events.entries
        return entries

    def stream(self, run_id: str, after: int = 0, *, no_follow: bool = False, **options: Any) -> Any:
        """Follow a run."""
        request = runs.StreamEventsRequest(
            run_id=run_id,
            after_sequence=after,
            no_follow=no_follow,
            options=runs.StreamOptions(**{"encoding": JSON, **options}),
        )
        return self.runs.StreamEvents(request, timeout=60)

    def converse(self) -> Any:
        """Open a conversation."""
        return self.runs.Converse(timeout=60)


@asynccontextmanager
async def serving(
    registry: Registry | None = None,
    data: str = ":memory:",
    *,
    prepare: Callable[[Server], None] | None = None,
    take_up: bool = True,
    **settings: Any,
) -> AsyncIterator[Rpc]:
    """Serve in this process; `take_up`: with all runs taken up, else none. `prepare` may change the server before."""
    server = Server(
        everything() if registry is None else registry, Settings(address="127.0.0.1:0", data=data, **settings)
    )
    if prepare is not None:
        prepare(server)
    await server.start(take_up=take_up)
    assert server.runs is not None
    if take_up:
        await server.runs.keeper.taken_up.wait()
    rpc = Rpc(server)
    try:
        yield rpc
    finally:
        await rpc.channel.close()
        await server.stop()
