"""The outermost gRPC interceptor: it admits calls, and turns whatever they raise into a status."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final, NamedTuple

import grpc

from stepwire.server import failpoints
from stepwire.server.auth import Authenticator
from stepwire.server.principal import ANONYMOUS, Principal
from stepwire.server.rpc.errors import abort, status_of
from stepwire.server.rpc.gate.access import START, UNKNOWN, Rule, permit_method
from stepwire.server.rpc.gate.admission import Admission, Gate
from stepwire.server.rpc.gate.call import CALL, Call
from stepwire.server.rpc.gate.calls import Calls
from stepwire.server.rpc.gate.ending import Ending
from stepwire.server.rpc.gate.messages import Parse, Receive, many, one, parser, passing
from stepwire.server.rpc.grpc_types import Context, Handler
from stepwire.server.rpc.tracing import traced
from stepwire.server.runs.errors import PermissionDeniedError, UnauthenticatedError
from stepwire.server.telemetry.tracing import CARRIER, carrier_of, enabled

_IDENTITIES = ("x509_subject_alternative_name", "x509_common_name")

Metadata = Iterable[tuple[str, str | bytes]]

Caller = tuple[Principal | None, str | None]
"""`(caller, authorization)`; caller is None when only the TLS certificate identifies it."""
_NOBODY: Final[Caller] = (ANONYMOUS, None)
_CALLER: ContextVar[Caller] = ContextVar("stepwire_caller", default=_NOBODY)
_REFUSAL: ContextVar[Exception | None] = ContextVar("stepwire_refusal", default=None)
"""Set by `intercept_service` for the handler, which runs in the same task."""


class Wrapped(NamedTuple):
    """A method's own handler, the admitting handler around it, and the handler that refuses calls.

    `rule` is what the method needs.
    """

    handler: Handler
    admitted: Handler
    refused: Handler
    rule: Rule


class GateInterceptor(grpc.aio.ServerInterceptor):
    """Admit calls, and turn what handlers raise, and messages that cannot be parsed, into statuses.

    The checks come in this order: who calls, may they call this method, are too many calls under way, is the message
    too long, is it valid protobuf, is what it carries too big or too deep, may the caller do this with this workflow.
    No message is received from a caller without a good credential for the method.

    It must be the outermost interceptor. Handlers of streams may also yield messages that are serialized already.
    """

    def __init__(self, calls: Calls, gate: Gate) -> None:
        self._calls = calls
        self._gate = gate
        self._wrapped: dict[str, Wrapped] = {}
        self._spans = enabled()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the wrapped handler of a method, or one that refuses the call without receiving a message."""
        handler = await continuation(details)
        if handler is None:
            return handler
        method = str(details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None or wrapped.handler is not handler:
            wrapped = self._wrapped[method] = self._wrap(handler, method)
        # The call's own task runs this and then the handler, so both see these context variables.
        metadata = details.invocation_metadata or ()
        if not self._spans and (carrier := carrier_of(metadata)):  # spans set the carrier themselves
            CARRIER.set(carrier)
        if self._calls.authenticator is not None and wrapped.rule.action is not None:
            try:
                _CALLER.set(self._identify(self._calls.authenticator, wrapped.rule, metadata))
            except Exception as error:  # noqa: BLE001 - the refusing handler turns any error into a status
                _REFUSAL.set(error)
                return wrapped.refused
        return wrapped.admitted

    def _identify(self, authenticator: Authenticator, rule: Rule, metadata: Metadata) -> Caller:
        """Return the caller as far as the metadata identify it.

        Raises:
            CredentialError: The credential is missing or not valid.
            PermissionDeniedError: The caller may not use the method.
        """
        if rule is UNKNOWN:
            raise PermissionDeniedError("This method is not open to anyone", needs="unknown")
        authorization = _authorization(metadata)
        if authorization is None and authenticator.certificates:
            return None, None
        caller = authenticator.authenticate(authorization)
        permit_method(caller, rule.action)
        return caller, authorization

    def _wrap(self, handler: Any, method: str) -> Wrapped:
        admission = self._gate.of(method)
        # Messages arrive as bytes: the caller is known before any of them is parsed.
        parse, serialize = parser(handler.request_deserializer), passing(handler.response_serializer)
        if handler.request_streaming and handler.response_streaming:
            receive = many(parse)
            admitted = traced(self._stream(handler.stream_stream, admission, method, receive), method)
            outer: Handler = grpc.stream_stream_rpc_method_handler(admitted, None, serialize)
        elif handler.response_streaming:
            receive = one(parse, admission)
            admitted = traced(self._stream(handler.unary_stream, admission, method, receive), method)
            outer = grpc.unary_stream_rpc_method_handler(admitted, None, serialize)
        elif handler.request_streaming:
            raise TypeError(f"{method}: no method of the contract streams requests alone")
        else:
            admitted = traced(self._unary(handler.unary_unary, admission, method, parse), method)
            outer = grpc.unary_unary_rpc_method_handler(admitted, None, serialize)
        return Wrapped(handler, outer, self._refusing(method), admission.rule)

    def _refusing(self, method: str) -> Handler:
        counted = self._calls.metrics.rpc(method)

        # A handler of a request stream, whatever the method has: gRPC receives no message before it is asked to.
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

    def _begin(self, ending: Ending, method: str, rule: Rule, context: Context) -> Call:
        """Return the call with its caller, counted as under way.

        Raises:
            CredentialError, PermissionDeniedError: The certificate identifies nobody who may call the method.
            LimitError: Too many calls are under way.
        """
        calls = self._calls
        caller, authorization = _CALLER.get()
        identities: Sequence[str] = ()
        if caller is None:
            assert calls.authenticator is not None
            identities = _identities(context)
            caller = calls.authenticator.authenticate(None, identities)
            permit_method(caller, rule.action)
        usage = calls.usage(caller) if rule.metered else None
        call = Call(method, rule.kind, caller, calls.limits, usage, authorization, identities)
        CALL.set(call)
        ending.enter(call)
        return call

    def _unary(self, handler: Any, admission: Admission, method: str, parse: Parse) -> Any:
        calls, rule, counted = self._calls, admission.rule, self._calls.metrics.rpc(method)
        held = rule.kind != "unary"

        async def handle(data: bytes, context: Context) -> Any:
            if failpoints.ACTIVE:
                context.add_done_callback(lambda _: failpoints.hit("ack.after"))  # type: ignore[arg-type]
            with Ending(calls, method, counted, context) as ending:
                call = self._begin(ending, method, rule, context)
                call.limits.check_message(len(data))
                if held:
                    call.limits.check_held(call.kind, len(data))
                request = call.request = parse(data)
                if method == START and request.HasField("wait"):
                    ending.leave()
                    call.kind = "wait"
                    ending.enter(call)
                if (pending := admission.admit(call, request)) is not None:
                    await pending
                return await handler(request, context)
            aborting = abort(context, ending.refusal)
            # gRPC keeps the exception that ends a call, with its traceback. A frame that still held the context would
            # close a circle, and the message would stay in memory until the garbage collector runs.
            del context, data, ending
            await aborting

        return handle

    def _stream(self, handler: Any, admission: Admission, method: str, receive: Receive) -> Any:
        calls, rule, counted = self._calls, admission.rule, self._calls.metrics.rpc(method)
        generates = inspect.isasyncgenfunction(handler)

        # A coroutine that writes, not a generator, so that a stalled write can be ended from here.
        async def handle(data: Any, context: Context) -> None:
            with Ending(calls, method, counted, context) as ending:
                call = self._begin(ending, method, rule, context)
                request = await receive(call, data)
                if not generates:
                    await handler(request, context)
                    return
                time = asyncio.get_running_loop().time
                async with aclosing(handler(request, context)) as responses:
                    async for response in responses:
                        call.since = time()
                        await context.write(response)
                        call.since = 0.0
                return
            aborting = abort(context, ending.refusal)
            del context, data, ending  # as in `_unary`
            await aborting

        return handle


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
