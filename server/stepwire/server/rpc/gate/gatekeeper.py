"""The one handler that gRPC calls: it admits calls, and turns whatever they raise into a status."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol

import grpc

from stepwire.server import failpoints
from stepwire.server.auth import Authenticator
from stepwire.server.principal import ANONYMOUS, Principal
from stepwire.server.rpc.errors import abort, status_of
from stepwire.server.rpc.gate.address import address_of
from stepwire.server.rpc.gate.admission import Admission, Gate
from stepwire.server.rpc.gate.call import CALL, Call
from stepwire.server.rpc.gate.calls import Calls
from stepwire.server.rpc.gate.ending import Ending
from stepwire.server.rpc.gate.messages import Parse, Receive, many, one, parser, passing
from stepwire.server.rpc.gate.method_scopes import START, UNKNOWN, Rule, permit_method
from stepwire.server.rpc.gate.quotas import Usage
from stepwire.server.rpc.grpc_types import Context, Handler
from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.tracing import traced
from stepwire.server.runs.errors import PermissionDeniedError, UnauthenticatedError
from stepwire.server.telemetry.metrics import Metrics
from stepwire.server.telemetry.tracing import CARRIER, carrier_of, enabled

_IDENTITIES = ("x509_subject_alternative_name", "x509_common_name")

Metadata = Iterable[tuple[str, str | bytes]]

Caller = tuple[Principal | None, str | None]
"""`(caller, authorization)`; caller is None when only the TLS certificate identifies it."""
_NOBODY: Final[Caller] = (ANONYMOUS, None)
_CALLER: ContextVar[Caller] = ContextVar("stepwire_caller", default=_NOBODY)
_HOP: ContextVar[Any] = ContextVar("stepwire_hop", default=None)
"""What the replica says that passes the call on; None for a call of a client."""
_REFUSAL: ContextVar[Exception | None] = ContextVar("stepwire_refusal", default=None)
"""Set by `Gatekeeper.service` for the handler, which runs in the same task."""


class HopReader(Protocol):
    """What the gate needs of the other replicas."""

    @property
    def internal(self) -> str:
        """What the names of methods for other replicas begin with."""

    def verify(self, metadata: Metadata, method: str) -> Any:
        """Return what another replica says of a call that it passes on (`identities`); None for a client's call."""

    def check_addressee(self, metadata: Metadata, *, signed: bool) -> None:
        """Raise WrongReplicaError if a call that another replica passes on is for a third one, or not signed."""

    def around(self, handler: Any, method: str) -> Any:
        """Return a handler that passes calls on to other replicas where need be."""


class Wrapped(NamedTuple):
    """The admitting handler around a method's own, the handler that refuses calls, and what the method needs."""

    admitted: Handler
    refused: Handler
    rule: Rule


