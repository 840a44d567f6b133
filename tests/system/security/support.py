"""What the tests of security share: the methods, servers, credentials, calls of raw bytes."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2, status_pb2
from tests.system.security.flows import Asking, Blocking, Free, Leaking, Other, Talking

from stepwire.server.app import Server, Settings
from stepwire.server.auth import new_key
from stepwire.server.registry import Registry
from stepwire.v1 import (
    run_service_pb2,
    schedule_service_pb2,
    server_service_pb2,
    snapshot_service_pb2,
    state_service_pb2,
    types_pb2,
    workflow_service_pb2,
)

FULL = bool(os.environ.get("STEPWIRE_SECURITY_FULL"))
"""Whether the long versions run (`make security`)."""


def count(short: int, full: int) -> int:
    """Return how many of something: `short` in `make test`, `full` in `make security`."""
    return full if FULL else short


def say(text: str) -> None:
    """Tell a measurement, with `pytest -s`."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Method(NamedTuple):
    """A method of the contract, as its descriptor tells it."""

    name: str
    request: Descriptor | None
    many_requests: bool
    many_responses: bool

    def make(self) -> Any:
        """Return an empty request."""
        return message_factory.GetMessageClass(self.request)()


def _methods() -> Iterator[Method]:
    for file in (
        workflow_service_pb2,
        run_service_pb2,
        state_service_pb2,
        snapshot_service_pb2,
        server_service_pb2,
        schedule_service_pb2,
    ):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield Method(
                    f"/{service.full_name}/{method.name}",
                    method.input_type,
                    method.client_streaming,
                    method.server_streaming,
                )


