"""Calls that the history records: each has a request_id and is repeated until its outcome is known."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from tests.system.chaos.history import OK, UNKNOWN, History
from tests.system.chaos.server import CHANNEL_OPTIONS
from tests.system.chaos.workload import WORKFLOW

from stepwire.client import Client, GenericEvent, StepwireError
from stepwire.client._core.reconnect import is_connection_loss
from stepwire.client._core.status import from_rpc_error
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2_grpc, types_pb2
from stepwire.v1 import state_service_pb2 as state

JSON = types_pb2.PAYLOAD_ENCODING_JSON
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)


def new_id() -> str:
    """Return a token that nothing else has."""
    return uuid.uuid4().hex[:16]


def payload(value: Any) -> types_pb2.Payload:
    """Return a value as a payload of JSON."""
    return types_pb2.Payload(json=json.dumps(value).encode())


class Caller:
    """One client with a connection of its own; `client` names it in the history."""

    def __init__(self, history: History, address: str, client: str, *, patience: float = 60.0) -> None:
        self.client = client
        self._history = history
        self._patience = patience
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.runs = run_service_pb2_grpc.RunServiceStub(self._channel)
        self.state = state_service_pb2_grpc.StateServiceStub(self._channel)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def start(self, *, once: bool = False, request_id: str = "") -> str:
        """Start a run; return its id, "" when that is not known."""
        request_id = request_id or new_id()
        request = runs.StartRunRequest(
            workflow=WORKFLOW,
            input=payload({"owner": self.client}),
            request_id=request_id,
            labels={"request": request_id},
            encoding=JSON,
        )
        answer = await self._call(
            self.runs.StartRun, request, once, lambda r: {"run": r.run.run_id}, op="start", request=request_id, args={}
        )
        return str(answer["run"]) if answer else ""

    async def send(
        self, run: str, type_name: str, *, once: bool = False, request_id: str = "", **fields: Any
    ) -> int | None:
        """Send an event; return its sequence, None when that is not known."""
        request_id = request_id or new_id()
        request = runs.SendEventRequest(
            run_id=run, event=types_pb2.Event(type=type_name, payload=payload(fields)), request_id=request_id
        )
        answer = await self._call(
            self.runs.SendEvent,
            request,
            once,
            lambda r: {"sequence": r.sequence, "delivered": r.delivered},
            op="send",
            run=run,
            request=request_id,
            args={"type": type_name, **fields},
        )
        return int(answer["sequence"]) if answer else None

    async def publish(self, run: str, *, once: bool = False, request_id: str = "", token: str) -> None:
        """Publish a note."""
        request_id = request_id or new_id()
        request = runs.PublishEventRequest(
            run_id=run, event=types_pb2.Event(type="Note", payload=payload({"token": token})), request_id=request_id
        )
        await self._call(
            self.runs.PublishEvent,
            request,
            once,
            lambda r: {"sequence": r.sequence},
            op="publish",
            run=run,
            request=request_id,
            args={"type": "Note", "token": token},
        )

    async def set(self, run: str, values: dict[str, Any], *, once: bool = False, request_id: str = "") -> None:
        """Set state; only this client writes these keys."""
        request_id = request_id or new_id()
        request = state.SetStateRequest(
            run_id=run,
            values=[state.PathValue(path=path, value=payload(value)) for path, value in values.items()],
            request_id=request_id,
        )
        await self._call(
            self.state.SetState,
            request,
            once,
            lambda r: {"etag": r.etag},
            op="set",
            run=run,
            request=request_id,
            args=values,
        )

    async def get(self, run: str) -> None:
        """Read the whole state."""
        request = state.GetStateRequest(run_id=run, path="", encoding=JSON)
        await self._call(
            self.state.GetState,
            request,
            False,
            lambda r: {"value": json.loads(r.value.json)},
            op="get",
            run=run,
            request="",
            args={},
        )

    async def _call(
        self,
        method: Callable[..., Awaitable[Any]],
        request: Any,
        once: bool,
        parse: Callable[[Any], dict[str, Any]],
        /,
        **fields: Any,
    ) -> dict[str, Any] | None:
        """Call until the outcome is known or patience ends, and write it down."""
        start = time.time()
        deadline = time.monotonic() + self._patience
        attempts = 0
        status, answer = UNKNOWN, {}
        try:
            while True:
                attempts += 1
                try:
                    answer = parse(await method(request, timeout=5.0, wait_for_ready=not once))
                    status = OK
                    break
                except grpc.aio.AioRpcError as error:
                    failure = from_rpc_error(error)
                    code = error.code()
                    if code not in _PASSING and not is_connection_loss(failure):
                        status = failure.reason or code.name
                        fields["detail"] = str(failure)
                        break
                if once or time.monotonic() > deadline:
                    break
                await asyncio.sleep(random.uniform(0.01, 0.05))
        finally:
            record = {**fields, **answer, "client": self.client, "status": status, "attempts": attempts}
            self._history.add(record.pop("op"), **record, start=start, end=time.time())
        return answer if status == OK else None


class PublicCaller(Caller):
    """The same through the public client, which makes request ids and repeats by itself: every call must succeed."""

    def __init__(self, history: History, address: str, client: str, *, patience: float = 60.0) -> None:
        super().__init__(history, address, client, patience=patience)
        self._client = Client(address, timeout=patience)
        self._sent: set[str] = set()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        await super().close()

    async def start(self, *, once: bool = False, request_id: str = "") -> str:
        """Start a run; return its id, "" when that failed."""
        request_id = request_id or new_id()

        async def call() -> dict[str, Any]:
            run = await self._client.start_run(WORKFLOW, owner=self.client, labels={"request": request_id})
            return {"run": run.run_id}

        answer = await self._public(call, op="start", request=request_id, args={})
        return str(answer["run"]) if answer else ""

    async def send(
        self, run: str, type_name: str, *, once: bool = False, request_id: str = "", **fields: Any
    ) -> int | None:
        """Send an event; a repeat of an earlier request is left out, the client repeats by itself."""
        if request_id in self._sent:
            return None
        self._sent.add(request_id)
        event = GenericEvent.of(type_name, fields)

        async def call() -> dict[str, Any]:
            result = await self._client.run(run).context.send_event(event)
            return {"sequence": result.sequence, "delivered": result.delivered}

        args = {"type": type_name, **fields}
        answer = await self._public(call, op="send", run=run, request=request_id or new_id(), args=args)
        return int(answer["sequence"]) if answer else None

    async def publish(self, run: str, *, once: bool = False, request_id: str = "", token: str) -> None:
        """Publish a note."""

        async def call() -> dict[str, Any]:
            event = GenericEvent.of("Note", {"token": token})
            return {"sequence": await self._client.run(run).context.write_event_to_stream(event)}

        args = {"type": "Note", "token": token}
        await self._public(call, op="publish", run=run, request=new_id(), args=args)

    async def set(self, run: str, values: dict[str, Any], *, once: bool = False, request_id: str = "") -> None:
        """Set state."""

        async def call() -> dict[str, Any]:
            return {"etag": await self._client.run(run).context.store.set_many(values)}

        await self._public(call, op="set", run=run, request=new_id(), args=values)

    async def get(self, run: str) -> None:
        """Read the whole state."""

        async def call() -> dict[str, Any]:
            return {"value": await self._client.run(run).context.store.get_state()}

        await self._public(call, op="get", run=run, request="", args={})

    async def _public(self, call: Callable[[], Awaitable[dict[str, Any]]], **fields: Any) -> dict[str, Any] | None:
        start = time.time()
        status, answer = OK, {}
        try:
            answer = await call()
        except StepwireError as error:
            status = error.reason or type(error).__name__
            fields["detail"] = str(error)
        record = {**fields, **answer, "client": self.client, "status": status}
        self._history.add(record.pop("op"), **record, start=start, end=time.time())
        return answer if status == OK else None
