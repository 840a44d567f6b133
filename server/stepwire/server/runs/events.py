"""Send events to runs, and publish events to their streams."""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple, Protocol

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import (
    EventNotAcceptedError,
    LimitError,
    PermissionDeniedError,
    RunFinishedError,
    RunLeftError,
    StepNotFoundError,
)
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.idempotency import Fingerprint, Repeats
from stepwire.server.runs.limits import RunLimits, check_length, refuse
from stepwire.server.runs.payloads import parse_event, unsaved
from stepwire.server.scopes import ANSWER, WRITE
from stepwire.server.store import RequestRecord, RunKey
from stepwire.workflow.hosting import (
    RECEIVED,
    Receipt,
    Received,
    RunEndedError,
    SerializationError,
    StepDoesNotAcceptError,
    UnknownStepError,
    WorkflowError,
)

__all__ = ["RelayedReceipt", "RunEvents", "check_room", "take_event"]


_RELAYED: Final = "stepwire-relayed/"
"""Before the request_id of an event that was sent on to a descendant."""


class RelayedReceipt(Protocol):
    """What became of an event that was sent on to a descendant."""

    @property
    def sequence(self) -> int:
        """Its sequence in the log of that run."""

    @property
    def delivered(self) -> int:
        """How many deliveries and waiters of that run took it."""

    @property
    def child(self) -> str:
        """The run."""


class Relay(Protocol):
    """Sends answers on to the descendants that ask."""

    async def find(self, caller: Principal, parent: RunKey, type_name: str, data: bytes) -> str:
        """Return the descendant whose open question an event answers; empty if none does."""

    async def answer(
        self, caller: Principal, child: str, type_name: str, data: bytes, request_id: str
    ) -> RelayedReceipt:
        """Send an event to a descendant."""


class RunEvents:
    """Send and publish events, each request once."""

    def __init__(self, pool: RunPool, repeats: Repeats) -> None:
        """Use the runs of a pool; `repeats` finds the answers to requests that come again."""
        self._pool = pool
        self._repeats = repeats
        self.relay: Relay | None = None
        """Sends answers on to the descendants that ask; None if runs have none."""

    async def send(
        self,
        caller: Principal,
        run_id: str,
        type_name: str,
        data: bytes,
        step: str = "",
        request_id: str = "",
        *,
        relayed: bool = True,
    ) -> Receipt | RelayedReceipt:
        """Send an event to a run, and return once it is durable.

        An event that only an open question of a descendant takes goes to that run.

        Args:
            caller: Who sends it.
            run_id: The run.
            type_name: The type of the event.
            data: Its fields as JSON.
            step: The only step that shall get it; empty for all steps and waiters that take it.
            request_id: A repeat under this id gets the first answer.
            relayed: Whether it may go to a descendant.
        """
        refuse(check_length("request_id", request_id))
        sending = _Sending("send", type_name, data, step, request_id)
        if self.relay is not None and relayed and not step:
            child = await self._child_for(caller, run_id, sending)
            if child:
                return await self.relay.answer(caller, child, type_name, data, request_id)
        return await self._once(caller, run_id, sending)

    async def _child_for(self, caller: Principal, run_id: str, sending: _Sending) -> str:
        """Return the descendant that an event is for; empty if the run itself takes it, or nobody does.

        The run remembers it under the request_id, durably, before it is sent there: so a repeat goes the same way.
        """
        assert self.relay is not None
        key, request_id = caller.key(run_id), sending.request_id
        marker = f"{_RELAYED}{request_id}" if request_id else ""
        try:
            run = await self._pool.live(caller, run_id)
        except RunFinishedError:
            if not request_id:
                raise
            if (known := await self._repeats.of_ended_run(key, marker)) is not None:
                return await self._remembered(caller, known)
            if await self._repeats.of_ended_run(key, request_id) is None:
                raise
            return ""
        if marker and (known := run.commits.answers.get(marker)) is not None:
            await run.commits.wait()
            return await self._remembered(caller, known)
        children = run.broker.made_children
        if children is None or not children.living or (request_id and run.commits.answers.get(request_id) is not None):
            return ""
        served = run.served
        cls = served.names.events().get(served.names.current(sending.type_name))
        if cls is not None:
            if run.broker.routing.targets(cls):
                return ""
            received = await parse_event(served, sending.type_name, sending.data)
            if run.broker.waits.matching(received.event):
                return ""
        child = await self.relay.find(caller, key, sending.type_name, sending.data)
        if child and marker:
            run = await self._pool.live(caller, run_id)
            record = RequestRecord(marker, sending.fingerprint().text, {"child": child}, run.broker.clock.now())
            await run.commits.answer(lambda: run.commits.remember(record))
        return child

    async def _remembered(self, caller: Principal, known: RequestRecord) -> str:
        """Return the descendant that an earlier event was sent on to; empty if the caller may not answer there."""
        child = str(known.response["child"])
        record = await self._pool.records.find(caller.key(child))
        return child if record is None or caller.scopes.allow(ANSWER, record.workflow) else ""

    async def publish(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, request_id: str = ""
    ) -> Receipt:
        """Write an event to the stream of a run, and return once it is durable. The arguments are those of `send`."""
        return await self._once(caller, run_id, _Sending("publish", type_name, data, "", request_id))

    async def _once(self, caller: Principal, run_id: str, sending: _Sending) -> Receipt:
        """Have a run take an event, or return the first answer if the request is a repeat."""
        request_id = sending.request_id
        if request_id:
            refuse(check_length("request_id", request_id))
        try:
            run = await self._pool.live(caller, run_id)
        except RunFinishedError:
            if request_id:
                key = caller.key(run_id)
                if (known := await self._repeats.of_ended_run(key, request_id)) is not None:
                    return await self._repeated(key, known, sending)
            raise
        answer: Receipt | RequestRecord | None = None
        while answer is None:
            received = None
            if not request_id or run.commits.answers.get(request_id) is None:
                received = await parse_event(run.served, sending.type_name, sending.data)
                if received.saved is not None:  # that took a while: the run may have left memory
                    run = await self._pool.live(caller, run_id)
            answer = await run.commits.answer(partial(self._take, caller, run, received, sending))
        if isinstance(answer, RequestRecord):
            return await self._repeated(run.key, answer, sending)
        return answer

    def _take(
        self, caller: Principal, run: LiveRun, received: Received | None, sending: _Sending
    ) -> Receipt | RequestRecord | None:
        """Have a run take an event, or return what the run remembers of the same request.

        None if the run remembered the request when the call came, and has forgotten it since.
        """
        request_id = sending.request_id
        if request_id and (known := run.commits.answers.get(request_id)) is not None:
            return known
        if received is None:
            return None
        if not caller.scopes.allow(WRITE, run.served.name):
            _check_answers(run, received, sending)
        check_room(run, self._pool.limits)
        receipt = take_event(run, received, sending.method, sending.step)
        if request_id:
            response = {"sequence": receipt.sequence, "delivered": receipt.delivered}
            run.commits.remember(
                RequestRecord(request_id, sending.fingerprint().text, response, run.broker.clock.now())
            )
        run.act()
        return receipt

    async def _repeated(self, key: RunKey, known: RequestRecord, sending: _Sending) -> Receipt:
        """Return the first answer to a request. Raises RequestIdReusedError if that request was another one."""
        record = await self._pool.records.find(key)
        served = None if record is None else self._pool.registry.get(record.workflow)
        event = None if served is None else partial(parse_event, served, sending.type_name, sending.data)
        response = await self._repeats.response(key, known, sending.fingerprint(), event)
        return Receipt(response["sequence"], response["delivered"])


