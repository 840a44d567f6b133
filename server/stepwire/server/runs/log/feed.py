"""Following the log of a run: live chunks from memory, older ones from the store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from stepwire.server.runs.errors import DrainingError, RunNotFoundError, SequenceOutOfRangeError
from stepwire.server.store import TERMINAL, Chunk, Commit, RunKey, RunRecord, RunStore, StoreCorruptError, first_chunks

_RECENT_CHUNKS = 64
_RECENT_BYTES = 2 << 20


class Feed:
    """What the readers of one run share: its last committed record and its newest chunks.

    A reader is a cursor: a slow one costs no queue (S13).
    """

    def __init__(self) -> None:
        self.record: RunRecord | None = None
        self.deleted = False
        self.readers = 0
        self._recent: deque[Chunk] = deque()
        self._bytes = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def push(self, commit: Commit) -> None:
        """Take in a durable commit and wake the readers."""
        self.record = commit.record
        for chunk in commit.chunks:
            if self._recent and self._recent[-1].last + 1 != chunk.first:
                # A commit between was durable although it failed: its entries are in the store alone.
                self._recent.clear()
                self._bytes = 0
            if len(self._recent) == _RECENT_CHUNKS:
                self._bytes -= self._recent.popleft().size
            self._recent.append(chunk)
            self._bytes += chunk.size
        while self._bytes > _RECENT_BYTES and len(self._recent) > 1:
            self._bytes -= self._recent.popleft().size
        self.wake()

    def wake(self) -> None:
        """Have every waiting reader look again."""
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def recent(self, after: int) -> list[Chunk] | None:
        """Return the chunks from sequence `after + 1` on; None when memory does not hold the first of them."""
        if not self._recent or self._recent[0].first > after + 1:
            return None
        return first_chunks(chunk for chunk in self._recent if chunk.last > after) or None

    def changed(self) -> asyncio.Future[None]:
        """Return a future that resolves with the next commit."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        # A reader that waits again and again while nothing is committed leaves nothing behind.
        future.add_done_callback(self._waiting.discard)
        return future


class Feeds:
    """The feeds of the runs that someone reads."""

    def __init__(self, store: RunStore, find: Callable[[RunKey], Awaitable[RunRecord | None]]) -> None:
        self._store = store
        self._find = find
        self._feeds: dict[RunKey, Feed] = {}
        self._closing = False

    def committed(self, commit: Commit) -> None:
        """Take in a durable commit."""
        feed = self._feeds.get(commit.record.key)
        if feed is None:
            return
        known = feed.record
        if commit.claim is None and known is not None and known.created_at != commit.record.created_at:
            self.deleted(commit.record.key)  # what it follows is an older run that had this id
        else:
            feed.push(commit)

    def found(self, record: RunRecord) -> None:
        """Take in the record of a run that is not in memory: the store may be ahead of what was told here."""
        feed = self._feeds.get(record.key)
        if feed is not None and feed.record is not None and feed.record.last_sequence < record.last_sequence:
            feed.record = record
            feed.wake()

    def trimmed(self, key: RunKey, first: int) -> None:
        """Take in that a run's log begins later now: a reader that is behind gets SequenceOutOfRangeError."""
        feed = self._feeds.get(key)
        if feed is not None and feed.record is not None:
            feed.record.first_available = first

    def deleted(self, key: RunKey) -> None:
        """End the reading of a run that is no more; another one may get its id."""
        feed = self._feeds.pop(key, None)
        if feed is not None:
            feed.deleted = True
            feed.wake()

    def end_all(self) -> None:
        """End every reading with DrainingError, which tells where to resume."""
        self._closing = True
        for feed in self._feeds.values():
            feed.wake()

    async def open(self, key: RunKey) -> Feed:
        """Follow a run; `close` it in the end. RunNotFoundError."""
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed()
        feed.readers += 1
        try:
            if feed.record is None:
                # Looked up only now that commits are pushed here: none can fall between.
                found = await self._find(key)
                if feed.record is None:
                    feed.record = found
            if feed.record is None:
                raise RunNotFoundError(key.run_id)
        except BaseException:
            self.close(key, feed)
            raise
        return feed

    def close(self, key: RunKey, feed: Feed) -> None:
        """Stop following."""
        feed.readers -= 1
        if feed.readers == 0 and self._feeds.get(key) is feed:
            del self._feeds[key]

    def record(self, key: RunKey, feed: Feed, after: int = 0) -> RunRecord:
        """Return the run's last committed record. RunNotFoundError when it was deleted, DrainingError."""
        if feed.deleted or feed.record is None:
            raise RunNotFoundError(key.run_id)
        if self._closing:
            raise DrainingError("The server is stopping; resume after this sequence", resume_sequence=after)
        return feed.record

    async def ready(self, key: RunKey, feed: Feed, after: int) -> list[Chunk]:
        """Return what is there from sequence `after + 1` on, contiguous; nothing when the log ends there now.

        The first chunk may begin before `after + 1`. Raises SequenceOutOfRangeError for a cursor outside the log, and
        as `record`.
        """
        record = self.record(key, feed, after)
        check_cursor(record, after)
        if after == record.last_sequence:
            return []
        chunks = feed.recent(after)
        if chunks is None:
            chunks = await self._store.entries(key, after)
            if not chunks or chunks[0].first > after + 1:
                fresh = await self._store.get(key)
                if fresh is None:
                    raise RunNotFoundError(key.run_id)
                check_cursor(fresh, after)  # trimmed at this moment
                raise StoreCorruptError(f"the log of a run has a gap after sequence {after}")
            # The store may be a commit ahead of what this feed has been told.
            chunks = [chunk for chunk in chunks if chunk.last <= record.last_sequence]
        return chunks

    async def read(
        self, key: RunKey, feed: Feed, after: int, *, follow: bool = True, idle: float | None = None
    ) -> AsyncIterator[list[Chunk]]:
        """Give contiguous chunks from sequence `after + 1` on, as much as is ready at a time.

        Ends with the run, or without `follow` at the present end of the log; gives an empty list after each `idle`
        seconds without news. Raises as `ready`.
        """
        end = self.record(key, feed, after).last_sequence
        while True:
            chunks = await self.ready(key, feed, after)
            if chunks:
                after = chunks[-1].last
                yield chunks
            elif not follow or self.record(key, feed, after).status in TERMINAL:
                return
            else:
                if not await self.news(feed, idle):
                    yield []
            if not follow and after >= end:
                return

    async def news(self, feed: Feed, idle: float | None) -> bool:
        """Wait for news; False after `idle` seconds without. Lighter than `wait_for`: many wait here."""
        news: asyncio.Future[Any] = feed.changed()
        if idle is None:
            await news
            return True
        beat = asyncio.get_running_loop().call_later(idle, _no_news, news)
        try:
            return await news is not False
        finally:
            beat.cancel()


def _no_news(news: asyncio.Future[Any]) -> None:
    if not news.done():
        news.set_result(False)


def check_cursor(record: RunRecord, after: int) -> None:
    """Raise SequenceOutOfRangeError unless the log goes on at `after + 1`."""
    if after < record.first_available - 1 or after > record.last_sequence:
        raise SequenceOutOfRangeError(
            "The log does not hold what comes after this sequence", record.first_available, record.last_sequence
        )
