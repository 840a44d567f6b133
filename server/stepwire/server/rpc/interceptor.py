"""The outer interceptor: it admits calls, and no exception's text ever reaches a client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from stepwire.server import failpoints
from stepwire.server.counters import COUNTERS
from stepwire.server.rpc.access import RULES, START, UNKNOWN, Gate, Rule, looks_for, permit_method
from stepwire.server.rpc.calls import CALL, Call, Calls
from stepwire.server.rpc.errors import abort, status_of
from stepwire.server.rpc.grpc_types import Context, Handler
from stepwire.server.rpc.limits import Limits
from stepwire.server.rpc.tracing import traced
from stepwire.server.runs.errors import DrainingError, InvalidError, PermissionDeniedError, UnauthenticatedError
from stepwire.server.runs.principal import ANONYMOUS
from stepwire.server.telemetry.tallies import Tallies
from stepwire.server.telemetry.tracing import CARRIER, carrier_of, enabled

_IDENTITIES = ("x509_subject_alternative_name", "x509_common_name")

_CANCELLED: int = grpc.StatusCode.CANCELLED.value[0]

Parse = Callable[[bytes], Any]
Metadata = Iterable[tuple[str, str | bytes]]

_METADATA: ContextVar[Metadata] = ContextVar("stepwire_metadata", default=())
"""The metadata of the call that this task serves: gRPC makes it anew each time that its context is asked."""


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Admit calls, and translate what handlers raise, and messages that cannot be parsed, to statuses.

    In this order: who calls, may they call this method, are there too many calls, is the message too long, is it
    valid protobuf, is what it carries too big or deep, may the caller do this with this workflow. It must be the
    outermost interceptor. It also lets handlers of streams give messages that are serialized already.
    """

    def __init__(self, calls: Calls | None = None, gate: Gate | None = None, tallies: Tallies | None = None) -> None:
        self._tallies = tallies or Tallies()
        self._calls = calls or Calls(Limits(), None)
        self._gate = gate
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a method, once."""
        handler = await continuation(details)
        if handler is None:
            return handler
        _METADATA.set(details.invocation_metadata or ())  # the call's own task runs this, and then the handler
        method = str(details.method)
        known = self._wrapped.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        wrapped = self._wrap(handler, method)
        self._wrapped[method] = (handler, wrapped)
        return wrapped

    def _wrap(self, handler: Any, method: str) -> Handler:
        parse = _parser(handler.request_deserializer)
        serialize = _passing(handler.response_serializer)
        # Messages come as bytes: who calls is known before anything of theirs is parsed.
        if handler.request_streaming and handler.response_streaming:
            wrapped = traced(self._stream(handler.stream_stream, method, parse, many=True), method)
            return grpc.stream_stream_rpc_method_handler(wrapped, None, serialize)
        if handler.response_streaming:
            wrapped = traced(self._stream(handler.unary_stream, method, parse, many=False), method)
            return grpc.unary_stream_rpc_method_handler(wrapped, None, serialize)
        if handler.request_streaming:
            raise TypeError(f"{method}: no method of the contract streams requests alone")
        wrapped = traced(self._unary(handler.unary_unary, method, parse), method)
        return grpc.unary_unary_rpc_method_handler(wrapped, None, serialize)

    def _open(self, method: str, rule: Rule, metered: bool, context: Context) -> Call:
        """Return the call with its caller. UnauthenticatedError, PermissionDeniedError."""
        calls, caller = self._calls, ANONYMOUS
        authorization: str | None = None
        identities: Sequence[str] = ()
        authenticator = calls.authenticator
        if authenticator is not None:
            if rule is UNKNOWN:
                COUNTERS.add("permission_denied", "unknown")
                raise PermissionDeniedError("This method is not open to anyone")
            if rule.action is not None:
                authorization = _authorization(_METADATA.get())
                if authorization is None and authenticator.certificates:
                    identities = _identities(context)
                caller = authenticator.authenticate(authorization, identities)
                permit_method(caller, rule.action)
        call = Call(method, rule.kind, caller, calls.limits, calls.usage(caller) if metered else None)
        call.authorization, call.identities = authorization, identities
        return call

    def _unary(self, handler: Any, method: str, parse: Parse) -> Any:
        calls, gate = self._calls, self._gate
        rule, looks = RULES.get(method, UNKNOWN), looks_for(method)
        metered, tally, spans = rule.metered, self._tallies.rpc(method), enabled()

        async def handle(data: bytes, context: Context) -> Any:
            if failpoints.ACTIVE:
                context.add_done_callback(lambda _: failpoints.hit("ack.after"))  # type: ignore[arg-type]
            call = entered = refusal = None
            began, passed = perf_counter(), False
            try:
                if not spans and (carrier := carrier_of(_METADATA.get())):  # spans set the carrier themselves
                    CARRIER.set(carrier)
                call = self._open(method, rule, metered, context)
                CALL.set(call)
                calls.enter(call)
                entered = call
                calls.limits.check_message(len(data))
                request = call.request = parse(data)
                if method == START and request.HasField("wait"):
                    calls.leave(call)
                    entered = None
                    call.kind = "wait"
                    calls.enter(call)
                    entered = call
                if gate is not None:
                    gate.check_limits(call, rule, request)
                    if looks is not None and not call.caller.scopes.everywhere(looks):
                        await gate.check_request(call, rule, request)
                answer = await handler(request, context)
                passed = True
                return answer
            except asyncio.CancelledError:
                refusal = _cancelled(context, method, call)
                if refusal is None:
                    raise
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status and no text of ours
                refusal = status_of(error, method)
            finally:
                if entered is not None:
                    calls.leave(entered)
                code = 0 if passed else _code(context) if refusal is None else refusal.code
                tally.done(code, perf_counter() - began)
            aborting = abort(context, refusal)
            # gRPC keeps what ends a call with its traceback: a frame that still knew the context would be a circle,
            # and its message stay in memory until the garbage collector comes.
            del context, data
            await aborting

        return handle

    def _stream(self, handler: Any, method: str, parse: Parse, *, many: bool) -> Any:
        calls, gate = self._calls, self._gate
        rule, looks = RULES.get(method, UNKNOWN), looks_for(method)
        metered, tally, spans = rule.metered, self._tallies.rpc(method), enabled()
        generates = inspect.isasyncgenfunction(handler)

        # A coroutine that writes, not a generator: a stalled write can be ended from here.
        async def handle(data: Any, context: Context) -> None:
            call = entered = refusal = None
            began, passed = perf_counter(), False
            try:
                if not spans and (carrier := carrier_of(_METADATA.get())):  # spans set the carrier themselves
                    CARRIER.set(carrier)
                call = self._open(method, rule, metered, context)
                CALL.set(call)
                calls.enter(call)
                entered = call
                if many:
                    request = _messages(data, parse, call)
                else:
                    calls.limits.check_message(len(data))
                    request = call.request = parse(data)
                    if gate is not None:
                        gate.check_limits(call, rule, request)
                        if looks is not None and not call.caller.scopes.everywhere(looks):
                            await gate.check_request(call, rule, request)
                if not generates:
                    await handler(request, context)
                    passed = True
                    return
                time = asyncio.get_running_loop().time
                async with aclosing(handler(request, context)) as responses:
                    async for response in responses:
                        call.since = time()
                        await context.write(response)
                        call.since = 0.0
                passed = True
                return
            except asyncio.CancelledError:
                refusal = _cancelled(context, method, call)
                if refusal is None:
                    raise
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status and no text of ours
                refusal = status_of(error, method)
            finally:
                if entered is not None:
                    calls.leave(entered)
                code = 0 if passed else _code(context) if refusal is None else refusal.code
                tally.done(code, perf_counter() - began)
            aborting = abort(context, refusal)
            # gRPC keeps what ends a call with its traceback: a frame that still knew the context would be a circle,
            # and its message stay in memory until the garbage collector comes.
            del context, data
            await aborting

        return handle


def _cancelled(context: Context, method: str, call: Call | None) -> Status | None:
    """Return how a call ends that this server ended, or engine code was cancelled in; None: its client left."""
    task = asyncio.current_task()
    if task is None or context.done():
        return None
    if call is not None and call.ended is not None:
        task.uncancel()
        return status_of(call.ended, method)
    if not task.cancelling():
        return status_of(DrainingError("The call was interrupted"), method)
    return None


def _code(context: Context) -> int:
    """Return the number of the status that a call ended with that did not pass; a client that left gets none."""
    code: Any = context.code()  # 0 as long as none was set
    return code.value[0] if isinstance(code, grpc.StatusCode) else code or _CANCELLED


def _authorization(metadata: Metadata) -> str | None:
    found = None
    for key, value in metadata:
        if key == "authorization":
            if found is not None:
                raise UnauthenticatedError("The call carries several credentials")
            found = value if isinstance(value, str) else value.decode("ascii", "replace")
    return found


def _identities(context: Context) -> Sequence[str]:
    properties = context.auth_context()
    return tuple(
        value.decode("utf-8", "replace") for name in _IDENTITIES for value in properties.get(name, ()) if value
    )


def _parser(deserialize: Any) -> Parse:
    def parse(data: bytes) -> Any:
        if deserialize is None:
            return data
        try:
            return deserialize(data)
        except Exception as error:  # protobuf raises several kinds; gRPC would answer UNKNOWN
            message = "The message is not valid protobuf of this method's request type"
            raise InvalidError("MALFORMED_MESSAGE", message) from error

    return parse


def _passing(serialize: Any) -> Any:
    def passing(message: Any) -> bytes:
        if type(message) is bytes:
            return message
        data: bytes = serialize(message)
        return data

    return passing


async def _messages(messages: AsyncIterator[bytes], parse: Parse, call: Call) -> AsyncIterator[Any]:
    async for data in messages:
        call.check_alive()
        call.limits.check_message(len(data))
        yield parse(data)
