"""Wait for events as an observer: look through the log of a run, and consume nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from stepwire.server.principal import Principal
from stepwire.server.registry import Served
from stepwire.server.runs.errors import RunBlockedError, RunFinishedError, UnknownEventTypeError, did_you_mean
from stepwire.server.runs.events import check_room, take_event
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.limits import MAX_ID, check_length, refuse
from stepwire.server.runs.log.chunks import EntryCodec, portions
from stepwire.server.runs.log.feed import check_cursor
from stepwire.server.runs.payloads import digest, parse_event
from stepwire.server.store import TERMINAL, Chunk, RequestRecord, RunRecord
from stepwire.workflow.hosting import LogEntry, Received, default_waiter_id, start_task, waiter_id_of, wire_names

__all__ = ["EventQuery", "EventWaits", "Found"]

_PROMPT = "prompt\x00"
"""Begins the request_id under which a run remembers a prompt. No request_id of a client holds a NUL."""

_PROMPT_SECONDS = 1.0
"""Time that a prompt has at least to be committed: a wait of no length shall write it, too."""


class EventQuery(NamedTuple):
    """What a caller waits for.

    Attributes:
        type_name: The type of the event.
        requirements: Fields that it must have, with their values.
        after: The sequence after which the log is looked through; None for what is committed from now on.
        timeout: Seconds to wait; None for as long as the run lives. What the log holds is looked at in any case.
        prompt: The type and the JSON of an event that is written to the stream first.
        waiter_id: The prompt is written once for each id; empty for one made of type and requirements.
    """

    type_name: str
    requirements: dict[str, Any]
    after: int | None = None
    timeout: float | None = None
    prompt: tuple[str, bytes] | None = None
    waiter_id: str = ""


class Found(NamedTuple):
    """The event that a wait found, if any; `sequence` is how far the log was looked through."""

    entry: LogEntry | None
    sequence: int
    timed_out: bool
    run_ended: bool


class EventWaits:
    """Wait for events of runs."""

    def __init__(self, pool: RunPool) -> None:
        """Look through the logs of the runs of a pool."""
        self._pool = pool
        self._prompts: set[asyncio.Task[None]] = set()

    async def wait_for(self, caller: Principal, run_id: str, query: EventQuery) -> Found:
        """Return the first event of the log that a query asks for, or why there is none.

        Raises:
            RunNotFoundError: There is no such run.
            UnknownEventTypeError: The workflow has no event type of this name.
            SequenceOutOfRangeError: The log does not hold what follows `after`.
            InvalidError: The prompt, or the waiter_id, is not valid.
        """
        refuse(check_length("waiter_id", query.waiter_id))
        time = asyncio.get_running_loop().time
        end = None if query.timeout is None else time() + query.timeout
        record = await self._pool.records.get(caller, run_id)
        served = self._pool.registry.get(record.workflow)
        if served is not None:
            query = query._replace(type_name=served.names.current(query.type_name))
        if served is not None and query.type_name not in served.names.events():
            raise UnknownEventTypeError(
                f"Workflow {served.name} has no event type of this name: {query.type_name[:128]}"
                f"{did_you_mean(query.type_name, served.names.events())}",
                workflow=served.name,
                type=query.type_name[:128],
            )
        # What is not committed may be lost, and its sequence given to another event: a wait never begins behind it.
        position = record.last_sequence if query.after is None else query.after
        check_cursor(record, position)
        try:
            if query.prompt is not None and record.status not in TERMINAL:
                prompting = await self._prompt(caller, record, served, query)
                async with asyncio.timeout_at(None if end is None else max(end, time() + _PROMPT_SECONDS)):
                    await asyncio.shield(prompting)
        except TimeoutError:
            return Found(None, position, True, False)
        return await self._look(record, query, position, end)

    async def _look(self, record: RunRecord, query: EventQuery, position: int, end: float | None) -> Found:
        """Look through the log from `position` on, until `end`."""
        feeds, codec, key = self._pool.feeds, self._pool.codec, record.key
        served = self._pool.registry.get(record.workflow)
        names = {} if served is None else wire_names(served.names.events()[query.type_name])
        called = {query.type_name, *(() if served is None else served.names.aliases(query.type_name))}
        feed = await feeds.open(key)
        try:
            # What is in the log already is looked at whatever the timeout.
            for follow in (False, True):
                async with asyncio.timeout_at(end if follow else None):
                    async for chunks in feeds.read(key, feed, position, follow=follow):
                        for number, portion in enumerate(portions(chunks)):
                            if number:
                                await asyncio.sleep(0)  # decoding must not starve the event loop
                            for entry in _entries(codec, portion, position):
                                if entry.type in called and _matches(entry, query.requirements, names):
                                    return Found(entry, entry.sequence, False, False)
                            position = portion[-1].last
            return Found(None, position, False, True)
        except TimeoutError:
            return Found(None, position, True, False)
        finally:
            feeds.close(key, feed)

    async def _prompt(
        self, caller: Principal, record: RunRecord, served: Served | None, query: EventQuery
    ) -> asyncio.Task[None]:
        """Write the prompt of a query, unless its waiter_id has one already. The task outlives the call's timeout."""
        if served is None:
            raise RunBlockedError("The run's workflow is not served here", run_id=record.key.run_id)
        assert query.prompt is not None
        received = await parse_event(served, *query.prompt)
        ids = [query.waiter_id] if query.waiter_id else _default_ids(served, query)
        request_ids = [_PROMPT + (each if len(each) <= MAX_ID else digest(each)) for each in ids]
        task = start_task(self._write_once(caller, record.key.run_id, request_ids, received))
        self._prompts.add(task)
        task.add_done_callback(self._prompted)
        return task

    def _prompted(self, task: asyncio.Task[None]) -> None:
        self._prompts.discard(task)
        if not task.cancelled():
            task.exception()  # the call may have timed out before: nobody else asks for it

    async def _write_once(self, caller: Principal, run_id: str, request_ids: list[str], received: Received) -> None:
        """Write a prompt, unless it was written under one of these ids; remember it under the first."""
        try:
            run = await self._pool.live(caller, run_id)
        except RunFinishedError:
            return  # nobody is left to answer; the log says that the run has ended
        await run.commits.answer(lambda: self._write(run, request_ids, received))

    def _write(self, run: LiveRun, request_ids: list[str], received: Received) -> None:
        if all(run.commits.answers.get(each) is None for each in request_ids):
            check_room(run, self._pool.limits)
            receipt = take_event(run, received, "publish")
            response = {"sequence": receipt.sequence, "delivered": 0}
            run.commits.remember(RequestRecord(request_ids[0], "", response, run.broker.clock.now()))
            run.act()


