"""Read the log of a run for one stream: frames of entries, and heartbeats while there are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from stepwire.server.rpc.framer import Framer
from stepwire.server.rpc.gate.call import Call
from stepwire.server.runs.log.feed import Feed, Feeds
from stepwire.server.store import TERMINAL, Chunk, RunKey, RunRecord


class LogReader:
    """A cursor into the log of a run, that StreamEvents and Converse read through.

    Args:
        feeds: The feeds that `feed` was opened from.
        key: The run.
        feed: Its feed; the caller opened it and closes it.
        framer: Cuts and filters what is read. Holds the cursor.
        call: Learns up to which sequence entries were sent.
        interval: Seconds after which a silent stream sends a heartbeat.
        heartbeat: Makes the frame of a heartbeat from the sequence and the interval.
    """

    # 10,000 idle streams are usual: what each of them holds is what they cost.
    __slots__ = ("_beat_at", "_call", "_feed", "_feeds", "_heartbeat", "_interval", "_key", "_loop", "framer")

    def __init__(
        self,
        feeds: Feeds,
        key: RunKey,
        feed: Feed,
        framer: Framer,
        call: Call,
        interval: float,
        heartbeat: Callable[[int, float], Any],
    ) -> None:
        self._feeds = feeds
        self._key = key
        self._feed = feed
        self._call = call
        self._interval = interval
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._beat_at = self._loop.time() + interval
        self.framer = framer

    @property
    def record(self) -> RunRecord:
        """The run's last committed record. RunNotFoundError if the run was deleted, DrainingError."""
        return self._feeds.record(self._key, self._feed, self.framer.sent)

    @property
    def at_end(self) -> bool:
        """Whether the run has ended and its whole log was read. Raises as `record`."""
        record = self.record
        return record.status in TERMINAL and self.framer.position >= record.last_sequence

    async def ready(self) -> list[Chunk]:
        """Return the chunks that follow the cursor; none if the log ends there now.

        Raises:
            SequenceOutOfRangeError: The log does not hold what follows the cursor.
            RunNotFoundError, DrainingError: As `record`.
        """
        return await self._feeds.ready(self._key, self._feed, self.framer.position)

    async def frames(self, chunks: list[Chunk]) -> AsyncIterator[bytes]:
        """Yield the frames of chunks that `ready` returned, and empty the list."""
        for number, portion in enumerate(self.framer.portions(chunks)):
            if number:
                await asyncio.sleep(0)  # decoding a long log must not starve other calls
            for frame in self.framer.frames(portion):
                yield frame
                self._beat_at = self._loop.time() + self._interval
                self._call.sequence = self.framer.sent

    def beat(self) -> Any:
        """Return a heartbeat if one is due, else None. A range that the filter emptied is sent in its place."""
        now = self._loop.time()
        if now < self._beat_at:
            return None
        self._beat_at = now + self._interval
        return self.framer.rest() or self._heartbeat(self.framer.sent, self._interval)

    def changed(self) -> asyncio.Future[None]:
        """Return a future that resolves with the run's next commit."""
        return self._feed.changed()

    async def wait(self, news: asyncio.Future[None]) -> None:
        """Wait for a future from `changed`, or until a heartbeat is due."""
        timer = self._loop.call_at(self._beat_at, _resolve, news)
        try:
            await news
        finally:
            timer.cancel()


def _resolve(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)