class Gatekeeper(grpc.GenericRpcHandler):
    """Admit calls, and turn what handlers raise, and messages that cannot be parsed, into statuses.

    The checks come in this order: who calls, may they call this method, are too many calls under way, is the message
    too long, is it valid protobuf, is what it carries too big or too deep, may the caller do this with this workflow.
    No message is received from a caller without a good credential for the method.

    It is the only handler that a server gets, and stands before those of the services. An interceptor would cost each
    call several more coroutines. Handlers of streams may also yield messages that are serialized already.
    """

    def __init__(self, handlers: Handlers, calls: Calls, gate: Gate, hops: HopReader | None = None) -> None:
        """Stand before the handlers of a server.

        Args:
            handlers: The handlers of its services.
            calls: The calls under way.
            gate: Admits requests.
            hops: Reads what other replicas say of calls that they pass on, and passes calls on; None without any.
        """
        self._handlers = handlers
        self._calls = calls
        self._gate = gate
        self._audit = gate.audit
        self._hops = hops
        self._wrapped: dict[str, Wrapped] = {}
        self._spans = enabled()

    @property
    def authenticates(self) -> bool:
        """Whether callers must say who they are."""
        return self._calls.authenticator is not None

    @property
    def metrics(self) -> Metrics:
        """Where calls and refusals are counted."""
        return self._calls.metrics

    @property
    def refuses(self) -> bool:
        """Whether the last `service` of this task has returned a handler that refuses the call."""
        return _REFUSAL.get() is not None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the wrapped handler of a method, or one that refuses the call without receiving a message.

        gRPC calls this in the call's own task, and then the handler: both see the context variables that are set here.
        """
        method = str(handler_call_details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = self._handlers.service(handler_call_details)
            if handler is None or (self._hops is not None and method.startswith(self._hops.internal)):
                return handler  # what is internal looks at the signature of the calling replica by itself
            wrapped = self._wrapped[method] = self._wrap(handler, method)
        metadata: Metadata = handler_call_details.invocation_metadata or ()
        # A request that came behind another one on its connection begins with what that one left. To set a variable
        # takes longer than to look at it.
        if _CALLER.get() is not _NOBODY:
            _CALLER.set(_NOBODY)
        if not self._spans and ((carrier := carrier_of(metadata)) or CARRIER.get()):  # spans set it themselves
            CARRIER.set(carrier)
        if self._hops is not None:
            _HOP.set(self._hops.verify(metadata, method))
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
        _CALLER.set((caller, authorization))  # a refusal is recorded under its name
        permit_method(caller, rule.action)
        return caller, authorization

    def _wrap(self, handler: Any, method: str) -> Wrapped:
        admission = self._gate.of(method)
        # Messages arrive as bytes: the caller is known before any of them is parsed.
        parse, serialize = parser(handler.request_deserializer), passing(handler.response_serializer)
        if self._hops is None and not handler.response_streaming:
            serialize = handler.response_serializer  # nothing gives it bytes
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
            unary = handler.unary_unary if self._hops is None else self._hops.around(handler.unary_unary, method)
            admitted = traced(self._unary(unary, admission, method, parse), method)
            outer = grpc.unary_unary_rpc_method_handler(admitted, None, serialize)
        return Wrapped(outer, self._refusing(method), admission.rule)

    def _refusing(self, method: str) -> Handler:
        counted = self._calls.metrics.rpc(method)

        # A handler of a request stream, whatever the method has: gRPC receives no message before it is asked to.
        async def refuse(requests: Any, context: Context) -> None:
            began, error = perf_counter(), _REFUSAL.get()
            assert error is not None
            refusal = status_of(error, method, self._calls.metrics)
            if self._audit is not None and (self._hops is None or _HOP.get() is None):  # of a hop the caller's replica
                self._audit.refused(method, _CALLER.get()[0] or ANONYMOUS, *address_of(context), refusal)
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
            WrongReplicaError: It was passed on for another replica, or by one with another key.
        """
        calls = self._calls
        caller, authorization = _CALLER.get()
        hop = _HOP.get() if self._hops is not None else None
        if self._hops is not None:
            self._hops.check_addressee(context.invocation_metadata() or (), signed=hop is not None)
        identities: Sequence[str] = ()
        if caller is None:
            assert calls.authenticator is not None
            identities = _identities(context) if hop is None else hop.identities
            caller = calls.authenticator.authenticate(None, identities)
            permit_method(caller, rule.action)
        usage = calls.usage(caller) if rule.metered else None
        if hop is not None and usage is not None:
            usage = Usage(0)  # the caller was charged by the replica that passes the call on
        call = Call(method, rule.kind, caller, calls.limits, usage, authorization, identities, hop is not None)
        CALL.set(call)
        if self._audit is not None:
            call.address, call.via = address_of(context)
        ending.enter(call)
        return call

    def _unary(self, handler: Any, admission: Admission, method: str, parse: Parse) -> Any:
        calls, rule, counted = self._calls, admission.rule, self._calls.metrics.rpc(method)
        held, audited = rule.kind != "unary", self._audit if rule.changes else None

        async def handle(data: bytes, context: Context) -> Any:
            if failpoints.ACTIVE:
                context.add_done_callback(lambda _: failpoints.hit("ack.after"))  # type: ignore[arg-type]
            with Ending(calls, method, counted, context) as ending:
                call = self._begin(ending, method, rule, context)
                call.limits.check_message(len(data))
                if held:
                    call.limits.check_held(call.kind, len(data))
                if admission.plain:
                    call.limits.check_plain(len(data))
                if audited is not None:
                    ending.entry = audited.of(call, method, None)
                request = call.request = parse(data)
                if audited is not None:
                    ending.entry = audited.of(call, method, request)
                if method == START and request.HasField("wait"):
                    ending.leave()
                    call.kind = "wait"
                    ending.enter(call)
                if (pending := admission.admit(call, request)) is not None:
                    await pending
                if ending.entry is not None and ending.entry.unknown:
                    await ending.entry.complete()
                answer = await handler(request, context)
                if audited is not None:
                    ending.answer = answer
                return answer
            aborting = abort(context, ending.refusal)
            # gRPC keeps the exception that ends a call, with its traceback. A frame that still held the context would
            # close a circle, and the message would stay in memory until the garbage collector runs.
            del context, data, ending
            await aborting

        return handle

    def _stream(self, handler: Any, admission: Admission, method: str, receive: Receive) -> Any:
        calls, rule, counted = self._calls, admission.rule, self._calls.metrics.rpc(method)
        generates = not inspect.iscoroutinefunction(handler)  # else it writes by itself
        audited = self._audit if rule.changes else None

        # A coroutine that writes, not a generator, so that a stalled write can be ended from here.
        async def handle(data: Any, context: Context) -> None:
            with Ending(calls, method, counted, context) as ending:
                call = self._begin(ending, method, rule, context)
                request = await receive(call, data)
                if audited is not None:
                    ending.entry = audited.of(call, method, request)
                if not generates:
                    await handler(request, context)
                    return
                time = asyncio.get_running_loop().time
                async with aclosing(handler(request, context)) as responses:
                    async for response in responses:
                        call.since = time()
                        await context.write(response)
                        call.since = 0.0
                        del response  # the last message of a silent stream would stay in memory
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
