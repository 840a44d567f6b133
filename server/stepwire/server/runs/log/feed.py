"""Follow the logs of runs: the newest chunks from memory, older ones from the store.

Readers see what is committed and nothing else: the pool passes every durable commit to `Feeds.committed`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol

from stepwire.server.runs.errors import DrainingError, RunNotFoundError, SequenceOutOfRangeError
from stepwire.server.store import TERMINAL, Chunk, Commit, RunKey, RunRecord, RunStore, StoreCorruptError, first_chunks

_RECENT_CHUNKS = 64
"""Chunks that a feed keeps. A reader that is further behind reads the store."""

_RECENT_BYTES = 2 << 20
"""Bytes of chunks that a feed keeps, but at least one chunk."""


Follower = Callable[[Commit | None], None]


class Feed:
    """Hold what the readers of one run share: its last committed record and its newest chunks.

    A reader is a cursor into the log, so a slow reader costs no queue (docs/semantics.md#s13).
    """

    def __init__(self) -> None:
        self.record: RunRecord | None = None
        self.deleted = False
        self.end: int | None = None
        """Where the log ends, if the store has lost entries that were read here: then all readers begin anew."""
        self.readers = 0
        self._recent: deque[Chunk] = deque()
        self._bytes = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self.followers: list[Follower] = []
        """Called with each commit, before the readers are woken; with None when the run left this process."""

    def push(self, commit: Commit) -> None:
        """Add the chunks of a durable commit and wake the readers."""
        self.record = commit.record
        for follower in self.followers:
            follower(commit)
        for chunk in commit.chunks:
            if self._recent and self._recent[-1].last + 1 != chunk.first:
                # A commit that failed was durable all the same: its entries are only in the store.
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
        """Wake every reader that waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def recent(self, after: int) -> list[Chunk] | None:
        """Return the chunks from sequence `after + 1` on, or None if the first of them is not in memory."""
        if not self._recent or self._recent[0].first > after + 1:
            return None
        return first_chunks(chunk for chunk in self._recent if chunk.last > after) or None

    def changed(self) -> asyncio.Future[None]:
        """Return a future that resolves with the next commit."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        # Otherwise a reader that waits again and again, without a commit between, would fill the set.
        future.add_done_callback(self._waiting.discard)
        return future


class Remote(Protocol):
    """Bring the commits of runs that other replicas have to the feeds of this one."""

    def opened(self, key: RunKey) -> None:
        """Note that a run has a feed from now on."""

    def left(self, key: RunKey) -> None:
        """Note that a run with a feed left the memory of this replica."""

    def closed(self, key: RunKey) -> None:
        """Note that a run has no feed any more."""


class Feeds:
    """Keep a feed for each run that has readers."""

    def __init__(self, store: RunStore, find: Callable[[RunKey], Awaitable[RunRecord | None]]) -> None:
        """Start without feeds. `find` looks up the committed record of a run."""
        self._store = store
        self._find = find
        self._feeds: dict[RunKey, Feed] = {}
        self._closing = False
        self.remote: Remote | None = None
        """Brings the commits of other replicas; None if there are none."""

    def committed(self, commit: Commit) -> None:
        """Pass a durable commit to the readers of its run."""
        feed = self._feeds.get(commit.record.key)
        if feed is None:
            return
        known = feed.record
        if commit.claim is None and known is not None and known.created_at != commit.record.created_at:
            self.deleted(commit.record.key)  # the feed follows an older run that had this id
        else:
            feed.push(commit)

    def received(self, commit: Commit) -> None:
        """Pass a commit that came from another replica to the readers, unless the store told of it before."""
        feed = self._feeds.get(commit.record.key)
        if feed is None:
            return
        known, record = feed.record, commit.record
        if known is not None and known.created_at != record.created_at:
            self.deleted(record.key)
        elif known is None or (record.last_sequence, record.updated_at) > (known.last_sequence, known.updated_at):
            feed.push(commit)

    def found(self, record: RunRecord) -> None:
        """Note the record of a run that is read from the store.

        The store may be ahead of the feed: a commit that failed can be durable all the same.
        """
        feed = self._feeds.get(record.key)
        known = None if feed is None else feed.record
        if feed is None or known is None:
            return
        if known.last_sequence < record.last_sequence or (
            known.last_sequence == record.last_sequence and known.status not in TERMINAL and known != record
        ):
            feed.record = record
            feed.wake()

    def trimmed(self, key: RunKey, first: int) -> None:
        """Note that the log of a run now begins at `first`. Readers behind it get SequenceOutOfRangeError."""
        feed = self._feeds.get(key)
        if feed is not None and feed.record is not None:
            feed.record.first_available = first

    def deleted(self, key: RunKey) -> None:
        """End the readers of a deleted run with RunNotFoundError; another run may get its id."""
        feed = self._feeds.pop(key, None)
        if feed is not None:
            feed.deleted = True
            feed.wake()
            if self.remote is not None:
                self.remote.closed(key)

    def undone(self, key: RunKey, end: int) -> None:
        """Note that the store has lost what it acknowledged of a run: the log ends at sequence `end`; -1: it is gone.

        Readers that are further get SequenceOutOfRangeError, also when the log has grown again meanwhile.
        """
        if end < 0:
            self.deleted(key)
            return
        feed = self._feeds.get(key)
        if feed is None or feed.record is None or feed.record.last_sequence <= end:
            return
        del self._feeds[key]
        feed.end = end
        for follower in list(feed.followers):
            follower(None)
        feed.wake()
        if self.remote is not None:
            self.remote.closed(key)

    def left(self, key: RunKey) -> None:
        """Note that a run left the memory of this process, before its end or after it."""
        if self.remote is not None and (feed := self._feeds.get(key)) is not None:
            for follower in list(feed.followers):
                follower(None)
            self.remote.left(key)

    def of(self, key: RunKey) -> Feed | None:
        """Return the feed of a run; None if it has no readers."""
        return self._feeds.get(key)

    def __iter__(self) -> Iterator[RunKey]:
        """Iterate over the runs that have readers now."""
        return iter(list(self._feeds))

    def end_all(self) -> None:
        """End every reader with DrainingError, which says where to resume."""
        self._closing = True
        for feed in self._feeds.values():
            feed.wake()

    async def open(self, key: RunKey) -> Feed:
        """Return the feed of a run for one more reader, who must `close` it.

        Raises:
            RunNotFoundError: There is no such run.
        """
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed()
            if self.remote is not None:
                self.remote.opened(key)
        feed.readers += 1
        try:
            if feed.record is None or feed.record.status in TERMINAL or self.remote is not None:
                # Commits are pushed to this feed already, so none is lost between this look and the next commit. One of
                # another replica may have been acknowledged before it comes here, so the store is asked.
                before = feed.record
                found = await self._find(key)
                if self.remote is not None and before is not None and found is not None and went_back(before, found):
                    self.undone(key, found.last_sequence)
                elif found is None:
                    self.deleted(key)
                elif feed.record is None:
                    feed.record = found
                elif self.remote is not None:
                    self.found(found)
            if feed.deleted or feed.record is None:
                raise RunNotFoundError(key.run_id)
        except BaseException:  # also a cancelled reader: the feed must not stay open for nobody
            self.close(key, feed)
            raise
        if feed.end is not None:
            self.close(key, feed)
            return await self.open(key)
        return feed

    def close(self, key: RunKey, feed: Feed) -> None:
        """End the reading of one reader."""
        feed.readers -= 1
        if feed.readers == 0 and self._feeds.get(key) is feed:
            del self._feeds[key]
            if self.remote is not None:
                self.remote.closed(key)

    def record(self, key: RunKey, feed: Feed, after: int = 0) -> RunRecord:
        """Return the last committed record of the run. `after` is where the reader would resume.

        Raises:
            RunNotFoundError: The run was deleted.
            DrainingError: The server is stopping, or the store has lost entries behind `after`.
            SequenceOutOfRangeError: It has lost entries up to `after`.
        """
        if feed.deleted or feed.record is None:
            raise RunNotFoundError(key.run_id)
        if feed.end is not None:
            if after > feed.end:
                lost = "The server's database has lost acknowledged entries up to this sequence"
                raise SequenceOutOfRangeError(lost, feed.record.first_available, feed.end)
            raise DrainingError("The log has changed; resume after this sequence", resume_sequence=after)
        if self._closing:
            raise DrainingError("The server is stopping; resume after this sequence", resume_sequence=after)
        return feed.record

    def at_hand(self, key: RunKey, feed: Feed, after: int) -> list[Chunk] | None:
        """Return what `ready` does, as far as memory holds it; None if the store must be read. Raises as `ready`."""
        record = self.record(key, feed, after)
        check_cursor(record, after)
        return [] if after == record.last_sequence else feed.recent(after)

    async def ready(self, key: RunKey, feed: Feed, after: int) -> list[Chunk]:
        """Return contiguous chunks from sequence `after + 1` on; none if the log ends at `after` now.

        The first chunk may begin before `after + 1`. Raises as `record`, and:

        Raises:
            SequenceOutOfRangeError: The log does not hold what follows `after`.
        """
        chunks = self.at_hand(key, feed, after)
        if chunks is None:
            record = self.record(key, feed, after)
            chunks = await self._store.entries(key, after)
            if not chunks or chunks[0].first > after + 1:
                fresh = await self._store.get(key)
                if fresh is None:
                    raise RunNotFoundError(key.run_id)
                check_cursor(fresh, after)  # it was trimmed just now
                raise StoreCorruptError(f"the log of a run has a gap after sequence {after}")
            # The store may be one commit ahead of this feed.
            chunks = [chunk for chunk in chunks if chunk.last <= record.last_sequence]
        return chunks

    async def read(
        self, key: RunKey, feed: Feed, after: int, *, follow: bool = True, idle: float | None = None
    ) -> AsyncIterator[list[Chunk]]:
        """Yield contiguous chunks from sequence `after + 1` on, as much as is ready at a time. Raises as `ready`.

        Args:
            key: The run.
            feed: Its feed, opened by the caller.
            after: The last sequence that the reader has.
            follow: Whether to wait for new entries until the run ends. Otherwise end where the log ends now.
            idle: Yield an empty list after each so many seconds without a commit; None never does.
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
        """Wait for a commit. Return False if none came for `idle` seconds.

        Many readers wait here, and a timer costs less memory than `asyncio.wait_for`.
        """
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


def went_back(before: RunRecord, now: RunRecord) -> bool:
    """Tell whether the store has lost entries of a run, by a record that was known before the store was asked."""
    return before.created_at == now.created_at and now.last_sequence < before.last_sequence


def check_cursor(record: RunRecord, after: int) -> None:
    """Raise SequenceOutOfRangeError unless the log can be read from `after + 1` on."""
    if after < record.first_available - 1 or after > record.last_sequence:
        raise SequenceOutOfRangeError(
            "The log does not hold what comes after this sequence", record.first_available, record.last_sequence
        )
