"""What the core asks a driver to do: make a call, make several, or walk a list page by page."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from stepwire.client._core.event_types import EventTypes
from stepwire.v1 import run_service_pb2_grpc as runs_grpc
from stepwire.v1 import schedule_service_pb2_grpc as schedules_grpc
from stepwire.v1 import server_service_pb2_grpc as server_grpc
from stepwire.v1 import snapshot_service_pb2_grpc as snapshots_grpc
from stepwire.v1 import state_service_pb2_grpc as state_grpc
from stepwire.v1 import workflow_service_pb2_grpc as workflows_grpc

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A unary call.

    Attributes:
        method: `Service.Method`.
        request: The message to send.
        parse: Makes the caller's answer of the server's.
        safe: A repeat does no harm, so the driver retries after a lost connection.
        budget: Seconds for all attempts together.
    """

    method: str
    request: Message
    parse: Callable[[Any], T]
    safe: bool
    budget: float


Operation: TypeAlias = Generator[Call[Any] | float, Any, T]
"""Several calls that make one operation. It yields a call and gets its answer or error; it yields seconds to sleep."""


class Pages(Generic[T]):
    """A paged list. Make `call()` until it returns None.

    Args:
        method: `Service.Method`.
        request: The request of the first page; its page token is changed for the next ones.
        parse: Returns the items of a page.
        budget: Seconds for each page.
    """

    def __init__(self, method: str, request: Any, parse: Callable[[Any], list[T]], budget: float) -> None:
        self._method = method
        self._request = request
        self._parse = parse
        self._budget = budget
        self._more = True

    def call(self) -> Call[list[T]] | None:
        """Return the call of the next page, None after the last."""
        if not self._more:
            return None
        return Call(self._method, self._request, self._take, safe=True, budget=self._budget)

    def _take(self, response: Any) -> list[T]:
        self._request.page_token = response.next_page_token
        self._more = bool(response.next_page_token)
        return self._parse(response)


@dataclass(frozen=True, slots=True)
class Settings:
    """What all calls of a client share.

    Attributes:
        timeout: Seconds that a call may take, its retries included.
        reconnect_timeout: Seconds after which a stream or a wait gives up a lost server; None for never.
        types: The caller's event classes.
        addresses: How many addresses there are to try.
    """

    timeout: float
    reconnect_timeout: float | None
    types: EventTypes
    addresses: int = 1


def make_stubs(channel: Any) -> dict[str, Any]:
    """Return the stubs of all services over a channel of grpc or grpc.aio, by the name of the service."""
    return {
        "RunService": runs_grpc.RunServiceStub(channel),
        "StateService": state_grpc.StateServiceStub(channel),
        "SnapshotService": snapshots_grpc.SnapshotServiceStub(channel),
        "ScheduleService": schedules_grpc.ScheduleServiceStub(channel),
        "ServerService": server_grpc.ServerServiceStub(channel),
        "WorkflowService": workflows_grpc.WorkflowServiceStub(channel),
    }


def find_method(stubs: Mapping[str, Any], method: str) -> Any:
    """Return the multi-callable of `Service.Method`."""
    service, _, name = method.partition(".")
    return getattr(stubs[service], name)


def new_request_id() -> str:
    """Return an id that makes a call safe to repeat."""
    return uuid.uuid4().hex
