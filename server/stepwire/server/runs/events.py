"""Events of a run: send, publish, wait, follow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from stepwire.server.principal import Principal
from stepwire.server.registry import Served
from stepwire.server.runs.errors import (
    EventNotAcceptedError,
    InvalidError,
    LimitError,
    RequestIdReusedError,
    RunBlockedError,
    RunFinishedError,
    StepNotFoundError,
    StoreDownError,
    UnknownEventTypeError,
    Violation,
)
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.log.chunks import portions
from stepwire.server.runs.log.feed import Feed, check_cursor
from stepwire.server.runs.payloads import digest, parse_event, readable
from stepwire.server.runs.requests import check_request_id
from stepwire.server.store import TERMINAL, Chunk, RequestRecord, RunKey
from stepwire.workflow import errors as engine
from stepwire.workflow.hosting import RECEIVED, LogEntry, Receipt, default_waiter_id

_PROMPT = "prompt\x00"
"""Before a waiter_id: the request_id under which its prompt counts as written. No client's can begin so."""


_LONGEST_ID = 128
"""Characters of a waiter_id; one that is made of requirements may have more."""


class Found(NamedTuple):
    """What an observer's wait came to; `sequence` is how far the log was looked at."""

    entry: LogEntry | None
    sequence: int
    timed_out: bool
    run_ended: bool


class RunEvents:
    """Send events to runs and read their logs."""

    def __init__(self, pool: RunPool) -> None:
        self._pool = pool

    # -- sending --------------------------------------------------------------------------------------------------

    async def send(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, step: str = "", request_id: str = ""
    ) -> Receipt:
        """Send an event to the run's steps and waiters, or to one step; return once it is durable."""
        fingerprint = _fingerprint("send", type_name, data, step) if request_id else ""
        return await self._once(caller, run_id, request_id, fingerprint, _Send(type_name, data, step))

    async def publish(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, request_id: str = ""
    ) -> Receipt:
        """Write an event to the run's stream; return once it is durable."""
        fingerprint = _fingerprint("publish", type_name, data, "") if request_id else ""
        return await self._once(caller, run_id, request_id, fingerprint, _Publish(type_name, data))

    async def _once(
        self, caller: Principal, run_id: str, request_id: str, fingerprint: str, action: _Send | _Publish
    ) -> Receipt:
        if violations := check_request_id(request_id):
            raise InvalidError("INVALID_REQUEST", "The request is not valid", violations)
        try:
            run = await self._pool.live(caller, run_id)
        except RunFinishedError:
            if request_id and (known := await self.answered(caller.key(run_id), request_id, fingerprint)):
                return Receipt(known["sequence"], known["delivered"])
            raise
        if request_id and (record := run.answered.get(request_id)) is not None:
            response = same(record, fingerprint)
            await run.committed()
            return Receipt(response["sequence"], response["delivered"])
        self._check_room(run)
        receipt = action.apply(run)
        if request_id:
            response = {"sequence": receipt.sequence, "delivered": receipt.delivered}
            run.remember(RequestRecord(request_id, fingerprint, response, run.broker.clock.now()))
        run.act()
        await run.committed()
        return receipt

    def _check_room(self, run: LiveRun) -> None:
        """Refuse an event for a run that has too much to do, or too long a log. LimitError."""
        limits, broker = self._pool.limits, run.broker
        if len(broker.deliveries) >= limits.queued_events:
            message = f"A run may have at most {limits.queued_events} events to work on"
            raise LimitError(message, limit="queued_events", retry_after=1.0)
        if broker.sequence - run.record.first_available + 1 >= limits.log_entries:
            raise LimitError(f"The log of a run may have at most {limits.log_entries} entries", limit="log_entries")

    async def answered(self, key: RunKey, request_id: str, fingerprint: str) -> dict[str, Any] | None:
        """Return the answer that a run, ended since, gave to a request."""
        run = self._pool.in_memory(key)
        if run is not None and (found := run.answered.get(request_id)) is not None:
            response = same(found, fingerprint)
            await run.committed()  # it has ended, but its last commit may be under way
            return response
        for record in await self._pool.store.requests(key):
            if record.request_id == request_id:
                return same(record, fingerprint)
        return None

    # -- waiting --------------------------------------------------------------------------------------------------

    async def wait_for(
        self,
        caller: Principal,
        run_id: str,
        type_name: str,
        requirements: dict[str, Any],
        prompt: tuple[str, bytes] | None,
        waiter_id: str,
        after: int | None,
        timeout: float | None,
    ) -> Found:
        """Observe the log for the first event of a type with the required fields; it is not consumed.

        The prompt is written once for each waiter_id.
        """
        if len(waiter_id) > _LONGEST_ID:
            violation = Violation("waiter_id", f"must be at most {_LONGEST_ID} characters")
            raise InvalidError("INVALID_REQUEST", "The request is not valid", [violation])
        pool = self._pool
        record = await pool.get(caller, run_id)
        served = pool.registry.get(record.workflow)
        if served is not None and type_name not in served.names.events():
            raise UnknownEventTypeError(
                "The workflow has no event type of this name", workflow=served.name, type=type_name[:128]
            )
        if after is not None:
            check_cursor(record, after)
        run = pool.in_memory(record.key)
        last = run.broker.sequence if run is not None else record.last_sequence
        start = last if after is None else after
        if prompt is not None and record.status not in TERMINAL:
            await self._prompt_once(caller, run_id, served, type_name, requirements, prompt, waiter_id)
        position = start
        feed = await pool.feeds.open(record.key)
        try:
            if after is None:
                await self._reach(record.key, feed, start)
            # What is there already is looked at whatever the timeout.
            for follow in (False, True):
                async with asyncio.timeout(timeout if follow else None):
                    async for chunks in pool.feeds.read(record.key, feed, position, follow=follow):
                        for number, portion in enumerate(portions(chunks)):
                            if number:
                                await asyncio.sleep(0)
                            for entry in self.entries(portion, position):
                                if entry.type == type_name and _matches(entry, requirements):
                                    return Found(entry, entry.sequence, False, False)
                            position = portion[-1].last
            return Found(None, position, False, True)
        except TimeoutError:
            return Found(None, position, True, False)
        finally:
            pool.feeds.close(record.key, feed)

    async def _reach(self, key: RunKey, feed: Feed, sequence: int) -> None:
        """Wait until the log is durable up to a sequence that the live run has given out already."""
        while self._pool.feeds.record(key, feed).last_sequence < sequence:
            await feed.changed()

    async def _prompt_once(
        self,
        caller: Principal,
        run_id: str,
        served: Served | None,
        type_name: str,
        requirements: dict[str, Any],
        prompt: tuple[str, bytes],
        waiter_id: str,
    ) -> None:
        if served is None:
            raise RunBlockedError("The run's workflow is not served here", run_id=run_id)
        waiter_id = waiter_id or default_waiter_id(served.names.events()[type_name], requirements)
        try:
            run = await self._pool.live(caller, run_id)
        except RunFinishedError:
            return  # nobody is left to answer; the log tells that the run has ended
        key = _PROMPT + (waiter_id if len(waiter_id) <= _LONGEST_ID else digest(waiter_id))
        if key not in run.answered:
            self._check_room(run)
            receipt = _Publish(*prompt).apply(run)
            response = {"sequence": receipt.sequence, "delivered": 0}
            run.remember(RequestRecord(key, "", response, run.broker.clock.now()))
            run.act()
        await run.committed()

    # -- following ------------------------------------------------------------------------------------------------

    async def follow(
        self, caller: Principal, run_id: str, after: int, *, follow: bool = True
    ) -> AsyncIterator[list[Chunk]]:
        """Give the log of a run from sequence `after + 1` on, as contiguous chunks."""
        await self._pool.check_seen(caller, run_id)
        key = caller.key(run_id)
        feed = await self.open(key)
        try:
            async for chunks in self._pool.feeds.read(key, feed, after, follow=follow):
                yield chunks
        finally:
            self._pool.feeds.close(key, feed)

    async def open(self, key: RunKey) -> Feed:
        """Open the feed of a run; close it with `RunPool.feeds.close`."""
        return await self._pool.feeds.open(key)

    def entries(self, chunks: list[Chunk], after: int, *, internal: bool = True) -> list[LogEntry]:
        """Decode the entries of chunks beyond `after`, in order."""
        found: list[LogEntry] = []
        codec = self._pool.codec
        for chunk in chunks:
            entries = codec.decode(chunk.public) if chunk.public else []
            if internal and chunk.internal:
                entries = sorted(entries + codec.decode(chunk.internal), key=lambda entry: entry.sequence)
            found += entries
        if found and found[0].sequence <= after:
            found = [entry for entry in found if entry.sequence > after]
        return found