def _default_ids(served: Served, query: EventQuery) -> list[str]:
    """Return what a wait without an id is called, by each name of its event; the last is from earlier versions."""
    names = [query.type_name, *served.names.aliases(query.type_name)]
    by_path = default_waiter_id(served.names.events()[query.type_name], query.requirements)
    return [*(waiter_id_of(name, query.requirements) for name in names), by_path]


def _entries(codec: EntryCodec, chunks: list[Chunk], after: int) -> list[LogEntry]:
    """Decode the entries of chunks that follow `after`, in order, internal ones included."""
    found: list[LogEntry] = []
    for chunk in chunks:
        entries = codec.decode(chunk.public) if chunk.public else []
        if chunk.internal:
            entries = sorted(entries + codec.decode(chunk.internal), key=lambda entry: entry.sequence)
        found += entries
    if found and found[0].sequence <= after:
        found = [entry for entry in found if entry.sequence > after]
    return found


def _matches(entry: LogEntry, requirements: dict[str, Any], names: Mapping[str, str]) -> bool:
    """Return whether an entry's event has the fields that a query requires.

    `names` has the names on the wire of the fields whose own names differ. Entries that an earlier version wrote have
    fields under their own names.
    """
    if not requirements:
        return True
    own = {alias: name for name, alias in names.items()}
    fields = json.loads(entry.data)
    fields = {own.get(name, name): value for name, value in fields.items()}
    wanted = {own.get(name, name): value for name, value in requirements.items()}
    return all(name in fields and fields[name] == value for name, value in wanted.items())
