"""Every method and every frame of a conversation passes the same gate: one table of wrong requests, tried both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
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
from stepwire.server.rpc.gate.method_scopes import FRAMES, RULES
from stepwire.server.rpc.gate.quotas import Usage
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

pytestmark = pytest.mark.asyncio(loop_scope="module")

Code = grpc.StatusCode
TWINS = {frame: method.rpartition("/")[2] for frame, method in FRAMES.items() if method is not None}
"""Frames, and the methods that do the same."""


class World:
    """A server with small limits and access control, and callers."""

    server: Server
    channel: grpc.aio.Channel

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.admin = keys.add("admin", ["admin"], "shop")
        self.nobody = keys.add("nobody", [], "shop")
        self.callers = {
            "admin": self.admin,
            "writer": keys.add("writer", ["write"], "shop"),
            "reader": keys.add("reader", ["read"], "shop"),
            "workflow_reader": keys.add("workflow-reader", ["read:asking"], "shop"),
            "workflow_writer": keys.add("workflow-writer", ["write:asking"], "shop"),
            "reader_who_writes_elsewhere": keys.add("mixed", ["read:asking", "write:other"], "shop"),
            "of_another_workflow": keys.add("other", ["admin:other"], "shop"),
            "of_another_namespace": keys.add("stranger", ["admin"], "elsewhere"),
        }

    async def run(self) -> str:
        """Start a run that waits for an answer."""
        run_id = await start_run(self.channel, metadata=self.admin)
        await waiting(self.channel, run_id, self.admin)
        return run_id


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    path: Path = tmp_path_factory.mktemp("admission") / "access.toml"
    found = World(Keys(path))
    settings = {"max_event_bytes": "1KiB", "max_message_bytes": "64KiB", "max_depth": 20}
    async with serving(api_keys=found.keys.path, **settings) as server, channel_to(server) as channel:
        found.server, found.channel = server, channel
        yield found


class Told(NamedTuple):
    """What a caller is told: OK, or the whole status with its details."""

    code: int
    status: bytes


def told(answer: Any) -> Told:
    """Return what a call answered; reading part of a stream is OK."""
    if answer.code in (Code.OK, Code.CANCELLED):
        return Told(0, b"")
    assert answer.status, answer
    return Told(answer.code.value[0], answer.status)


def frame_of(kind: str, request: Any) -> runs.ConverseRequest:
    """Return the frame that asks for the same as a request."""
    frame = runs.ConverseRequest()
    part = getattr(frame, kind)
    part.SetInParent()
    for field in part.DESCRIPTOR.fields:
        if field.name == "request":
            part.request.CopyFrom(request)
        elif field.name in request.DESCRIPTOR.fields_by_name:
            value = getattr(request, field.name)
            if field.message_type is None:
                setattr(part, field.name, value)
            elif request.HasField(field.name):
                getattr(part, field.name).CopyFrom(value)
    return frame


async def by_frame(world: World, kind: str, request: Any, metadata: Any) -> Told:
    """Ask for the same as a request by a frame of a conversation."""
    sent = [frame_of(kind, request)]
    if kind in ("send", "cancel"):
        sent.insert(0, runs.ConverseRequest(attach=runs.ConverseAttach(run_id=request.run_id)))
    # A conversation whose client has said all is read until the frame has been answered.
    stream = world.channel.stream_stream(METHODS["Converse"].name)(iter(frames(sent)), metadata=metadata, timeout=60)
    try:
        async for data in stream:
            message = runs.ConverseResponse.FromString(data)
            if message.HasField("send_result"):
                error = message.send_result.error
                return Told(error.code, error.SerializeToString() if error.code else b"")
            if message.HasField("finished") or (kind in ("start", "attach") and message.HasField("opened")):
                return Told(0, b"")
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return Told(error.code().value[0], bytes(details))
    finally:
        stream.cancel()
    raise AssertionError("the frame was not answered")


def shared(kind: str, path: str) -> bool:
    """Tell whether a frame carries a field of the request of its twin."""
    part = getattr(runs.ConverseRequest(), kind)
    names = part.DESCRIPTOR.fields_by_name
    return "request" in names or path.partition(".")[0] in names


def nested(levels: int) -> bytes:
    return b'{"text":' * levels + b"1" + b"}" * levels


PAYLOADS = {
    "too big": types.Payload(json=b'{"text": "' + b"x" * 1100 + b'"}'),
    "too deep": types.Payload(json=nested(21)),
    "a value too big": types.Payload(value={"string_value": "x" * 1100}),  # type: ignore[arg-type]
    "not json": types.Payload(json=b"{"),
    "not an object": types.Payload(json=b"[1]"),
    "a number": types.Payload(json=b'{"text": NaN}'),
    "an unknown field": types.Payload(json=b'{"text": 1}'),
}


def wrong(message: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield copies of a message, each wrong in one field, by what is wrong."""
    for field in message.DESCRIPTOR.fields:
        where = f"{path}{field.name}"
        kind = field.message_type.full_name if field.message_type is not None else ""
        changes: dict[str, Any] = {}
        if field.is_repeated:
            if field.name == "labels":
                changes = {"many": {f"k{number}": "v" for number in range(33)}, "long": {"k": "v" * 300}}
        elif kind == "stepwire.v1.Payload":
            changes = PAYLOADS
        elif kind == "google.protobuf.Duration":
            changes = {"negative": {"seconds": -1}}
        elif kind == "stepwire.v1.Event":
            for name, inner in wrong(getattr(message, field.name), f"{where}."):
                copy = type(message)()
                copy.CopyFrom(message)
                getattr(copy, field.name).CopyFrom(inner)
                yield name, copy
        elif kind == "stepwire.v1.SnapshotRef":
            changes = {"of nothing": {"run_id": "nothing"}}
        elif kind == "stepwire.v1.ContextSnapshot":
            changes = {"unsigned": {"run_id": "nothing"}}
        elif field.type == FieldDescriptor.TYPE_STRING:
            changes = {"long": "x" * 1500, "control characters": "\x01." * 200, "unknown": "nothing", "empty": ""}
        elif field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64):
            changes = {"negative": -1, "huge": (1 << 31) - 1}
        elif field.type == FieldDescriptor.TYPE_ENUM:
            changes = {"unknown": 99}
        for name, value in changes.items():
            copy = type(message)()
            copy.CopyFrom(message)
            copy.ClearField(field.name)
            if isinstance(value, dict) and field.is_repeated:
                getattr(copy, field.name).update(value)
            elif isinstance(value, dict):
                getattr(copy, field.name).CopyFrom(field.message_type._concrete_class(**value))
            elif field.message_type is not None:
                getattr(copy, field.name).CopyFrom(value)
            else:
                setattr(copy, field.name, value)
            yield f"{where}: {name}", copy


