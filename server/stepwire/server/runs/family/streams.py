"""The stream of a child, as its parent's step reads it: typed events, from wherever the child runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from pydantic import ValidationError

from stepwire.server.registry import Served
from stepwire.server.runs.errors import DrainingError, RunNotFoundError, RunsError, SequenceOutOfRangeError
from stepwire.server.runs.family.backoff import Backoff, may_pass
from stepwire.server.runs.family.start_news import StartNews
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.log.chunks import portions
from stepwire.server.store import Chunk, RunKey, StoreError
from stepwire.workflow.hosting import (
    Child,
    ChildRunError,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    LogEntry,
    SerializationError,
    StartEvent,
    StopEvent,
    UnknownTypeError,
    event_from_json,
    logged_event,
    role_of,
)

__all__ = ["child_events"]

_BASES: Final = {
    role_of(base).number: base for base in (Event, StartEvent, StopEvent, InputRequiredEvent, HumanResponseEvent)
}
"""What an event is read as that no class here fits, by its role."""


async def child_events(pool: RunPool, parent: RunKey, child: Child, start_news: StartNews) -> AsyncIterator[Event]:
    """Give the public events of a child, from its beginning to its end, as they come.

    An event of a class that neither the child's workflow nor the parent's knows here is one of the base class of its
    role, with its fields: the child may run at another replica, under other code.

    Args:
        pool: The runs.
        parent: The parent.
        child: What its parent knows of it.
        start_news: Tells when it is started, or will not be.

    Raises:
        ChildRunError: Its log is damaged.
    """
    key = RunKey(parent.namespace, child.run_id)
    above = pool.in_memory(parent)
    names = (child.call.workflow, "" if above is None else above.served.name)
    known = [served for name in names if (served := pool.registry.get(name)) is not None]
    backoff = Backoff("its stream cannot be read yet", key.run_id)
    after = 0
    while True:
        try:
            async for chunks in _chunks(pool, key, after):
                for number, portion in enumerate(portions(chunks)):
                    if number:
                        await asyncio.sleep(0)  # decoding must not starve the event loop
                    for entry in _entries(pool, portion, after):
                        yield _event_of(known, entry)
                        after = entry.sequence
                after = chunks[-1].last
            return
        except RunNotFoundError:
            if after or child.state not in ("queued", "starting"):
                return
            await start_news.wait(key, child)
        except SequenceOutOfRangeError as error:
            after = max(after, int(error.facts["first_available"]) - 1)  # it was trimmed: go on where it begins
        except DrainingError:
            await asyncio.get_running_loop().create_future()  # the step ends with the server, and begins again
        except (StoreError, RunsError) as error:
            if not may_pass(error):
                raise ChildRunError(f"the stream of run {key.run_id} of {child.call.workflow} is damaged") from error
            await backoff.after(error)


async def _chunks(pool: RunPool, key: RunKey, after: int) -> AsyncIterator[list[Chunk]]:
    """Follow the log of a run from `after` to its end. Raises RunsError and StoreError."""
    feeds = pool.feeds
    feed = await feeds.open(key)
    try:
        async for chunks in feeds.read(key, feed, max(after, feeds.record(key, feed).first_available - 1)):
            yield chunks
    finally:
        feeds.close(key, feed)


def _entries(pool: RunPool, chunks: Sequence[Chunk], after: int) -> list[LogEntry]:
    found = [entry for chunk in chunks if chunk.public for entry in pool.codec.decode(chunk.public)]
    return [entry for entry in found if entry.sequence > after]


def _event_of(known: Sequence[Served], entry: LogEntry) -> Event:
    """Return the event of an entry, by the first of the workflows whose class fits."""
    for served in known:
        try:
            cls = served.names.lookup(served.names.current(entry.type))
            if issubclass(cls, Event):
                return logged_event(cls, entry.data)
        except (UnknownTypeError, ValidationError, SerializationError):  # of other code than this
            continue
    # As the reader knows it: an adopted workflow has its own base classes.
    base, plain = (_base(known, each) for each in (_BASES[entry.role], Event))
    try:
        return event_from_json(base, entry.data)
    except ValidationError:  # a field of it is named much like one of the base class
        return event_from_json(plain, entry.data)


def _base(known: Sequence[Served], base: type[Event]) -> type[Event]:
    return known[-1].names.events()[base.__name__] if known else base