METHODS = {method.name.rpartition("/")[2]: method for method in _methods()}


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Server]:
    """Serve the workflows in memory."""
    registry = Registry()
    for name, workflow in (
        ("asking", Asking),
        ("other", Other),
        ("free", Free),
        ("leaking", Leaking),
        ("talking", Talking),
        ("blocking", Blocking),
    ):
        registry.add(name, workflow)
    settings = {"address": "127.0.0.1:0", "data": ":memory:", "grace": 0.0, **settings}
    server = Server(registry, Settings.load(None, **settings))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def channel_to(server: Server, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Open a channel of its own connection."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    if credentials is not None:
        options.append(("grpc.ssl_target_name_override", "stepwire.test"))  # type: ignore[arg-type]
        return grpc.aio.secure_channel(server.address, credentials, options)
    return grpc.aio.insecure_channel(server.address, options)


class Answer(NamedTuple):
    """What a call came to: its code, its details, the messages as bytes."""

    code: grpc.StatusCode
    details: str
    messages: list[bytes]
    status: bytes
    calls: int = 1
    """How often the method was called for it."""

    @property
    def reason(self) -> str:
        """Return the reason of the ErrorInfo."""
        return self.info().reason

    def info(self) -> Any:
        """Return the ErrorInfo; an empty one if the status has no ErrorInfo."""
        found = error_details_pb2.ErrorInfo()
        self.unpack(found)
        return found

    def unpack(self, detail: Any) -> bool:
        """Fill a detail of the status; False when it has none of this kind."""
        return any(item.Unpack(detail) for item in status_pb2.Status.FromString(self.status).details)


_OVERWRITTEN = "Internal error from Core"
"""What grpc.aio's client puts in place of the server's status when it was writing as that came."""


async def call(
    channel: grpc.aio.Channel,
    method: Method,
    requests: Sequence[bytes],
    metadata: Sequence[tuple[str, str]] = (),
    *,
    timeout: float = 5.0,
    most: int = 4,
) -> Answer:
    """Call a method with bytes as they are; of streams read at most `most` messages, then cancel (code CANCELLED)."""
    calls = 0
    while True:
        calls += 1
        answer = await _call(channel, method, requests, metadata, timeout, most)
        if answer.details != _OVERWRITTEN:
            return answer._replace(calls=calls)


async def _call(
    channel: grpc.aio.Channel,
    method: Method,
    requests: Sequence[bytes],
    metadata: Sequence[tuple[str, str]],
    timeout: float,
    most: int,
) -> Answer:
    messages: list[bytes] = []
    try:
        if method.many_requests:
            stream = channel.stream_stream(method.name)(iter(requests), metadata=metadata, timeout=timeout)
        elif method.many_responses:
            stream = channel.unary_stream(method.name)(requests[0], metadata=metadata, timeout=timeout)
        else:
            unary = channel.unary_unary(method.name)(requests[0], metadata=metadata, timeout=timeout)
            messages.append(await unary)
            return Answer(grpc.StatusCode.OK, "", messages, b"")
        try:
            async for message in stream:
                messages.append(message)
                if len(messages) >= most:
                    return Answer(grpc.StatusCode.CANCELLED, "", messages, b"")
        finally:
            stream.cancel()
        return Answer(await stream.code(), await stream.details(), messages, b"")
    except grpc.aio.AioRpcError as error:
        trailing = dict(error.trailing_metadata() or ())
        status = trailing.get("grpc-status-details-bin", b"")
        return Answer(error.code(), error.details() or "", messages, bytes(status))


async def start_run(
    channel: grpc.aio.Channel, workflow: str = "asking", metadata: Sequence[tuple[str, str]] = (), **fields: Any
) -> str:
    """Start a run and return its id."""
    request = run_service_pb2.StartRunRequest(workflow=workflow, **fields)
    if not fields.get("input"):
        request.input.json = b'{"text": "t"}'
    answer = await call(channel, METHODS["StartRun"], [request.SerializeToString()], metadata)
    assert answer.code is grpc.StatusCode.OK, answer
    return run_service_pb2.StartRunResponse.FromString(answer.messages[0]).run.run_id


async def waiting(channel: grpc.aio.Channel, run_id: str, metadata: Sequence[tuple[str, str]] = ()) -> None:
    """Wait until a run asks its question."""
    request = run_service_pb2.WaitForEventRequest(run_id=run_id, event_type="Question", after_sequence=0)
    request.timeout.seconds = 10
    answer = await call(channel, METHODS["WaitForEvent"], [request.SerializeToString()], metadata, timeout=60)
    assert answer.code is grpc.StatusCode.OK, answer


def _spec(workflow: str) -> schedule_service_pb2.ScheduleSpec:
    """Return a schedule that is due in the year 2100."""
    timing = schedule_service_pb2.ScheduleTiming(at={"seconds": 4_102_444_800})
    text = types_pb2.Payload(json=b'{"text": "t"}')
    return schedule_service_pb2.ScheduleSpec(workflow=workflow, timing=timing, input=text)


def requests_for(run_id: str, workflow: str = "asking", snapshot: types_pb2.ContextSnapshot | None = None) -> Any:
    """Return a valid request of each method, by name; of Converse, frames."""
    event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"text": "n"}'))
    value = types_pb2.Payload(json=b'"v"')
    start = run_service_pb2.StartRunRequest(
        workflow=workflow, input=types_pb2.Payload(json=b'{"text": "t", "numbers": [1], "nested": {"a": {"b": []}}}')
    )
    found: dict[str, Any] = {
        "ListWorkflows": workflow_service_pb2.ListWorkflowsRequest(page_size=10),
        "GetWorkflow": workflow_service_pb2.GetWorkflowRequest(name=workflow),
        "StartRun": start,
        "GetRun": run_service_pb2.GetRunRequest(run_id=run_id),
        "ListRuns": run_service_pb2.ListRunsRequest(page_size=5, labels={"a": "b"}),
        "WaitRun": run_service_pb2.WaitRunRequest(run_id=run_id),
        "CancelRun": run_service_pb2.CancelRunRequest(run_id=run_id, reason="r"),
        "ReloadRun": run_service_pb2.ReloadRunRequest(run_id=run_id),
        "RetryRun": run_service_pb2.RetryRunRequest(run_id=run_id),
        "ApplyToRuns": run_service_pb2.ApplyToRunsRequest(
            filter=run_service_pb2.RunFilter(run_id_prefix="none-of-them"), cancel=run_service_pb2.CancelRuns()
        ),
        "PauseRun": run_service_pb2.PauseRunRequest(run_id=run_id, reason="r"),
        "ResumeRun": run_service_pb2.ResumeRunRequest(run_id=run_id),
        "PauseWorkflow": workflow_service_pb2.PauseWorkflowRequest(name=workflow),
        "ResumeWorkflow": workflow_service_pb2.ResumeWorkflowRequest(name=workflow),
        "DeleteRun": run_service_pb2.DeleteRunRequest(run_id=run_id),
        "SendEvent": run_service_pb2.SendEventRequest(run_id=run_id, event=event, request_id="r1"),
        "PublishEvent": run_service_pb2.PublishEventRequest(run_id=run_id, event=event),
        "WaitForEvent": run_service_pb2.WaitForEventRequest(
            run_id=run_id, event_type="Note", requirements=types_pb2.Payload(json=b'{"text": "n"}'), after_sequence=0
        ),
        "StreamEvents": run_service_pb2.StreamEventsRequest(run_id=run_id, no_follow=True),
        "GetState": state_service_pb2.GetStateRequest(run_id=run_id, path="inner.count"),
        "SetState": state_service_pb2.SetStateRequest(run_id=run_id),
        "UnsetState": state_service_pb2.UnsetStateRequest(run_id=run_id, paths=["inner"]),
        "ReplaceState": state_service_pb2.ReplaceStateRequest(
            run_id=run_id, value=types_pb2.Payload(json=b'{"text": "x"}')
        ),
        "GetSnapshot": snapshot_service_pb2.GetSnapshotRequest(run_id=run_id, include_context_dict=True),
        "GetServer": server_service_pb2.GetServerRequest(),
        "WhoAmI": server_service_pb2.WhoAmIRequest(),
        "ListSnapshots": snapshot_service_pb2.ListSnapshotsRequest(run_id=run_id),
        "CreateSchedule": schedule_service_pb2.CreateScheduleRequest(schedule_id="new", spec=_spec(workflow)),
        "UpdateSchedule": schedule_service_pb2.UpdateScheduleRequest(schedule_id="s", spec=_spec(workflow)),
        "BackfillSchedule": schedule_service_pb2.BackfillScheduleRequest(
            schedule_id="s", start_time={"seconds": 60}, end_time={"seconds": 120}
        ),
        **{
            name: getattr(schedule_service_pb2, f"{name}Request")(schedule_id="s")
            for name in ("GetSchedule", "PauseSchedule", "ResumeSchedule", "TriggerSchedule", "DeleteSchedule")
        },
        "ListSchedules": schedule_service_pb2.ListSchedulesRequest(page_size=5, labels={"a": "b"}),
    }
    found["WaitRun"].timeout.nanos = 1_000_000
    found["WaitForEvent"].timeout.nanos = 1_000_000
    found["SetState"].values.add(path="extra.key", value=value)
    attach = run_service_pb2.ConverseRequest()
    attach.attach.run_id = run_id
    send = run_service_pb2.ConverseRequest()
    send.send.request_id = "c1"
    send.send.event.CopyFrom(event)
    found["Converse"] = [attach, send]
    if snapshot is not None:
        found["StartRun"] = run_service_pb2.StartRunRequest(workflow=workflow, snapshot=snapshot)
    assert set(found) == set(METHODS)
    return found