VALID = {("start", "run_id: unknown"), ("start", "request_id: unknown")}
"""What is not wrong at all, and taken at the second attempt."""
CASES = [
    pytest.param(kind, name, id=f"{kind}-{name}")
    for kind, method in TWINS.items()
    for name, _ in wrong(requests_for("run")[method])
    if shared(kind, name) and (kind, name) not in VALID
]


async def test_every_frame_has_the_rule_of_a_method():
    assert set(FRAMES) == {field.name for field in runs.ConverseRequest.DESCRIPTOR.oneofs_by_name["frame"].fields}
    assert {method for method in FRAMES.values() if method is not None} < set(RULES)
    assert [frame for frame, method in FRAMES.items() if method is None] == ["ack"]  # it concerns its stream alone


@pytest.mark.parametrize(("kind", "name"), CASES)
async def test_what_a_method_refuses_its_frame_refuses_alike(world: World, kind: str, name: str):
    answers = []
    for twin in (True, False):
        run_id = await world.run()
        request = dict(wrong(requests_for(run_id)[TWINS[kind]]))[name]
        if kind == "start" and not name.startswith("run_id:"):
            request.run_id = f"a-{run_id}"[:40]
        if twin:
            found = told(await call(world.channel, METHODS[TWINS[kind]], frames(request), world.admin, most=1))
        else:
            found = await by_frame(world, kind, request, world.admin)
        answers.append(Told(found.code, found.status.replace(run_id.encode(), b"RUN")))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("kind", TWINS)