class _Sending(NamedTuple):
    """An event on its way to a run; `method` is send or publish."""

    method: str
    type_name: str
    data: bytes
    step: str
    request_id: str

    def fingerprint(self) -> Fingerprint:
        return Fingerprint((self.method, self.type_name), self.data, (self.step,))


def _check_answers(run: LiveRun, received: Received, sending: _Sending) -> None:
    """Refuse what a caller that may only answer questions sends, unless it answers one that is open now.

    Raises:
        PermissionDeniedError: It answers none.
        RunFinishedError, StoreDownError: As `take_event`.
    """
    if run.broker.outcome is not None or run.broker.frozen or run.broker.answers(received.event, sending.step or None):
        return
    message = "No question of the run is open that this event answers: to send other events needs the scope write"
    raise PermissionDeniedError(message, needs=WRITE, scope=WRITE, workflow=run.served.name)


def check_room(run: LiveRun, limits: RunLimits) -> None:
    """Refuse an event for a run that has too much to do, or too long a log.

    Raises:
        LimitError: The limit queued_events or log_entries is reached.
    """
    broker = run.broker
    if len(broker.deliveries) >= limits.queued_events:
        message = f"A run may have at most {limits.queued_events} events to work on (max_queued_events)"
        raise LimitError(message, limit="queued_events", retry_after=1.0)
    if broker.sequence - run.record.first_available + 1 >= limits.log_entries:
        message = f"The log of a run may have at most {limits.log_entries} entries (max_log_entries)"
        raise LimitError(message, limit="log_entries")


def take_event(run: LiveRun, received: Received, method: str, step: str = "") -> Receipt:
    """Have the broker of a run accept (`send`) or write (`publish`) an event, its errors translated.

    Raises:
        StepNotFoundError: The workflow has no such step.
        EventNotAcceptedError: The step does not take events of this type.
        RunFinishedError: The run has ended.
        RunLeftError: The run has left memory since it was looked up.
        InvalidError: INVALID_EVENT: the event cannot be saved.
    """
    event = received.event
    run.take_in(received)
    try:
        if method == "send":
            return run.broker.accept(event, step or None, kind=RECEIVED, sole=True)
        return run.broker.write(event)
    except (WorkflowError, ValueError) as error:
        raise _translated(error, run, step, type(event).__name__) from error


def _translated(error: Exception, run: LiveRun, step: str, type_name: str) -> Exception:
    workflow = run.served.name
    if isinstance(error, UnknownStepError):
        return StepNotFoundError("The workflow has no such step", workflow=workflow, step=step[:128])
    if isinstance(error, StepDoesNotAcceptError):
        return EventNotAcceptedError(
            "The step does not accept events of this type", workflow=workflow, step=step, type=type_name
        )
    if isinstance(error, RunEndedError):
        if run.broker.frozen:
            return RunLeftError()
        return RunFinishedError("The run has ended", run_id=run.key.run_id)
    if isinstance(error, SerializationError):
        return unsaved(error, "INVALID_EVENT", "The event")
    return error
