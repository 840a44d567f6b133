"""The outer interceptor: it admits calls, and no exception's text ever reaches a client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final, NamedTuple

import grpc
from google.rpc.status_pb2 import Status

from stepwire.server import failpoints
from stepwire.server.auth import Authenticator
from stepwire.server.principal import ANONYMOUS, Principal
from stepwire.server.rpc.errors import abort, status_of
from stepwire.server.rpc.gate.access import RULES, START, UNKNOWN, Gate, Rule, has_limits, looks_for, permit_method
from stepwire.server.rpc.gate.calls import CALL, Call, Calls
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.rpc.grpc_types import Context, Handler
from stepwire.server.rpc.tracing import traced
from stepwire.server.runs.errors import DrainingError, InvalidError, PermissionDeniedError, UnauthenticatedError
from stepwire.server.telemetry.metrics import Metrics
from stepwire.server.telemetry.tracing import CARRIER, carrier_of, enabled

_IDENTITIES = ("x509_subject_alternative_name", "x509_common_name")

_CANCELLED: int = grpc.StatusCode.CANCELLED.value[0]

Parse = Callable[[bytes], Any]
Metadata = Iterable[tuple[str, str | bytes]]


Admission = tuple[Principal | None, str | None]
"""Who calls, and its authorization; no caller: its certificate will tell, which the handler sees."""
_NOBODY: Final[Admission] = (ANONYMOUS, None)
_ADMISSION: ContextVar[Admission] = ContextVar("stepwire_admission", default=_NOBODY)
_REFUSAL: ContextVar[Exception | None] = ContextVar("stepwire_refusal", default=None)
"""What the interceptor found out about the call that this task serves."""


class Wrapped(NamedTuple):
    """A method's handler, the handler of ours around it, and that of calls which are not let in."""

    handler: Handler
    admitted: Handler
    refused: Handler
    rule: Rule


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Admit calls, and translate what handlers raise, and messages that cannot be parsed, to statuses.

    In this order: who calls, may they call this method, are there too many calls, is the message too long, is it
    valid protobuf, is what it carries too big or deep, may the caller do this with this workflow. No message is
    received of who does not show a good credential for the method. It must be the outermost interceptor. It also lets
    handlers of streams give messages that are serialized already.
    """

    def __init__(self, calls: Calls | None = None, gate: Gate | None = None) -> None:
        self._calls = calls or Calls(Limits(), None)
        self._gate = gate
        self._wrapped: dict[str, Wrapped] = {}
        self._spans = enabled()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Give the wrapped handler of a method, or one that refuses without receiving a message."""
        handler = await continuation(details)
        if handler is None:
            return handler
        method = str(details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None or wrapped.handler is not handler:
            rule, refused = RULES.get(method, UNKNOWN), self._refusing(method)
            wrapped = self._wrapped[method] = Wrapped(handler, self._wrap(handler, method), refused, rule)
        # The call's own task runs this, and then the handler: both see these variables.
        metadata = details.invocation_metadata or ()
        if not self._spans and (carrier := carrier_of(metadata)):  # spans set the carrier themselves
            CARRIER.set(carrier)
        if self._calls.authenticator is not None and wrapped.rule.action is not None:
            try:
                _ADMISSION.set(self._admit(self._calls.authenticator, wrapped.rule, metadata))
            except Exception as error:  # noqa: BLE001 - it is told as any other
                _REFUSAL.set(error)
                return wrapped.refused
        return wrapped.admitted

    def _admit(self, authenticator: Authenticator, rule: Rule, metadata: Metadata) -> Admission:
        """Return who calls, as far as the metadata tell. UnauthenticatedError, PermissionDeniedError."""
        if rule is UNKNOWN:
            raise PermissionDeniedError("This method is not open to anyone", needs="unknown")
        authorization = _authorization(metadata)
        if authorization is None and authenticator.certificates:
            return None, None
        caller = authenticator.authenticate(authorization)
        permit_method(caller, rule.action)
        return caller, authorization

    def _refusing(self, method: str) -> Handler:
        counted = self._calls.metrics.rpc(method)

        # As of a stream of requests, whatever the method has: gRPC receives none of them before it is asked to.
        async def refuse(requests: Any, context: Context) -> None:
            began, error = perf_counter(), _REFUSAL.get()
            assert error is not None
            refusal = status_of(error, method, self._calls.metrics)
            counted.done(refusal.code, perf_counter() - began)
            _REFUSAL.set(None)
            aborting = abort(context, refusal)
            del context, error, requests
            await aborting

        return grpc.stream_stream_rpc_method_handler(traced(refuse, method), None, None)

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
        calls = self._calls
        caller, authorization = _ADMISSION.get()
        identities: Sequence[str] = ()
        if caller is None:
            assert calls.authenticator is not None
            identities = _identities(context)
            caller = calls.authenticator.authenticate(None, identities)
            permit_method(caller, rule.action)
        usage = calls.usage(caller) if metered else None
        return Call(method, rule.kind, caller, calls.limits, usage, authorization, identities)

    def _unary(self, handler: Any, method: str, parse: Parse) -> Any:
        calls, gate = self._calls, self._gate
        rule, looks, limited = RULES.get(method, UNKNOWN), looks_for(method), has_limits(method)
        metered, counted = rule.metered, self._calls.metrics.rpc(method)

        async def handle(data: bytes, context: Context) -> Any:
            if failpoints.ACTIVE:
                context.add_done_callback(lambda _: failpoints.hit("ack.after"))  # type: ignore[arg-type]
            call = entered = refusal = None
            began, passed = perf_counter(), False
            try:
                call = self._open(method, rule, metered, context)
                CALL.set(call)
                calls.enter(call)
                entered = call
                calls.limits.check_message(len(data))
                if metered and call.kind == "wait":
                    calls.limits.check_held("wait", len(data))
                request = call.request = parse(data)
                if method == START and request.HasField("wait"):
                    calls.leave(call)
                    entered = None
                    call.kind = "wait"
                    calls.enter(call)
                    entered = call
                if gate is not None:
                    if limited:
                        gate.check_limits(call, rule, request)
                    if looks is not None and not call.caller.scopes.everywhere(looks):
                        await gate.check_request(call, rule, request)
                answer = await handler(request, context)
                passed = True
                return answer
            except asyncio.CancelledError:
                refusal = _cancelled(context, method, call, calls.metrics)
                if refusal is None:
                    raise
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status and no text of ours
                refusal = status_of(error, method, self._calls.metrics)
            finally:
                if entered is not None:
                    calls.leave(entered)
                code = 0 if passed else _code(context) if refusal is None else refusal.code
                counted.done(code, perf_counter() - began)
            aborting = abort(context, refusal)
            # gRPC keeps what ends a call with its traceback: a frame that still knew the context would be a circle,
            # and its message stay in memory until the garbage collector comes.
            del context, data
            await aborting

        return handle

    def _stream(self, handler: Any, method: str, parse: Parse, *, many: bool) -> Any:
        calls, gate = self._calls, self._gate
        rule, looks, limited = RULES.get(method, UNKNOWN), looks_for(method), has_limits(method)
        metered, counted = rule.metered, self._calls.metrics.rpc(method)
        generates = inspect.isasyncgenfunction(handler)

        # A coroutine that writes, not a generator: a stalled write can be ended from here.
        async def handle(data: Any, context: Context) -> None:
            call = entered = refusal = None
            began, passed = perf_counter(), False
            try:
                call = self._open(method, rule, metered, context)
                CALL.set(call)
                calls.enter(call)
                entered = call
                if many:
                    request = _messages(data, parse, call)
                else:
                    calls.limits.check_message(len(data))
                    calls.limits.check_held(call.kind, len(data))
                    request = call.request = parse(data)
                    if gate is not None:
                        if limited:
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
                refusal = _cancelled(context, method, call, calls.metrics)
                if refusal is None:
                    raise
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status and no text of ours
                refusal = status_of(error, method, self._calls.metrics)
            finally:
                if entered is not None:
                    calls.leave(entered)
                code = 0 if passed else _code(context) if refusal is None else refusal.code
                counted.done(code, perf_counter() - began)
            aborting = abort(context, refusal)
            # gRPC keeps what ends a call with its traceback: a frame that still knew the context would be a circle,
            # and its message stay in memory until the garbage collector comes.
            del context, data
            await aborting

        return handle


def _cancelled(context: Context, method: str, call: Call | None, metrics: Metrics) -> Status | None:
    """Return how a call ends that this server ended, or engine code was cancelled in; None: its client left."""
    task = asyncio.current_task()
    if task is None or context.done():
        return None
    if call is not None and call.ended is not None:
        task.uncancel()
        return status_of(call.ended, method, metrics)
    if not task.cancelling():
        return status_of(DrainingError("The call was interrupted"), method, metrics)
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
                raise UnauthenticatedError("The call carries several credentials", why="several")
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