class _Send(NamedTuple):
    type_name: str
    data: bytes
    step: str

    def apply(self, run: LiveRun) -> Receipt:
        event = parse_event(run.served, self.type_name, self.data)
        try:
            return run.broker.accept(event, self.step or None, kind=RECEIVED)
        except (engine.WorkflowError, ValueError) as error:
            raise _translated(error, run, self.step, self.type_name) from error


class _Publish(NamedTuple):
    type_name: str
    data: bytes

    def apply(self, run: LiveRun) -> Receipt:
        event = parse_event(run.served, self.type_name, self.data)
        try:
            return run.broker.write(event)
        except (engine.WorkflowError, ValueError) as error:
            raise _translated(error, run, "", self.type_name) from error


def _translated(error: Exception, run: LiveRun, step: str, type_name: str) -> Exception:
    workflow = run.served.name
    if isinstance(error, engine.UnknownStepError):
        return StepNotFoundError("The workflow has no such step", workflow=workflow, step=step[:128])
    if isinstance(error, engine.StepDoesNotAcceptError):
        return EventNotAcceptedError(
            "The step does not accept events of this type", workflow=workflow, step=step, type=type_name
        )
    if isinstance(error, engine.RunEndedError):
        if run.broker.frozen:
            # It left memory between the look-up and now; a repeat loads it again.
            return StoreDownError("The run is not in memory any more; retry")
        return RunFinishedError("The run has ended", run_id=run.key.run_id)
    if isinstance(error, engine.SerializationError):
        violations = [Violation(key, "cannot be saved") for key in error.keys]
        return InvalidError("INVALID_EVENT", "The event cannot be saved", violations)
    return error


def same(record: RequestRecord, fingerprint: str) -> dict[str, Any]:
    """Return the first answer; RequestIdReusedError when the request is another one."""
    if record.digest != fingerprint:
        raise RequestIdReusedError("This request_id came before with another request")
    return record.response


def _fingerprint(method: str, type_name: str, data: bytes, step: str) -> str:
    return digest(method, type_name, readable(data), step)


def _matches(entry: LogEntry, requirements: dict[str, Any]) -> bool:
    if not requirements:
        return True
    fields = json.loads(entry.data)
    return all(name in fields and fields[name] == value for name, value in requirements.items())


__all__ = ["Found", "RunEvents", "same"]
