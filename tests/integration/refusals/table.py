"""The table of ways to be refused, and what its cases share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
from tests.integration.rpc_flows import SECRET
from tests.integration.rpc_serving import (
    Refusal,
    Rpc,
    event,
    payload,
)

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types


class World(NamedTuple):
    """A server, a run of `ask` on it whose question is open, and one that has ended."""

    rpc: Rpc
    open: str
    ended: str


Try = Callable[[World], Awaitable[Refusal]]


class Case(NamedTuple):
    """A way to be refused: the reason, and the fields that the refusal must name."""

    reason: str
    fields: tuple[str, ...]
    attempt: Try


CASES: dict[str, Case] = {}


def case(reason: str, *fields: str) -> Callable[[Try], Try]:
    """Add a case to the table."""

    def add(attempt: Try) -> Try:
        name = attempt.__name__
        assert name not in CASES
        CASES[name] = Case(reason, fields, attempt)
        return attempt

    return add


async def set_state(w: World, run_id: str, path: str, value: Any, **fields: Any) -> states.SetStateResponse:
    values = [states.PathValue(path=path, value=payload(value))]
    answer: states.SetStateResponse = await w.rpc.states.SetState(
        states.SetStateRequest(run_id=run_id, values=values, **fields)
    )
    return answer


async def start_from_run(w: World, run_id: str, sequence: int, **fields: Any) -> types.Run:
    request = runs.StartRunRequest(workflow="ask", **fields)
    getattr(request, "from").CopyFrom(types.SnapshotRef(run_id=run_id, sequence=sequence))
    answer: runs.StartRunResponse = await w.rpc.runs.StartRun(request)
    return answer.run


async def attach(w: World, **fields: Any) -> runs.ConverseResponse:
    call = w.rpc.converse()
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(**fields)))
    frame: runs.ConverseResponse = await call.read()
    call.cancel()
    return frame


def number_value(found: float) -> types.Payload:
    message = types.Payload()
    message.value.struct_value.fields["item"].string_value = SECRET
    message.value.struct_value.fields["count"].number_value = found
    return message


def nested(depth: int) -> bytes:
    return b'{"item":' + b"[" * depth + b"1" + b"]" * depth + b"}"


async def read_out(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def publish(w: World, run_id: str, n: int) -> Awaitable[Any]:
    sent = event("Note", n=n)
    published: Awaitable[Any] = w.rpc.runs.PublishEvent(
        runs.PublishEventRequest(run_id=run_id, event=sent, request_id="r")
    )
    return published
