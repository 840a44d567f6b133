"""Send events to runs, and publish events to their streams."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import (
    EventNotAcceptedError,
    InvalidError,
    LimitError,
    RunFinishedError,
    StepNotFoundError,
    StoreDownError,
    Violation,
)
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.idempotency import Fingerprint, Repeats
from stepwire.server.runs.limits import RunLimits, check_length, refuse
from stepwire.server.runs.payloads import parse_event
from stepwire.server.store import RequestRecord, RunKey
from stepwire.workflow.hosting import (
    RECEIVED,
    EventTooLargeError,
    Receipt,
    Received,
    RunEndedError,
    SerializationError,
    StepDoesNotAcceptError,
    UnknownStepError,
    WorkflowError,
)

__all__ = ["RunEvents", "check_room", "take_event"]


class RunEvents:
    """Send and publish events, each request once."""

    def __init__(self, pool: RunPool, repeats: Repeats) -> None:
        """Use the runs of a pool; `repeats` finds the answers to requests that come again."""
        self._pool = pool
        self._repeats = repeats

    async def send(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, step: str = "", request_id: str = ""
    ) -> Receipt:
        """Send an event to a run, and return once it is durable.

        Args:
            caller: Who sends it.
            run_id: The run.
            type_name: The type of the event.
            data: Its fields as JSON.
            step: The only step that shall get it; empty for all steps and waiters that take it.
            request_id: A repeat under this id gets the first answer.
        """
        return await self._once(caller, run_id, _Sending("send", type_name, data, step, request_id))

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
            if not request_id or run.answers.get(request_id) is None:
                received = await parse_event(run.served, sending.type_name, sending.data)
                if received.saved is not None:  # that took a while: the run may have left memory
                    run = await self._pool.live(caller, run_id)
            answer = await run.answer(partial(self._take, run, received, sending))
        if isinstance(answer, RequestRecord):
            return await self._repeated(run.key, answer, sending)
        return answer

    def _take(self, run: LiveRun, received: Received | None, sending: _Sending) -> Receipt | RequestRecord | None:
        """Have a run take an event, or return what the run remembers of the same request.

        None if the run remembered the request when the call came, and has forgotten it since.
        """
        request_id = sending.request_id
        if request_id and (known := run.answers.get(request_id)) is not None:
            return known
        if received is None:
            return None
        check_room(run, self._pool.limits)
        receipt = take_event(run, received, sending.method, sending.step)
        if request_id:
            response = {"sequence": receipt.sequence, "delivered": receipt.delivered}
            run.remember(RequestRecord(request_id, sending.fingerprint().text, response, run.broker.clock.now()))
        run.act()
        return receipt

    async def _repeated(self, key: RunKey, known: RequestRecord, sending: _Sending) -> Receipt:
        """Return the first answer to a request. Raises RequestIdReusedError if that request was another one."""
        record = await self._pool.find(key)
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


def check_room(run: LiveRun, limits: RunLimits) -> None:
    """Refuse an event for a run that has too much to do, or too long a log.

    Raises:
        LimitError: The limit queued_events or log_entries is reached.
    """
    broker = run.broker
    if len(broker.deliveries) >= limits.queued_events:
        message = f"A run may have at most {limits.queued_events} events to work on"
        raise LimitError(message, limit="queued_events", retry_after=1.0)
    if broker.sequence - run.record.first_available + 1 >= limits.log_entries:
        raise LimitError(f"The log of a run may have at most {limits.log_entries} entries", limit="log_entries")


def take_event(run: LiveRun, received: Received, method: str, step: str = "") -> Receipt:
    """Have the broker of a run accept (`send`) or write (`publish`) an event, its errors translated.

    Raises:
        StepNotFoundError: The workflow has no such step.
        EventNotAcceptedError: The step does not take events of this type.
        RunFinishedError: The run has ended.
        StoreDownError: The run has left memory since it was looked up.
        InvalidError: INVALID_EVENT: the event cannot be saved.
    """
    event = received.event
    run.take_in(received)
    try:
        if method == "send":
            return run.broker.accept(event, step or None, kind=RECEIVED)
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
            # It left memory between the look-up and now; a repeat loads it again.
            return StoreDownError("The run is not in memory any more; retry")
        return RunFinishedError("The run has ended", run_id=run.key.run_id)
    if isinstance(error, EventTooLargeError):
        return LimitError(f"An event may have at most {error.largest} bytes", limit="entry_bytes")
    if isinstance(error, SerializationError):
        violations = [Violation(key, "cannot be saved") for key in error.keys]
        return InvalidError("INVALID_EVENT", "The event cannot be saved", violations)
    return error
