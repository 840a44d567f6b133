"""Read the log of a run for one stream: frames of entries, and heartbeats while there are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from stepwire.server.rpc.framer import Framer
from stepwire.server.rpc.gate.call import Call
from stepwire.server.runs.log.feed import Feed, Feeds
from stepwire.server.store import TERMINAL, Chunk, RunKey, RunRecord
from stepwire.workflow.hosting import outside, start_task

DEFAULT_INTERVAL = 15.0
"""Seconds between heartbeats, below the idle timeouts of proxies (30 s and more). Clients count on it until told."""


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
    __slots__ = (
        "_beat_at",
        "_call",
        "_chunks",
        "_feed",
        "_feeds",
        "_heartbeat",
        "_interval",
        "_key",
        "_loop",
        "_told",
        "framer",
    )

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
        self._told = False
        self._chunks: list[Chunk] = []
        self._beat_at = self._loop.time() + self._silence()
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

    def at_hand(self) -> bool:
        """Take the chunks that follow the cursor from memory. If this returns False, `load` must read the store.

        Raises:
            SequenceOutOfRangeError: The log does not hold what follows the cursor.
            RunNotFoundError, DrainingError: As `record`.
        """
        chunks = self._feeds.at_hand(self._key, self._feed, self.framer.position)
        self._chunks = chunks or []
        return chunks is not None

    async def load(self) -> AsyncIterator[Any]:
        """Read the chunks that follow the cursor from the store. Yield heartbeats meanwhile. Raises as `at_hand`."""
        reading = start_task(_caught(self._feeds.ready(self._key, self._feed, self.framer.position)))
        async for beat in self.beats_during(reading):
            yield beat
        found = reading.result()
        try:
            if isinstance(found, BaseException):
                raise found
            self._chunks = found
        finally:
            del found  # an error's traceback holds this frame

    @property
    def progress(self) -> bool:
        """Whether there are chunks to frame."""
        return bool(self._chunks)

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield the frames of the chunks that `at_hand` or `load` found, which are then gone."""
        for number, portion in enumerate(self.framer.portions(self._chunks)):
            if number:
                await asyncio.sleep(0)  # decoding a long log must not starve other calls
            slow = self.framer.is_slow(portion)
            frames = self.framer.frames(portion)
            while (frame := await asyncio.to_thread(next, frames, None) if slow else next(frames, None)) is not None:
                yield frame
                self._beat_at = self._loop.time() + self._silence()
                self._call.sequence = self.framer.sent

    def beats(self) -> Iterator[Any]:
        """Yield what is due after an interval of silence: the range that the filter emptied, or a heartbeat.

        A heartbeat says how long the interval is. Until the client knows that, it counts on the default interval.
        """
        now = self._loop.time()
        if now < self._beat_at:
            return
        rest = self.framer.rest()
        if rest is not None:
            yield rest
        if rest is None or not self._told:
            self._told = True
            yield self._heartbeat(self.framer.sent, self._interval)
        self._beat_at = now + self._interval

    async def beats_during(self, work: asyncio.Future[Any]) -> AsyncIterator[Any]:
        """Yield heartbeats until work is done, and cancel the work if the client leaves before that."""
        try:
            while not work.done():
                news: asyncio.Future[None] = self._loop.create_future()  # lighter than `asyncio.wait`
                work.add_done_callback(partial(_resolve_after, news))
                await self.wait(news)
                for beat in self.beats():
                    yield beat
        finally:
            outside(work.cancel)

    def changed(self) -> asyncio.Future[None]:
        """Return a future that resolves with the run's next commit."""
        return self._feed.changed()

    def _silence(self) -> float:
        """Return the seconds of silence until the next heartbeat."""
        return self._interval if self._told else min(self._interval, DEFAULT_INTERVAL)

    async def wait(self, news: asyncio.Future[None]) -> None:
        """Wait for a future from `changed`, or until a heartbeat is due."""
        timer = self._loop.call_at(self._beat_at, _resolve, news)
        try:
            await news
        finally:
            timer.cancel()


async def _caught(work: Coroutine[Any, Any, list[Chunk]]) -> list[Chunk] | BaseException:
    """Return what work comes to, or what it raises: out of a task, a KeyboardInterrupt would end the event loop."""
    try:
        return await work
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - the reader raises it
        return error


def _resolve_after(news: asyncio.Future[None], _: object) -> None:
    _resolve(news)


def _resolve(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)