async def test_who_may_not_call_a_method_may_not_use_its_frame(world: World, kind: str):
    refused = 0
    for caller in world.callers.values():
        run_id = await world.run()
        request = requests_for(run_id)[TWINS[kind]]
        by_method = told(await call(world.channel, METHODS[TWINS[kind]], frames(request), caller, most=1))
        if kind == "cancel":
            request.run_id = other = await world.run()
            found = await by_frame(world, kind, request, caller)
            frame = Told(found.code, found.status.replace(other.encode(), run_id.encode()))
        else:
            frame = await by_frame(world, kind, request, caller)
        assert by_method == frame
        refused += by_method.code != 0
    assert refused


async def test_what_spends_of_the_rate_spends_once_by_either_way(world: World, monkeypatch: pytest.MonkeyPatch):
    spent: Counter[str] = Counter()
    asking = ""
    monkeypatch.setattr(Usage, "spend", lambda _: spent.update([asking]))
    for asking in METHODS:
        run_id = await start_run(world.channel, metadata=world.admin) if asking != "StartRun" else ""
        spent.clear()
        request = requests_for(run_id)[asking]
        if asking == "Converse":
            request = request[:1]  # frames have their turn below
        await call(world.channel, METHODS[asking], frames(request), world.admin, most=1)
        assert spent[asking] == RULES[METHODS[asking].name].spends, asking
    for kind, asking in TWINS.items():
        run_id = await world.run()
        spent.clear()
        await by_frame(world, kind, requests_for(run_id)[asking], world.admin)
        assert spent[asking] == RULES[METHODS[asking].name].spends, kind


async def test_a_full_backlog_of_sync_steps_is_told_by_either_way(world: World, monkeypatch: pytest.MonkeyPatch):
    run_id = await world.run()
    with monkeypatch.context() as patched:
        patched.setattr(RunPool, "sync_backlog", 1 << 30)
        for kind, method in TWINS.items():
            request = requests_for(run_id)[method]
            by_method = told(await call(world.channel, METHODS[method], frames(request), world.admin, most=1))
            if kind == "cancel":
                request.run_id = await start_run(world.channel, metadata=world.admin) if by_method.code else run_id
            assert (by_method.code != 0) == RULES[METHODS[method].name].spends
            assert by_method == await by_frame(world, kind, request, world.admin)


async def test_what_no_message_should_be_is_refused_in_this_order(world: World):
    # Caller, permission, length and syntax are checked in the same order for every method and every frame.
    garbage, long = b"\xff\xff\xff\xff", b"\x0a" + b"\xff" * (70 << 10)
    for name, method in METHODS.items():
        for metadata, data, reason in (
            ([], garbage, "UNAUTHENTICATED"),
            (world.nobody, garbage, "PERMISSION_DENIED"),
            (world.admin, long, "LIMIT_EXCEEDED"),
            (world.admin, garbage, "MALFORMED_MESSAGE"),
        ):
            answer = await call(world.channel, method, [data], metadata)
            assert answer.reason == reason, name
    run_id = await world.run()
    attach = frames(requests_for(run_id)["Converse"])[0]
    for data, reason in ((long, "LIMIT_EXCEEDED"), (garbage, "MALFORMED_MESSAGE")):
        answer = await call(world.channel, METHODS["Converse"], [attach, data], world.admin, most=100)
        assert answer.reason == reason