def frames(request: Any) -> list[bytes]:
    """Return a request, or the frames of a conversation, as bytes."""
    return [item.SerializeToString() for item in (request if isinstance(request, list) else [request])]


class Keys:
    """An access file, and the keys that it knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[str] = []

    def add(self, name: str, scopes: Sequence[str], namespace: str = "default", expires: str = "") -> list[Any]:
        """Add a key; return the metadata of its calls."""
        made = new_key()
        scope_list = ", ".join(f'"{scope}"' for scope in scopes)
        entry = f'[[keys]]\nid = "{made.id}"\nhash = "{made.hash}"\nname = "{name}"\nnamespace = "{namespace}"\n'
        entry += f"scopes = [{scope_list}]\n" + (f"expires = {expires}\n" if expires else "")
        self._entries.append(entry)
        self.write()
        return [("authorization", f"Bearer {made.key}")]

    def drop_all(self) -> None:
        """Take every key back."""
        self._entries.clear()
        self.write()

    def write(self) -> None:
        """Write the file."""
        beside = self.path.with_suffix(".new")
        beside.write_text("\n".join(self._entries) or "# nobody\n")
        beside.replace(self.path)


def mutate(data: bytes, random_: random.Random, others: Sequence[bytes]) -> bytes:
    """Return bytes that are a little, or much, unlike these."""
    out = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 4, 16))):
        place = random_.randrange(len(out) + 1)
        kind = random_.randrange(8)
        if kind == 0 and out:
            out[place % len(out)] ^= 1 << random_.randrange(8)
        elif kind == 1 and out:
            out[place % len(out)] = random_.randrange(256)
        elif kind == 2:
            out[place:place] = random_.randbytes(random_.choice((1, 2, 8, 64)))
        elif kind == 3 and out:
            del out[place : place + random_.choice((1, 2, 8))]
        elif kind == 4:
            del out[place:]
        elif kind == 5:
            other = random_.choice(others)
            cut = random_.randrange(len(other) + 1)
            out[place:] = other[cut:]
        elif kind == 6:
            out += out[place : place + 32]
        else:
            out[place:place] = random_.choice((b"\xff" * 10, b"\x80" * 9 + b"\x01", b"\x00" * 4, b'{"a":' * 30, b"NaN"))
    return bytes(out)


async def crowd(jobs: int, at_once: int, job: Callable[[int], Any]) -> None:
    """Run `job(number)` for all numbers below `jobs`, some at once; the first error ends all."""
    numbers = iter(range(jobs))

    async def worker() -> None:
        for number in numbers:
            await job(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
